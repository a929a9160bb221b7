//! One client's reading of a stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::background as alone;
use super::client_sink::Outlet;
use super::pump::{Conditions, Pump};
use super::registry::Seat;
use super::state::{Start, ViewerId};
use super::stream::{Found, Keeping, Stream};
use super::timers::Alarm;
use crate::dialect::native;
use crate::model::{Error, ErrorCode, EventId, Ordinal, Request};
use crate::upstream::Trace;

/// Reads one stream from a position on. Once its last reader is dropped, a stream goes on for its
/// window, or ends at once where it has none.
pub struct Reader {
    stream: Arc<Stream>,
    id: ViewerId,
    position: u64,
    over: bool,
    /// The place of the event before the first that it reads.
    seen: Option<Ordinal>,
    /// The place of the last event that the client has, where that is more than is known here.
    ahead: Option<Ordinal>,
    /// What it read last, where the stream is kept.
    last: Bytes,
    _seat: Option<Seat>,
}

/// A client's HTTP body: what a [`Reader`] reads, and signs of life.
pub struct Viewer {
    reader: Reader,
    heartbeat: Heartbeat,
}

/// Why a reader is told nothing more, although its stream has not ended for everybody.
#[derive(Debug, Clone, PartialEq)]
pub struct CutOff {
    /// The last event that it has. What it is told bears no id of its own: a client that came back
    /// with one could skip what it missed.
    pub seen: Option<EventId>,
    /// What the client is told.
    pub why: Error,
}

/// Where a client that comes back goes on.
pub enum Return {
    Reader(Reader),
    /// The client has everything.
    Complete,
    /// What it lacks is not kept any more.
    Gone,
    /// It names an event that the stream has not sent.
    Ahead,
}

/// Asks the route for an answer and waits for its first content, but for no longer than a
/// heartbeat: then the stream begins all the same, and what comes of it is told in the stream.
///
/// # Errors
/// Why nobody answers, if that is known before the stream began.
pub async fn open(
    request: Request,
    trace: Trace,
    outlet: Outlet,
    conditions: Conditions,
    keeping: Option<Keeping>,
) -> Result<Viewer, Error> {
    let heartbeat = Heartbeat::new(conditions.heartbeat, conditions.beat);
    let period = conditions.heartbeat;
    let reader = Reader::new(begin(request, trace, outlet, conditions, keeping));
    let stream = &reader.stream;
    let first = poll_fn(|context| stream.poll_ready(context, reader.id, 0));
    // What fails behind the first sign of life is told in the stream.
    if tokio::time::timeout(period, first).await.is_err() {
        stream.answered();
    }
    match stream.refusal() {
        Some(error) => Err(error),
        None => Ok(Viewer::new(reader, heartbeat)),
    }
}

/// Begins a stream that nobody views yet. It runs to its end unless a viewer comes and leaves.
pub fn begin_alone(
    request: Request,
    trace: Trace,
    outlet: Outlet,
    conditions: Conditions,
    keeping: Keeping,
) {
    let stream = begin(request, trace, outlet, conditions, Some(keeping));
    stream.answered();
    stream.announce();
    alone::run(stream, None);
}

/// Waits for the whole answer, for clients that do not want a stream. The outlet must be
/// [bounded](Outlet::bound), since its encoder keeps all of it.
///
/// # Errors
/// Whatever ends the answer but its own finish; nothing of it is given then.
pub async fn collect(
    request: Request,
    trace: Trace,
    outlet: Outlet,
    conditions: Conditions,
) -> Result<Bytes, Error> {
    let mut reader = Reader::new(begin(request, trace, outlet, conditions, None));
    let mut whole = BytesMut::new();
    while let Some(Ok(bytes)) = poll_fn(|context| reader.poll_bytes(context)).await {
        whole.extend_from_slice(&bytes);
    }
    match reader.stream.failure() {
        Some(error) => Err(error),
        None => Ok(whole.freeze()),
    }
}

fn begin(
    request: Request,
    trace: Trace,
    outlet: Outlet,
    conditions: Conditions,
    keeping: Option<Keeping>,
) -> Arc<Stream> {
    let pump = Pump::new(request, trace, outlet, conditions);
    let stream = Arc::new(Stream::new(pump, keeping));
    if let Some(keeping) = stream.keeping() {
        keeping.registry.began(&stream, keeping);
        if let Some(replicas) = keeping.shared() {
            replicas.began(keeping);
        }
    }
    stream
}

impl Reader {
    /// A reader of `stream` from behind the event at `seen`, or from the first event.
    pub fn join(stream: &Arc<Stream>, seen: Option<Ordinal>, seat: Seat) -> Return {
        // Before the questions, so that the stream does not end in between for want of viewers.
        let mut reader = Self::new(Arc::clone(stream));
        reader._seat = Some(seat);
        reader.seen = seen;
        let (position, ahead) = match stream.start(seen) {
            Start::At(position) => (position, None),
            Start::Ahead(position) => (position, seen),
            Start::Complete => return Return::Complete,
            Start::Gone => return Return::Gone,
            Start::Unsaid => return Return::Ahead,
        };
        reader.position = position;
        reader.ahead = ahead;
        Return::Reader(reader)
    }

    /// The next bytes: whole events. `None` behind the last one.
    pub fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutOff>>> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            let found = ready!(self.stream.poll_read(context, self.id, self.position));
            let why = match found {
                Found::Bytes(bytes) => {
                    self.position += bytes.len() as u64;
                    match self.unseen(bytes) {
                        Ok(bytes) if bytes.is_empty() => continue,
                        Ok(bytes) => {
                            if self.stream.can_be_read() {
                                self.last = bytes.clone();
                            }
                            return Poll::Ready(Some(Ok(bytes)));
                        }
                        Err(why) => why,
                    }
                }
                Found::End => {
                    self.over = true;
                    return Poll::Ready(None);
                }
                Found::Dropped => Error::new(
                    ErrorCode::Gone,
                    "this reader fell behind what is kept of the stream",
                ),
                Found::CutOff(why) => why,
            };
            self.over = true;
            return Poll::Ready(Some(Err(self.cut_off(why))));
        }
    }

    /// What the client does not have of `bytes`. An error that ends the stream short of what the
    /// client has is for it too.
    ///
    /// # Errors
    /// Where the stream went on otherwise than this client was told.
    fn unseen(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        let Some(ahead) = self.ahead else {
            return Ok(bytes);
        };
        let mut unseen = BytesMut::new();
        for told in native::told(&bytes) {
            let Ordinal { epoch, number } = told.ordinal;
            if number > ahead.number {
                self.ahead = None;
                unseen.extend_from_slice(told.bytes);
            } else if epoch <= ahead.epoch || told.name == "start" {
                // The client has it, or another replica's word for it.
            } else if told.name == "error" {
                let number = ahead.next().number;
                let ordinal = Ordinal { epoch, number };
                unseen.extend_from_slice(&native::renumbered(&told, ordinal));
            } else {
                let why =
                    "what came last was lost with its replica, and the stream went on otherwise";
                return Err(Error::interrupted(why));
            }
        }
        Ok(unseen.freeze())
    }

    fn new(stream: Arc<Stream>) -> Self {
        Self {
            id: stream.enter(),
            stream,
            position: 0,
            over: false,
            seen: None,
            ahead: None,
            last: Bytes::new(),
            _seat: None,
        }
    }

    fn cut_off(&self, why: Error) -> CutOff {
        let read = native::last_told(&self.last).map(|told| told.ordinal);
        let seen = self.stream.id().zip(read.or(self.seen));
        CutOff {
            seen: seen.map(|(stream, ordinal)| EventId { stream, ordinal }),
            why,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.stream.leave(self.id) {
            alone::left(&self.stream);
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
                this.heartbeat.wrote();
                read.map(|read| read.unwrap_or_else(|cut| native::error(cut.seen, &cut.why)))
            }
            Poll::Pending => Some(ready!(this.heartbeat.poll(context))),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A sign of life after every period in which nothing was written.
pub struct Heartbeat {
    alarm: Alarm,
    period: Duration,
    beat: &'static [u8],
    last_write: Instant,
}

impl Heartbeat {
    pub fn new(period: Duration, beat: &'static [u8]) -> Self {
        let now = Instant::now();
        Self {
            alarm: Alarm::new(now + period),
            period,
            beat,
            last_write: now,
        }
    }

    pub(super) fn wrote(&mut self) {
        self.last_write = Instant::now();
    }

    /// The sign, once it is due.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let due = self.last_write + self.period;
        ready!(self.alarm.poll(context, due));
        self.wrote();
        Poll::Ready(Bytes::from_static(self.beat))
    }
}
