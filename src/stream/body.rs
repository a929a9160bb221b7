//! The state machine that a client's HTTP body polls.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::outlet::Outlet;
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, Request};
use crate::route::Route;
use crate::upstream::{Answer, Recycler, Trace};

/// How much is encoded before it is handed over although more is there, in bytes.
const BATCH: usize = 32 * 1024;
/// How often a write waits for the connection to the upstream to hand over what it has already
/// read: it does so one chunk at a time, each after this task has let others run. There is no timer
/// in it; a poll that brings nothing new ends the waiting.
const YIELDS: u8 = 4;
/// How many of the upstream's chunks are read before others get their turn.
const CHUNKS: usize = 64;

/// Everything that governs one stream beside its request.
#[derive(Clone)]
pub struct Conditions {
    pub route: Arc<Route>,
    pub metrics: Arc<Metrics>,
    pub heartbeat: Duration,
    /// The dialect's sign of life.
    pub beat: &'static [u8],
    /// Ends the stream with `draining`.
    pub cut: CancellationToken,
    pub recycler: Recycler,
}

/// A streamed answer's body. Dropping it closes the upstream's connection.
pub struct StreamBody {
    state: State,
    clock: Clock,
    beat: &'static [u8],
    cut: CancellationToken,
    recycler: Recycler,
    /// Why the stream ended without its finish; known once it is closed.
    failure: Option<Error>,
}

enum State {
    /// No target has answered yet.
    Opening(Opening),
    Live(Box<Live>),
    Closed,
}

type Opening = Pin<Box<dyn Future<Output = (Outlet, Result<Answer, Error>)> + Send>>;

struct Live {
    outlet: Outlet,
    /// `None` once the terminal event is written.
    source: Option<Source>,
    /// How many bytes waited when the task last let others run, and how often it did.
    yielded: (usize, u8),
}

struct Source {
    answer: Answer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
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
) -> Result<StreamBody, Error> {
    let clock = Clock::new(&conditions);
    let heartbeat = conditions.heartbeat;
    let mut body = StreamBody {
        state: State::Closed,
        clock,
        beat: conditions.beat,
        cut: conditions.cut.clone(),
        recycler: conditions.recycler.clone(),
        failure: None,
    };
    let end = body.clock.end;
    let mut opening: Opening = Box::pin(answered(request, trace, outlet, conditions, end));
    let opened = tokio::time::timeout(heartbeat, &mut opening).await;
    // Waiting for the first content was no idling.
    body.clock.read();
    body.state = match opened {
        Err(_) => State::Opening(opening),
        Ok((outlet, Err(error))) if !outlet.committed() => {
            outlet.refuse(&error);
            return Err(error);
        }
        Ok((outlet, opened)) => State::Live(Box::new(body.live(outlet, opened))),
    };
    Ok(body)
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
    let clock = Clock::new(&conditions);
    let end = clock.end;
    let mut body = StreamBody {
        clock,
        // Nobody listens yet.
        beat: b"",
        cut: conditions.cut.clone(),
        recycler: conditions.recycler.clone(),
        state: State::Opening(Box::pin(answered(request, trace, outlet, conditions, end))),
        failure: None,
    };
    let mut whole = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data() {
            whole.extend_from_slice(&bytes);
        }
    }
    match body.failure {
        Some(error) => Err(error),
        None => Ok(whole.freeze()),
    }
}

async fn answered(
    request: Request,
    trace: Trace,
    mut outlet: Outlet,
    conditions: Conditions,
    end: Option<Instant>,
) -> (Outlet, Result<Answer, Error>) {
    let ended = async {
        match end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    let route = &conditions.route;
    let answer = tokio::select! {
        biased;
        () = conditions.cut.cancelled() => Err(Error::draining()),
        () = ended => Err(too_long()),
        answer = route.open(&request, &trace, &mut outlet, &conditions.metrics) => answer,
    };
    (outlet, answer)
}

impl StreamBody {
    fn live(&self, mut outlet: Outlet, opened: Result<Answer, Error>) -> Live {
        let source = match opened {
            Ok(answer) => Some(Source {
                answer,
                cut: Box::pin(self.cut.clone().cancelled_owned()),
            }),
            Err(error) => {
                outlet.fail(&error);
                None
            }
        };
        Live {
            outlet,
            source,
            yielded: (0, 0),
        }
    }
}

impl Live {
    /// Reads everything that the upstream has ready, within a batch.
    fn read(&mut self, context: &mut Context<'_>, clock: &mut Clock, recycler: &Recycler) {
        for _ in 0..CHUNKS {
            let Some(source) = &mut self.source else {
                return;
            };
            if self.outlet.ended() {
                return self.close(recycler);
            }
            if self.outlet.waiting() >= BATCH {
                return;
            }
            match source.answer.poll_read(context, &mut self.outlet) {
                Poll::Pending => return,
                Poll::Ready(Ok(_)) => clock.read(),
                Poll::Ready(Err(error)) => return self.fail(&error),
            }
        }
        // There is more, but others want their turn.
        context.waker().wake_by_ref();
    }

    /// Whether to let others run before what waits is written.
    fn yields(&mut self) -> bool {
        let (before, times) = self.yielded;
        let waiting = self.outlet.waiting();
        let worth = waiting > before && waiting < BATCH && times < YIELDS && self.source.is_some();
        self.yielded = if worth { (waiting, times + 1) } else { (0, 0) };
        worth
    }

    /// The deadlines that hold whatever the upstream does.
    fn check(&mut self, context: &mut Context<'_>, clock: &Clock) {
        let Some(source) = &mut self.source else {
            return;
        };
        if source.cut.as_mut().poll(context).is_ready() {
            self.fail(&Error::draining());
        } else if clock.end.is_some_and(|end| end <= Instant::now()) {
            self.fail(&too_long());
        }
    }

    /// Ends the stream with an error and drops the upstream's connection.
    fn fail(&mut self, error: &Error) {
        if let Some(source) = &mut self.source {
            source.answer.broken(&mut self.outlet);
        }
        self.outlet.fail(error);
        if let Some(source) = self.source.take() {
            self.outlet.repaired(source.answer.repaired_lines());
        }
    }

    /// The terminal event was written.
    fn close(&mut self, recycler: &Recycler) {
        if let Some(source) = self.source.take() {
            self.outlet.repaired(source.answer.repaired_lines());
            recycler.take(source.answer);
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Closed => return Poll::Ready(None),
                State::Opening(opening) => {
                    if let Poll::Ready((outlet, opened)) = opening.as_mut().poll(context) {
                        this.state = State::Live(Box::new(this.live(outlet, opened)));
                        this.clock.read();
                        continue;
                    }
                    ready!(this.clock.poll(context, false));
                    this.clock.wrote();
                    return data(Bytes::from_static(this.beat));
                }
                State::Live(live) => {
                    live.check(context, &this.clock);
                    live.read(context, &mut this.clock, &this.recycler);
                    if live.yields() {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if let Some(bytes) = live.outlet.take_ready() {
                        this.clock.wrote();
                        return data(bytes);
                    }
                    if live.source.is_none() {
                        this.failure = live.outlet.failure().cloned();
                        this.state = State::Closed;
                        continue;
                    }
                    match ready!(this.clock.poll(context, true)) {
                        Due::Idle => live.fail(&stalled(this.clock.idle)),
                        Due::End => live.fail(&too_long()),
                        Due::Heartbeat => {
                            this.clock.wrote();
                            return data(Bytes::from_static(this.beat));
                        }
                    }
                }
            }
        }
    }
}

fn data(bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
    Poll::Ready(Some(Ok(Frame::data(bytes))))
}

fn too_long() -> Error {
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

/// A stream's heartbeat and deadlines in one timer. The timer is not touched for every token: it
/// fires when something may be due, and is set again if nothing is.
struct Clock {
    timer: Pin<Box<Sleep>>,
    heartbeat: Duration,
    idle: Duration,
    last_write: Instant,
    last_read: Instant,
    end: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Heartbeat,
    Idle,
    End,
}

impl Clock {
    fn new(conditions: &Conditions) -> Self {
        let now = Instant::now();
        let timeouts = conditions.route.timeouts;
        Self {
            timer: Box::pin(tokio::time::sleep_until(now + conditions.heartbeat)),
            heartbeat: conditions.heartbeat,
            idle: timeouts.idle,
            last_write: now,
            last_read: now,
            end: timeouts.total.map(|total| now + total),
        }
    }

    fn wrote(&mut self) {
        self.last_write = Instant::now();
    }

    fn read(&mut self) {
        self.last_read = Instant::now();
    }

    /// Waits until something is due. Silence of the upstream counts only where it is `live`.
    fn poll(&mut self, context: &mut Context<'_>, live: bool) -> Poll<Due> {
        loop {
            let now = Instant::now();
            let mut next = self.last_write + self.heartbeat;
            if next <= now {
                return Poll::Ready(Due::Heartbeat);
            }
            if live {
                let idle = self.last_read + self.idle;
                if idle <= now {
                    return Poll::Ready(Due::Idle);
                }
                next = next.min(idle);
                if let Some(end) = self.end {
                    if end <= now {
                        return Poll::Ready(Due::End);
                    }
                    next = next.min(end);
                }
            }
            if self.timer.deadline() > next || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(context));
        }
    }
}
