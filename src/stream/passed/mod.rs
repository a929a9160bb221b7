//! An answer that reaches the client as the upstream wrote it, without a log and without events of the
//! gateway: embeddings, images, audio, legacy completions. Its body reads the upstream as the client
//! reads it.
//!
//! | file | does |
//! |---|---|
//! | `events` | reads server-sent events, and whether the last one has come |
//! | `usage` | finds the usage in a JSON document that passes by |

mod events;
mod usage;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::deadlines::Deadlines;
use super::record::StreamRecord;
use super::timers::{Alarm, CancelWaiter};
use crate::dialect::{Dialect, stream_headers};
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, FinishReason, RequestId};
use crate::route::{Route, TrackedAttempt};
use crate::upstream::exchange::Body as Source;
use crate::upstream::{PassedRequest, PassedStart, Recycler, Trace};
use events::EventReader;
use usage::UsageScanner;

/// What an answer that is passed on needs beside its request.
pub struct PassSettings {
    pub shutdown: CancellationToken,
    pub recycler: Recycler,
    pub heartbeat: Duration,
    /// The largest event, in bytes.
    pub frame_cap: usize,
    /// Whether the answer is text that a model generates, so that its bytes are counted where the usage
    /// is missing.
    pub is_text: bool,
    /// Whether the client asked for a stream.
    pub is_streamed: bool,
    /// In whose form an error ends a stream of events.
    pub dialect: &'static dyn Dialect,
    pub request_id: RequestId,
}

/// An answer that has begun.
pub struct PassedAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: PassedBody,
}

/// The body of an answer that is passed on. Dropping it closes the upstream's connection.
pub struct PassedBody {
    /// `None` once the answer has ended.
    source: Option<Source>,
    content: Content,
    /// What the client gets next.
    out: BytesMut,
    /// Why the body breaks off after that.
    broken: Option<Error>,
    deadlines: Deadlines,
    shutdown: CancelWaiter,
    heartbeat: Alarm,
    last_write: Instant,
    settings: PassSettings,
    record: StreamRecord,
    attempt: TrackedAttempt,
}

enum Content {
    Events(Box<EventReader>),
    Json(UsageScanner),
    Other,
}

/// Passes a request to the targets of `route` and waits for the first bytes of an answer.
///
/// # Errors
/// Why no target answers.
pub async fn pass(
    route: &Route,
    request: &PassedRequest<'_>,
    trace: &Trace,
    metrics: &Metrics,
    mut record: StreamRecord,
    settings: PassSettings,
) -> Result<PassedAnswer, Error> {
    let begun = Instant::now();
    let passed = route.pass(request, trace, metrics);
    let passed = tokio::select! {
        passed = within_total(passed, route.timeouts.total) => passed,
        () = settings.shutdown.cancelled() => Err(Error::draining()),
    };
    let (target, start, attempt) = match passed {
        Ok(started) => started,
        Err(error) => {
            trace.end_open_attempts(&error.attempt_outcome());
            record.set_failed(&error);
            return Err(error);
        }
    };
    record.set_upstream(&target.upstream.name);
    let mut deadlines = Deadlines::new(route.timeouts);
    deadlines.end = route.timeouts.total.map(|total| begun + total);
    Ok(PassedAnswer::new(
        start, deadlines, settings, record, attempt,
    ))
}

async fn within_total<T>(
    passed: impl Future<Output = Result<T, Error>>,
    total: Option<Duration>,
) -> Result<T, Error> {
    let Some(total) = total else {
        return passed.await;
    };
    let late = || {
        let problem = format!("the upstreams sent nothing within {total:?} (timeouts.total)");
        Error::new(ErrorCode::UpstreamTimeout, problem)
    };
    timeout(total, passed).await.unwrap_or_else(|_| Err(late()))
}

impl PassedAnswer {
    fn new(
        start: PassedStart,
        deadlines: Deadlines,
        settings: PassSettings,
        record: StreamRecord,
        attempt: TrackedAttempt,
    ) -> Self {
        let (content, mut headers) = content(&start, &settings);
        // The gateway's own limits replace those of the same name.
        headers.extend(start.rate_limits);
        let now = Instant::now();
        let mut body = PassedBody {
            source: start.rest,
            content,
            out: BytesMut::new(),
            broken: None,
            deadlines,
            shutdown: CancelWaiter::new(settings.shutdown.clone()),
            heartbeat: Alarm::new(now + settings.heartbeat),
            last_write: now,
            settings,
            record,
            attempt,
        };
        body.take(&start.first, body.source.is_none());
        Self {
            status: start.status,
            headers,
            body,
        }
    }
}

/// What the answer is, and the headers of the client's response.
fn content(start: &PassedStart, settings: &PassSettings) -> (Content, HeaderMap) {
    let kind = start.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let first = start.first.trim_ascii_start();
    let is_document = first.starts_with(b"{");
    let begins_event = [&b"data:"[..], b"event:", b"id:", b":"]
        .iter()
        .any(|field| first.starts_with(field));
    if !is_document
        && (kind.starts_with("text/event-stream") || (settings.is_streamed && begins_event))
    {
        let events = EventReader::new(settings.frame_cap);
        return (Content::Events(Box::new(events)), stream_headers());
    }
    let kept = [CONTENT_TYPE, CONTENT_DISPOSITION].into_iter();
    let kept = kept.filter_map(|name| Some((name.clone(), start.headers.get(name)?.clone())));
    let mut headers: HeaderMap = kept.collect();
    if is_document || kind.contains("json") {
        // A document may come under the name of a stream.
        if !kind.contains("json") {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        return (Content::Json(UsageScanner::default()), headers);
    }
    (Content::Other, headers)
}

impl PassedBody {
    /// Takes bytes of the upstream; `ended` with the last ones.
    fn take(&mut self, bytes: &[u8], ended: bool) {
        self.deadlines.last_read = Instant::now();
        let read = match &mut self.content {
            Content::Events(events) => {
                let mut read = events.push(bytes, &mut self.out);
                if read.is_ok() && ended && !events.is_done() {
                    read = events.end(&mut self.out);
                }
                self.record.add_content_bytes(events.take_text());
                self.record.set_usage(events.usage());
                read.map(|()| ended || events.is_done())
            }
            Content::Json(scanner) => {
                scanner.push(bytes);
                self.out.put_slice(bytes);
                if self.settings.is_text {
                    self.record.add_content_bytes(bytes.len());
                }
                if ended {
                    self.record.set_usage(scanner.usage());
                }
                Ok(ended)
            }
            Content::Other => {
                self.out.put_slice(bytes);
                Ok(ended)
            }
        };
        match read {
            Ok(true) => self.complete(),
            Ok(false) => {}
            Err(error) => self.fail(error),
        }
    }

    /// The upstream's answer is whole.
    fn complete(&mut self) {
        if let Some(source) = self.source.take() {
            self.settings.recycler.recycle_body(source);
        }
        let failure = match &self.content {
            Content::Events(events) => events.failure(),
            Content::Json(_) | Content::Other => None,
        };
        self.attempt.record_end(failure.as_ref());
        match failure {
            Some(error) => self.record.set_failed(&error),
            None => self.record.set_completed(FinishReason::Stop),
        }
    }

    /// The answer breaks off: a stream of events ends in an error event, anything else without its end.
    fn fail(&mut self, error: Error) {
        self.source = None;
        self.attempt.record_end(Some(&error));
        self.record.set_failed(&error);
        if let Content::Events(_) = self.content {
            let PassSettings {
                dialect,
                request_id,
                ..
            } = &self.settings;
            self.out.put_slice(b"data: ");
            self.out.put_slice(&dialect.refusal(&error, request_id));
            self.out.put_slice(b"\n\n");
        } else {
            self.broken = Some(error);
        }
    }

    /// Reads what the upstream has ready, once. Pending where the upstream or a deadline will wake the
    /// task.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.shutdown.poll(context).is_ready() {
            self.fail(Error::draining());
            return Poll::Ready(());
        }
        let Some(source) = &mut self.source else {
            return Poll::Ready(());
        };
        let mut bytes = Vec::new();
        match source.poll_read(context, |piece| bytes.extend_from_slice(piece)) {
            Poll::Ready(Ok(ended)) => {
                self.take(&bytes, ended);
                return Poll::Ready(());
            }
            Poll::Ready(Err(error)) => {
                self.take(&bytes, false);
                if self.source.is_some() {
                    let problem = "the connection to the upstream broke before its answer ended";
                    self.fail(Error::interrupted(problem).with_source(error));
                }
                return Poll::Ready(());
            }
            Poll::Pending => {}
        }
        if let Poll::Ready(error) = self.deadlines.poll(context) {
            self.fail(error);
            return Poll::Ready(());
        }
        self.poll_heartbeat(context)
    }

    fn poll_heartbeat(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = self.last_write + self.settings.heartbeat;
        if let Content::Events(_) = self.content
            && self.heartbeat.poll(context, due).is_ready()
        {
            self.out.put_slice(self.settings.dialect.heartbeat());
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl http_body::Body for PassedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if !self.out.is_empty() {
                self.last_write = Instant::now();
                let bytes = self.out.split().freeze();
                self.record.add_written_bytes(bytes.len());
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(error) = self.broken.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if self.source.is_none() {
                return Poll::Ready(None);
            }
            ready!(self.read(context));
        }
    }

    /// The length of an answer that came as a whole with its first bytes.
    fn size_hint(&self) -> SizeHint {
        match self.source.is_none() && self.broken.is_none() {
            true => SizeHint::with_exact(self.out.len() as u64),
            false => SizeHint::default(),
        }
    }
}
