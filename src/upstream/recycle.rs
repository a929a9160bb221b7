//! Reads a finished answer's last bytes, so that its connection can be used again.

use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio_util::task::TaskTracker;

use super::Answer;

/// How long the last bytes may take; then the connection is closed instead.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many bytes may come behind an answer's end.
const TRAILING: usize = 64 * 1024;

/// Owns the short tasks that read finished answers to their end.
#[derive(Debug, Clone, Default)]
pub struct Recycler {
    tasks: TaskTracker,
}

impl Recycler {
    /// Reads what is left of a finished answer in the background: mostly the end of its chunked
    /// body, which came with the terminal event or comes right behind it.
    pub fn take(&self, answer: Answer) {
        let mut rest = answer.into_rest();
        if rest.is_end_stream() {
            return;
        }
        let read = async move {
            let mut bytes = 0;
            while let Some(Ok(frame)) = rest.frame().await {
                bytes += frame.data_ref().map_or(0, |data| data.len());
                if bytes > TRAILING {
                    break;
                }
            }
        };
        // A connection that is not done in time is closed with its task.
        self.tasks.spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, read).await;
        });
    }
}
