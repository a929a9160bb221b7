//! An answer that has begun: reading it, and waiting for the rest of a burst.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::deadlines::{Deadlines, too_long};
use super::outlet::Outlet;
use crate::model::{Error, ErrorCode};
use crate::upstream::{Answer, Recycler};

/// How much is encoded before it is handed over although more is there, in bytes.
const BATCH: usize = 32 * 1024;
/// How often a write waits for the connection to the upstream to hand over what it has already
/// read: it does so one chunk at a time, each after this task has let others run. There is no timer
/// in it; a turn that brings nothing new ends the waiting.
const YIELDS: u8 = 16;
/// How many writes at most do not wait after one that waited in vain, as every token of a model at
/// work would.
const LONGEST_PAUSE: u8 = 31;
/// How many of the upstream's chunks are read before others get their turn.
const CHUNKS: usize = 64;

/// An answer that has begun.
pub(super) struct Live {
    pub(super) outlet: Outlet,
    /// `None` once the terminal event is written, or the answer broke off.
    pub(super) source: Option<Source>,
    /// Why the answer broke off, where another target may go on with it.
    pub(super) broken: Option<Error>,
    waited: Waited,
}

/// How a write has waited so far, and what the writes before it gained by that.
#[derive(Default)]
struct Waited {
    times: u8,
    /// How many bytes were there the last time.
    bytes: usize,
    /// A poll since then has brought nothing new.
    polled: bool,
    /// How many writes do not wait after one that waits in vain.
    pause: u8,
    /// How many of them are still to come.
    left: u8,
}

pub(super) struct Source {
    pub(super) answer: Answer,
    /// Ends the stream with `draining`.
    pub(super) cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Live {
    pub(super) fn new(outlet: Outlet, source: Option<Source>) -> Self {
        Self {
            outlet,
            source,
            broken: None,
            waited: Waited::default(),
        }
    }

    /// Reads everything that the upstream has ready, within a batch; says whether that was anything.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        recycler: &Recycler,
        continues: bool,
    ) -> bool {
        let mut chunks = 0;
        while let Some(source) = &mut self.source {
            if self.outlet.ended() {
                self.close(recycler);
                break;
            }
            if self.outlet.waiting() >= BATCH {
                break;
            }
            if chunks == CHUNKS {
                // There is more, but others want their turn.
                context.waker().wake_by_ref();
                break;
            }
            match source.answer.poll_read(context, &mut self.outlet) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => chunks += 1,
                Poll::Ready(Err(error)) => self.break_off(error, continues),
            }
        }
        chunks > 0
    }

    /// Whether to let others run before what is there is written.
    pub(super) fn waits(&mut self) -> bool {
        let bytes = self.outlet.waiting();
        let waited = &mut self.waited;
        let more = self.source.is_some() && bytes < BATCH && waited.left == 0;
        if more && bytes > waited.bytes && waited.times < YIELDS {
            waited.times += 1;
            waited.bytes = bytes;
            waited.polled = false;
            return true;
        }
        // hyper polls a body twice in a turn, so that nobody else has run before the second time.
        if more && waited.times > 0 && !waited.polled {
            waited.polled = true;
            return true;
        }
        if bytes > 0 {
            waited.wrote(bytes);
        }
        false
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
            source.answer.broken(&mut self.outlet);
            self.outlet.cancel();
            self.detach();
        } else if source.cut.as_mut().poll(context).is_ready() {
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
            source.answer.broken(&mut self.outlet);
        }
        self.detach();
        self.broken = Some(error);
    }

    /// Ends the stream with an error and drops the upstream's connection.
    pub(super) fn fail(&mut self, error: &Error) {
        if let Some(source) = &mut self.source {
            source.answer.broken(&mut self.outlet);
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

impl Waited {
    fn wrote(&mut self, bytes: usize) {
        if self.left > 0 {
            self.left -= 1;
        } else if self.times == 1 && self.bytes == bytes {
            self.pause = (2 * self.pause + 1).min(LONGEST_PAUSE);
            self.left = self.pause;
        } else {
            self.pause = 0;
        }
        (self.times, self.bytes, self.polled) = (0, 0, false);
    }
}
