//! How long an upstream may be silent, and how long an answer may take.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::timers::Alarm;
use crate::model::{Error, ErrorCode};
use crate::route::Timeouts;

/// An active stream's deadlines in one timer.
pub(super) struct Deadlines {
    alarm: Alarm,
    idle: Duration,
    pub(super) last_read: Instant,
    pub(super) end: Option<Instant>,
}

impl Deadlines {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self {
            alarm: Alarm::new(now + timeouts.idle),
            idle: timeouts.idle,
            last_read: now,
            end: timeouts.total.map(|total| now + total),
        }
    }

    /// Waits until a deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let stalls = self.last_read + self.idle;
        let due = self.end.map_or(stalls, |end| end.min(stalls));
        let passed = self.alarm.poll(context, due);
        passed.map(|()| match due == stalls {
            true => stalled(self.idle),
            false => too_long(),
        })
    }

    /// Whether a deadline of an active answer has passed at `now`. The upstream may have sent something
    /// that was not read yet: only with `may_read` its silence counts.
    pub(super) fn have_passed(&self, now: Instant, may_read: bool) -> bool {
        let stalls = self.last_read + self.idle;
        (may_read && stalls <= now) || self.end.is_some_and(|end| end <= now)
    }

    /// Whether the timer is armed, so that polling can wait until something happens.
    pub(super) fn are_awaited(&self, now: Instant) -> bool {
        self.alarm.is_set(now)
    }
}

/// The error of an answer that took longer than `timeouts.total`.
pub(super) fn too_long() -> Error {
    Error::new(
        ErrorCode::StreamTooLong,
        "the answer took longer than `timeouts.total` allows",
    )
}

fn stalled(idle: Duration) -> Error {
    Error::new(
        ErrorCode::StreamStalled,
        format!("the upstream sent nothing for {idle:?} (`timeouts.idle`)"),
    )
}
