//! How long an upstream may be silent, and how long an answer may take.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::model::{Error, ErrorCode};
use crate::route::Timeouts;

/// A live stream's deadlines in one timer. The timer is not touched for every token: it fires when
/// something may be due, and is set again if nothing is.
pub(super) struct Deadlines {
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    pub(super) last_read: Instant,
    pub(super) end: Option<Instant>,
}

impl Deadlines {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(tokio::time::sleep_until(now + timeouts.idle)),
            idle: timeouts.idle,
            last_read: now,
            end: timeouts.total.map(|total| now + total),
        }
    }

    /// Waits until a deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, mut now: Instant) -> Poll<Error> {
        loop {
            let mut next = self.last_read + self.idle;
            if next <= now {
                return Poll::Ready(stalled(self.idle));
            }
            if let Some(end) = self.end {
                if end <= now {
                    return Poll::Ready(too_long());
                }
                next = next.min(end);
            }
            if self.timer.deadline() > next || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(context));
            now = Instant::now();
        }
    }
}

/// The answer took longer than it may.
pub(super) fn too_long() -> Error {
    Error::new(
        ErrorCode::StreamTooLong,
        "the answer took longer than it may",
    )
}

fn stalled(idle: Duration) -> Error {
    Error::new(
        ErrorCode::StreamStalled,
        format!("the upstream was silent for {idle:?}"),
    )
}
