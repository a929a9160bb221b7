//! Reads the last bytes of finished answers, so that their connections can be reused.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Answer;
use super::exchange::Body;

/// How long the last bytes may take. After that the connection is closed.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How many bytes may follow the finish of an answer.
const MAX_TRAILING_BYTES: usize = 64 * 1024;

/// Owns the tasks that read finished answers to their end.
#[derive(Debug, Clone, Default)]
pub struct Recycler {
    tasks: TaskTracker,
}

impl Recycler {
    /// Reads the rest of a finished answer. Usually this is the end of its chunked body, which
    /// arrived with the terminal event. If it has not arrived yet, a task waits for it.
    pub fn recycle(&self, answer: Answer) {
        self.recycle_body(answer.into_body());
    }

    /// Reads the rest of the body of a finished answer.
    pub fn recycle_body(&self, mut body: Body) {
        let mut remaining = MAX_TRAILING_BYTES;
        let mut context = Context::from_waker(Waker::noop());
        if poll_to_end(&mut body, &mut remaining, &mut context).is_ready() {
            return;
        }
        // On a timeout the task drops the body, which closes the connection.
        self.tasks.spawn(async move {
            let read = poll_fn(|context| poll_to_end(&mut body, &mut remaining, context));
            let _ = tokio::time::timeout(TIMEOUT, read).await;
        });
    }
}

/// Reads a body until it ends or has more than `remaining` bytes.
fn poll_to_end(body: &mut Body, remaining: &mut usize, context: &mut Context<'_>) -> Poll<()> {
    loop {
        let mut bytes = 0;
        let read = ready!(body.poll_read(context, |content| bytes += content.len()));
        if bytes > *remaining || read.unwrap_or(true) {
            return Poll::Ready(());
        }
        *remaining -= bytes;
    }
}
