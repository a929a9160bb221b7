//! An answer that has begun: reads it, and decides what ends it.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::client_sink::ClientSink;
use super::deadlines::{Deadlines, too_long};
use super::timers::CancelWaiter;
use crate::model::{Error, ErrorCode};
use crate::route::RoutedAnswer;
use crate::upstream::Recycler;

/// How many encoded bytes one poll gathers before it hands them over, even if the upstream has more.
const BATCH_BYTES: usize = 32 * 1024;
/// How often one poll reads the upstream before other tasks get their turn.
const MAX_READS: usize = 16;

/// An answer that has begun.
pub(super) struct ActiveAnswer {
    pub(super) sink: ClientSink,
    /// `None` once the terminal event is written or the answer has broken off.
    pub(super) upstream: Option<UpstreamAnswer>,
    /// Why the answer broke off, if another target may continue it.
    pub(super) break_error: Option<Box<Error>>,
}

pub(super) struct UpstreamAnswer {
    pub(super) routed: RoutedAnswer,
    /// Ends the stream with `draining`.
    pub(super) shutdown: CancelWaiter,
}

/// What one call of [`ActiveAnswer::read`] found.
pub(super) struct ReadResult {
    pub(super) read_any: bool,
    /// The upstream has nothing more now; it wakes the task when it has.
    pub(super) drained: bool,
}

impl ActiveAnswer {
    pub(super) fn new(sink: ClientSink, upstream: Option<UpstreamAnswer>) -> Self {
        Self {
            sink,
            upstream,
            break_error: None,
        }
    }

    /// Reads everything that the upstream has ready, up to one batch.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        recycler: &Recycler,
        may_continue: bool,
    ) -> ReadResult {
        let mut reads = 0;
        let mut drained = false;
        while let Some(upstream) = &mut self.upstream {
            if self.sink.is_ended() {
                self.close(recycler);
                break;
            }
            if self.sink.buffered_bytes() >= BATCH_BYTES {
                break;
            }
            if reads == MAX_READS {
                // There is more to read, but other tasks get their turn first.
                context.waker().wake_by_ref();
                break;
            }
            match upstream.routed.answer.poll_read(context, &mut self.sink) {
                Poll::Pending => {
                    drained = true;
                    break;
                }
                Poll::Ready(Ok(_)) => reads += 1,
                Poll::Ready(Err(error)) => self.break_off(error, may_continue),
            }
        }
        ReadResult {
            read_any: reads > 0,
            drained,
        }
    }

    /// Ends the stream if it was cancelled, drained, or has passed its total deadline.
    pub(super) fn check(
        &mut self,
        context: &mut Context<'_>,
        cancelled: bool,
        deadlines: &Deadlines,
        now: Instant,
    ) {
        let Some(upstream) = &mut self.upstream else {
            return;
        };
        if cancelled {
            upstream.routed.answer.flush(&mut self.sink);
            self.sink.cancel();
            self.detach();
        } else if upstream.shutdown.poll(context).is_ready() {
            self.fail(&Error::draining());
        } else if deadlines.end.is_some_and(|end| end <= now) {
            self.fail(&too_long());
        }
    }

    /// The upstream's answer broke off. That ends the stream, unless another target may continue it.
    pub(super) fn break_off(&mut self, error: Error, may_continue: bool) {
        let can_be_continued = matches!(
            error.code(),
            ErrorCode::StreamInterrupted | ErrorCode::StreamStalled | ErrorCode::UpstreamError
        );
        if !(may_continue && can_be_continued) {
            return self.fail(&error);
        }
        if let Some(upstream) = &mut self.upstream {
            upstream.routed.answer.flush(&mut self.sink);
            upstream.routed.record_end(Some(&error));
        }
        self.sink.record_break(&error);
        self.detach();
        self.break_error = Some(Box::new(error));
    }

    /// Ends the stream with an error and drops the upstream's connection.
    pub(super) fn fail(&mut self, error: &Error) {
        if let Some(upstream) = &mut self.upstream {
            upstream.routed.answer.flush(&mut self.sink);
            upstream.routed.record_end(Some(error));
        }
        self.sink.fail(error);
        self.detach();
    }

    fn detach(&mut self) -> Option<RoutedAnswer> {
        let routed = self.upstream.take()?.routed;
        let answer = &routed.answer;
        self.sink.record_repaired_lines(answer.repaired_lines());
        self.sink.record_skipped_frames(answer.skipped_frames());
        Some(routed)
    }

    /// Hands the answer to the recycler after its terminal event.
    fn close(&mut self, recycler: &Recycler) {
        if let Some(mut routed) = self.detach() {
            routed.record_end(self.sink.failure());
            recycler.recycle(*routed.answer);
        }
    }
}
