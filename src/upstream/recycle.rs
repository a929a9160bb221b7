//! Reads a finished answer's last bytes, so that its connection can be used again.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Answer;
use super::exchange::Body;

/// How long the last bytes may take; then the connection is closed instead.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How many bytes may come behind an answer's end.
const MAX_TRAILING_BYTES: usize = 64 * 1024;

/// Owns the short tasks that read finished answers to their end.
#[derive(Debug, Clone, Default)]
pub struct Recycler {
    tasks: TaskTracker,
}

impl Recycler {
    /// Reads what is left of a finished answer: mostly the end of its chunked body, which came with
    /// the terminal event and is there already. What is not is waited for in the background.
    pub fn recycle(&self, answer: Answer) {
        let mut body = answer.into_body();
        let mut remaining = MAX_TRAILING_BYTES;
        let mut context = Context::from_waker(Waker::noop());
        if poll_to_end(&mut body, &mut remaining, &mut context).is_ready() {
            return;
        }
        // A connection that is not done in time is closed with its task.
        self.tasks.spawn(async move {
            let read = poll_fn(|context| poll_to_end(&mut body, &mut remaining, context));
            let _ = tokio::time::timeout(TIMEOUT, read).await;
        });
    }
}

/// Reads a body to its end, or until there were more than `remaining` bytes.
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
