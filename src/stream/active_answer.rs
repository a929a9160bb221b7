//! An answer that has begun: reading it, and what ends it.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::client_sink::Outlet;
use super::deadlines::{Deadlines, too_long};
use super::timers::Stop;
use crate::model::{Error, ErrorCode};
use crate::upstream::{Answer, Recycler};

/// How much is encoded before it is handed over although more is there, in bytes.
const BATCH: usize = 32 * 1024;
/// How often the upstream is read before others get their turn.
const READS: usize = 16;

/// An answer that has begun.
pub(super) struct Live {
    pub(super) outlet: Outlet,
    /// `None` once the terminal event is written, or the answer broke off.
    pub(super) source: Option<Source>,
    /// Why the answer broke off, where another target may go on with it.
    pub(super) broken: Option<Box<Error>>,
}

pub(super) struct Source {
    pub(super) answer: Answer,
    /// Ends the stream with `draining`.
    pub(super) cut: Stop,
}

/// What there was to read.
pub(super) struct Read {
    pub(super) anything: bool,
    /// More wakes the task.
    pub(super) drained: bool,
}

impl Live {
    pub(super) fn new(outlet: Outlet, source: Option<Source>) -> Self {
        Self {
            outlet,
            source,
            broken: None,
        }
    }

    /// Reads everything that the upstream has ready, within a batch.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        recycler: &Recycler,
        continues: bool,
    ) -> Read {
        let mut reads = 0;
        let mut drained = false;
        while let Some(source) = &mut self.source {
            if self.outlet.ended() {
                self.close(recycler);
                break;
            }
            if self.outlet.waiting() >= BATCH {
                break;
            }
            if reads == READS {
                // There is more, but others want their turn.
                context.waker().wake_by_ref();
                break;
            }
            match source.answer.poll_read(context, &mut self.outlet) {
                Poll::Pending => {
                    drained = true;
                    break;
                }
                Poll::Ready(Ok(_)) => reads += 1,
                Poll::Ready(Err(error)) => self.break_off(error, continues),
            }
        }
        Read {
            anything: reads > 0,
            drained,
        }
    }

    /// What ends a stream whatever the upstream does.
    pub(super) fn check(
        &mut self,
        context: &mut Context<'_>,
        cancelled: bool,
        deadlines: &Deadlines,
        now: Instant,
    ) {
        let Some(source) = &mut self.source else {
            return;
        };
        if cancelled {
            source.answer.flush(&mut self.outlet);
            self.outlet.cancel();
            self.detach();
        } else if source.cut.poll(context).is_ready() {
            self.fail(&Error::draining());
        } else if deadlines.end.is_some_and(|end| end <= now) {
            self.fail(&too_long());
        }
    }

    /// The upstream's answer broke off: that is the stream's end, unless others may go on.
    pub(super) fn break_off(&mut self, error: Error, continues: bool) {
        let died = matches!(
            error.code(),
            ErrorCode::StreamInterrupted | ErrorCode::StreamStalled | ErrorCode::UpstreamError
        );
        if !(continues && died) {
            return self.fail(&error);
        }
        if let Some(source) = &mut self.source {
            source.answer.flush(&mut self.outlet);
        }
        self.detach();
        self.broken = Some(Box::new(error));
    }

    /// Ends the stream with an error and drops the upstream's connection.
    pub(super) fn fail(&mut self, error: &Error) {
        if let Some(source) = &mut self.source {
            source.answer.flush(&mut self.outlet);
        }
        self.outlet.fail(error);
        self.detach();
    }

    fn detach(&mut self) -> Option<Answer> {
        let answer = self.source.take()?.answer;
        self.outlet.repaired(answer.repaired_lines());
        Some(answer)
    }

    /// The terminal event was written.
    fn close(&mut self, recycler: &Recycler) {
        if let Some(answer) = self.detach() {
            recycler.take(answer);
        }
    }
}
