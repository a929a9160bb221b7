//! Clients that read a stream, and how a stream is opened.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::background;
use super::client_sink::ClientSink;
use super::pump::{Pump, StreamSettings};
use super::readers::ReaderPermit;
use super::state::{StartPosition, ViewerId};
use super::stream::{ReadOutcome, Retention, Stream};
use super::timers::Alarm;
use crate::dialect::native::log_codec;
use crate::model::{Error, ErrorCode, EventId, Ordinal, Request};
use crate::upstream::Trace;

/// Reads one stream from a position. When its last reader is dropped, a stream runs on for its window,
/// or ends at once if it has none.
pub struct Reader {
    stream: Arc<Stream>,
    id: ViewerId,
    position: u64,
    finished: bool,
    /// The ordinal of the event before the first that it reads.
    seen: Option<Ordinal>,
    /// The ordinal of the last event that the client has, if this replica does not have it.
    client_ahead: Option<Ordinal>,
    /// The bytes that it read last, if the stream is kept.
    last: Bytes,
    _permit: Option<ReaderPermit>,
}

/// A client's HTTP body: what a [`Reader`] reads, and heartbeats.
pub struct Viewer {
    reader: Reader,
    heartbeat: Heartbeat,
}

/// Why a reader gets no more events, although its stream has not ended for all readers.
#[derive(Debug, Clone, PartialEq)]
pub struct Disconnected {
    /// The last event that it has. The error event has no id of its own: a client that came back with one
    /// could skip the events that it missed.
    pub seen: Option<EventId>,
    /// The error for the client.
    pub error: Error,
}

/// Where a client that comes back continues.
pub enum JoinOutcome {
    Reader(Reader),
    /// The client has all events.
    UpToDate,
    /// The events that it lacks were dropped.
    Gone,
    /// It names an event that the stream has not sent.
    UnknownEvent,
}

/// Opens the route and waits for its first content, but not longer than one heartbeat. After that the
/// response begins anyway, and later failures are events of the stream.
///
/// The stream begins with the call, so that the future holds the stream and not all that it is made from.
///
/// # Errors
/// Why no target answers, if that is known before the response began.
pub fn open(
    request: Request,
    trace: Trace,
    sink: ClientSink,
    settings: StreamSettings,
    retention: Option<Retention>,
) -> impl Future<Output = Result<Viewer, Error>> + Send {
    let heartbeat = Heartbeat::new(settings.heartbeat, settings.heartbeat_bytes);
    let period = settings.heartbeat;
    let reader = Reader::new(begin_stream(request, trace, sink, settings, retention));
    async move {
        let stream = &reader.stream;
        let first = poll_fn(|context| stream.poll_ready(context, reader.id, 0));
        // The response has begun, so a later failure is an event.
        if tokio::time::timeout(period, first).await.is_err() {
            stream.mark_response_started();
        }
        match stream.failure_before_start() {
            Some(error) => Err(error),
            None => Ok(Viewer::new(reader, heartbeat)),
        }
    }
}

/// Opens a stream without a viewer. It runs to its end unless a viewer comes and leaves.
pub fn open_in_background(
    request: Request,
    trace: Trace,
    sink: ClientSink,
    settings: StreamSettings,
    retention: Retention,
) {
    let stream = begin_stream(request, trace, sink, settings, Some(retention));
    stream.mark_response_started();
    stream.disclose_id();
    background::spawn(stream, None);
}

/// Waits for the whole answer, for clients that do not want a stream. The sink must have a
/// [content limit](ClientSink::limit_content), since its encoder keeps the whole answer.
///
/// # Errors
/// Every end other than a finish; the client gets no part of the answer then.
pub fn collect(
    request: Request,
    trace: Trace,
    sink: ClientSink,
    settings: StreamSettings,
) -> impl Future<Output = Result<Bytes, Error>> + Send {
    let mut reader = Reader::new(begin_stream(request, trace, sink, settings, None));
    async move {
        let mut whole = BytesMut::new();
        while let Some(Ok(bytes)) = poll_fn(|context| reader.poll_bytes(context)).await {
            whole.extend_from_slice(&bytes);
        }
        match reader.stream.failure() {
            Some(error) => Err(error),
            None => Ok(whole.freeze()),
        }
    }
}

fn begin_stream(
    request: Request,
    trace: Trace,
    sink: ClientSink,
    settings: StreamSettings,
    retention: Option<Retention>,
) -> Arc<Stream> {
    let labels = sink.record().labels();
    let (id, dialect) = (labels.stream, labels.dialect);
    let (model, key) = (labels.model.clone(), labels.key.clone());
    let open_streams = Arc::clone(&settings.open_streams);
    let pump = Pump::new(request, trace, sink, settings);
    let stream = Arc::new(Stream::new(pump, retention));
    open_streams.add(&stream, id, dialect, model, key);
    if let Some(retention) = stream.retention() {
        for observer in retention.observers() {
            observer.begin(&stream, retention);
        }
    }
    stream
}

impl Reader {
    /// A reader of `stream` after the event at `seen`, or from the first event.
    pub fn join(stream: &Arc<Stream>, seen: Option<Ordinal>, permit: ReaderPermit) -> JoinOutcome {
        // Counted as a viewer first, so that the stream is not abandoned meanwhile.
        let mut reader = Self::new(Arc::clone(stream));
        reader._permit = Some(permit);
        reader.seen = seen;
        let (position, client_ahead) = match stream.start_position(seen) {
            StartPosition::At(position) => (position, None),
            StartPosition::Ahead(position) => (position, seen),
            StartPosition::Complete => return JoinOutcome::UpToDate,
            StartPosition::Gone => return JoinOutcome::Gone,
            StartPosition::UnknownEvent => return JoinOutcome::UnknownEvent,
        };
        reader.position = position;
        reader.client_ahead = client_ahead;
        JoinOutcome::Reader(reader)
    }

    /// The next bytes: whole events. `None` after the last one.
    pub fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Disconnected>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        loop {
            let found = ready!(self.stream.poll_read(context, self.id, self.position));
            let error = match found {
                ReadOutcome::Bytes(bytes) => {
                    self.position += bytes.len() as u64;
                    match self.skip_seen(bytes) {
                        Ok(bytes) if bytes.is_empty() => continue,
                        Ok(bytes) => {
                            if self.stream.is_readable() {
                                self.last = bytes.clone();
                            }
                            return Poll::Ready(Some(Ok(bytes)));
                        }
                        Err(error) => error,
                    }
                }
                ReadOutcome::End => {
                    self.finished = true;
                    return Poll::Ready(None);
                }
                ReadOutcome::Dropped => Error::new(
                    ErrorCode::Gone,
                    "this client read too slowly: the next events have been dropped from the buffer",
                ),
                ReadOutcome::Disconnected(error) => error,
            };
            self.finished = true;
            return Poll::Ready(Some(Err(self.disconnected(error))));
        }
    }

    /// The part of `bytes` that the client does not have. An error that ends the stream before the client's
    /// position is for this client too.
    ///
    /// # Errors
    /// If the stream continued differently from what this client has.
    fn skip_seen(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        let Some(client_ahead) = self.client_ahead else {
            return Ok(bytes);
        };
        let mut unseen = BytesMut::new();
        for event in log_codec::parse_events(&bytes) {
            let Ordinal { epoch, number } = event.ordinal;
            if number > client_ahead.number {
                self.client_ahead = None;
                unseen.extend_from_slice(event.bytes);
            } else if epoch <= client_ahead.epoch || event.name == "start" {
                // The client has it, or another producer's event with the same number.
            } else if event.name == "error" {
                let number = client_ahead.next().number;
                let ordinal = Ordinal { epoch, number };
                unseen.extend_from_slice(&log_codec::with_ordinal(&event, ordinal));
            } else {
                let error = "the last events that this client received were lost with their replica, and the stream continued differently";
                return Err(Error::interrupted(error));
            }
        }
        Ok(unseen.freeze())
    }

    fn new(stream: Arc<Stream>) -> Self {
        Self {
            id: stream.add_viewer(),
            stream,
            position: 0,
            finished: false,
            seen: None,
            client_ahead: None,
            last: Bytes::new(),
            _permit: None,
        }
    }

    fn disconnected(&self, error: Error) -> Disconnected {
        let read = log_codec::last_event(&self.last).map(|event| event.ordinal);
        let seen = self.stream.id().zip(read.or(self.seen));
        Disconnected {
            seen: seen.map(|(stream, ordinal)| EventId { stream, ordinal }),
            error,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.stream.remove_viewer(self.id, self.position) {
            background::last_viewer_left(&self.stream);
        }
    }
}

impl Viewer {
    pub fn new(reader: Reader, heartbeat: Heartbeat) -> Self {
        Self { reader, heartbeat }
    }
}

impl Body for Viewer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let bytes = match this.reader.poll_bytes(context) {
            Poll::Ready(read) => {
                this.heartbeat.reset();
                read.map(|read| {
                    read.unwrap_or_else(|disconnected| {
                        log_codec::error_event(disconnected.seen, &disconnected.error)
                    })
                })
            }
            Poll::Pending => {
                let bytes = ready!(this.heartbeat.poll(context));
                Some(this.reader.stream.heartbeat().unwrap_or(bytes))
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A heartbeat after every period without a write.
pub struct Heartbeat {
    alarm: Alarm,
    period: Duration,
    bytes: &'static [u8],
    last_write: Instant,
}

impl Heartbeat {
    pub fn new(period: Duration, bytes: &'static [u8]) -> Self {
        let now = Instant::now();
        Self {
            alarm: Alarm::new(now + period),
            period,
            bytes,
            last_write: now,
        }
    }

    /// Something else was written.
    pub fn reset(&mut self) {
        self.last_write = Instant::now();
    }

    /// The heartbeat, once it is due.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let due = self.last_write + self.period;
        ready!(self.alarm.poll(context, due));
        self.reset();
        Poll::Ready(Bytes::from_static(self.bytes))
    }
}
