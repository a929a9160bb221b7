//! An answer while it is read: its bytes become events.

use std::task::{Context, Poll, ready};

use http::HeaderMap;
use secrecy::SecretString;

use super::exchange::Body;
use super::ingest::Ingest;
use super::long_work::run_long_work;
use super::restore_names::RestoreNames;
use super::scrub::scrub;
use crate::model::{Error, ErrorCode, Sink};
use crate::wire::ToolNames;

/// An answer whose status was good and whose events are still to be read. Dropping it closes the
/// connection.
pub struct Answer {
    pub(super) body: Body,
    pub(super) ingest: Ingest,
    /// The headers in which the upstream states its rate limits.
    pub(super) rate_limits: HeaderMap,
    /// The tools whose names were changed in the request.
    pub(super) names: ToolNames,
    pub(super) secrets: Vec<SecretString>,
    /// The error that ended the answer, if it was found in the same read as its last events.
    pub(super) failure: Option<Box<Error>>,
}

impl Answer {
    /// Reads what the upstream has ready, once, and hands its events to `sink`. `true` means that
    /// the answer finished: its finish event was handed over.
    ///
    /// # Errors
    /// Why the answer failed. The error is returned by the call after the one that handed over the
    /// last events. The answer must not be read after it.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut dyn Sink,
    ) -> Poll<Result<bool, Error>> {
        run_long_work(self.ingest.held_bytes(), || {
            if self.names.is_empty() {
                return self.poll_events(context, sink);
            }
            let names = std::mem::take(&mut self.names);
            let polled = self.poll_events(context, &mut RestoreNames::new(&names, sink));
            self.names = names;
            polled
        })
    }

    fn poll_events(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut dyn Sink,
    ) -> Poll<Result<bool, Error>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(*error));
        }
        let ingest = &mut self.ingest;
        let mut pushed = Ok(());
        let read = ready!(self.body.poll_read(context, |bytes| {
            if pushed.is_ok() {
                pushed = ingest.push(bytes, sink);
            }
        }));
        let read = match read {
            _ if pushed.is_err() || ingest.is_finished() => pushed,
            Ok(false) => Ok(()),
            Ok(true) => ingest.end(sink),
            Err(error) => {
                ingest.flush(sink);
                Err(Error::new(
                    ErrorCode::StreamInterrupted,
                    "the connection to the upstream broke before its answer ended",
                )
                .with_source(error))
            }
        };
        if let Err(error) = read {
            let error = error.map_message(|text| scrub(text, &self.secrets));
            self.failure = Some(Box::new(error));
        }
        Poll::Ready(Ok(self.ingest.is_finished()))
    }

    /// The headers in which the upstream states its rate limits.
    pub fn take_rate_limits(&mut self) -> HeaderMap {
        std::mem::take(&mut self.rate_limits)
    }

    /// Hands the events that the decoder holds back to `sink`, because the caller gives the answer
    /// up. An answer that failed has already done so.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        self.ingest.flush(&mut RestoreNames::new(&self.names, sink));
    }

    /// How many lines had invalid UTF-8 that was replaced by U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        self.ingest.repaired_lines()
    }

    /// How many frames were left out because they were no JSON.
    pub fn skipped_frames(&self) -> u64 {
        self.ingest.skipped_frames()
    }

    /// The rest of a finished answer's body, to be read to its end so that the connection can be
    /// reused.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}
