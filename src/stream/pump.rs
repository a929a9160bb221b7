//! The state machine that turns an upstream's answer into the client's bytes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::outlet::Outlet;
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, Request};
use crate::route::{Route, Timeouts};
use crate::upstream::{Answer, Recycler, Trace};

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

/// Upstream to bytes. Whoever polls it drives the stream; dropping it closes the upstream's
/// connection.
pub(super) struct Pump {
    state: State,
    deadlines: Deadlines,
    cut: CancellationToken,
    recycler: Recycler,
    cancelled: Arc<AtomicBool>,
    /// Whether the client has its 200: then every failure is told in the stream.
    answered: bool,
}

enum State {
    /// No target has answered yet.
    Opening(Opening),
    Live(Box<Live>),
    /// Everything is written and settled, or nothing ever will be; with the failure, if it was one.
    Ended(Option<Error>),
}

type Opening = Pin<Box<dyn Future<Output = (Outlet, Opened)> + Send>>;

enum Opened {
    Answer(Answer),
    Failed(Error),
    Cancelled,
}

struct Live {
    outlet: Outlet,
    /// `None` once the terminal event is written.
    source: Option<Source>,
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

struct Source {
    answer: Answer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Pump {
    /// Nothing is asked before the first poll.
    pub(super) fn new(
        request: Request,
        trace: Trace,
        outlet: Outlet,
        conditions: Conditions,
    ) -> Self {
        let deadlines = Deadlines::new(conditions.route.timeouts);
        let cancelled = Arc::new(AtomicBool::new(false));
        let (cut, recycler) = (conditions.cut.clone(), conditions.recycler.clone());
        let (end, stop) = (deadlines.end, Arc::clone(&cancelled));
        let opening = opened(request, trace, outlet, conditions, end, stop);
        Self {
            state: State::Opening(Box::pin(opening)),
            deadlines,
            cut,
            recycler,
            cancelled,
            answered: false,
        }
    }

    /// The next bytes: whole events, everything that the upstream has ready. `None` once the
    /// terminal event was given, or where the stream was refused before it began.
    pub(super) fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Ended(_) => return Poll::Ready(None),
                State::Opening(opening) => {
                    let (outlet, opened) = ready!(opening.as_mut().poll(context));
                    // Waiting for the first content was no idling.
                    self.deadlines.last_read = Instant::now();
                    self.state = self.opened(outlet, opened);
                }
                State::Live(live) => {
                    let now = Instant::now();
                    let cancelled = self.cancelled.load(Ordering::Relaxed);
                    live.check(context, cancelled, &self.deadlines, now);
                    if live.read(context, &self.recycler) {
                        self.deadlines.last_read = now;
                    }
                    if live.waits() {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let ready = live.outlet.take_ready();
                    if live.source.is_none() {
                        self.state = State::Ended(live.outlet.failure().cloned());
                    }
                    if ready.is_some() {
                        return Poll::Ready(ready);
                    }
                    if let State::Live(live) = &mut self.state {
                        let error = ready!(self.deadlines.poll(context, now));
                        live.fail(&error);
                    }
                }
            }
        }
    }

    /// From here on a failure is an event, for the client has its 200.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// The next poll closes the upstream's connection and completes the answer as cancelled.
    pub(super) fn cancel(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Ends a stream that nobody can read any more: closes the upstream's connection and settles
    /// what there is to settle.
    pub(super) fn abandon(&mut self) {
        self.state = State::Ended(None);
    }

    /// Ends the stream because of a fault of its own.
    pub(super) fn break_down(&mut self) {
        if let State::Live(live) = &mut self.state {
            live.fail(&Error::new(
                ErrorCode::Internal,
                "the gateway failed at this answer",
            ));
        }
    }

    pub(super) fn ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Why the stream ended without its finish; known once it has ended.
    pub(super) fn failure(&self) -> Option<&Error> {
        match &self.state {
            State::Ended(failure) => failure.as_ref(),
            State::Opening(_) | State::Live(_) => None,
        }
    }

    fn opened(&self, mut outlet: Outlet, opened: Opened) -> State {
        let source = match opened {
            Opened::Answer(answer) => Some(Source {
                answer,
                cut: Box::pin(self.cut.clone().cancelled_owned()),
            }),
            Opened::Failed(error) if !self.answered && !outlet.committed() => {
                outlet.refuse(&error);
                return State::Ended(Some(error));
            }
            Opened::Failed(error) => {
                outlet.fail(&error);
                None
            }
            Opened::Cancelled => {
                outlet.cancel();
                None
            }
        };
        State::Live(Box::new(Live {
            outlet,
            source,
            waited: Waited::default(),
        }))
    }
}

async fn opened(
    request: Request,
    trace: Trace,
    mut outlet: Outlet,
    conditions: Conditions,
    end: Option<Instant>,
    stop: Arc<AtomicBool>,
) -> (Outlet, Opened) {
    let ended = async {
        match end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    // Whoever cancels polls afterwards.
    let cancelled = std::future::poll_fn(|_| match stop.load(Ordering::Relaxed) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    let route = &conditions.route;
    let opened = tokio::select! {
        biased;
        () = cancelled => Opened::Cancelled,
        () = conditions.cut.cancelled() => Opened::Failed(Error::draining()),
        () = ended => Opened::Failed(too_long()),
        answer = route.open(&request, &trace, &mut outlet, &conditions.metrics) => {
            answer.map_or_else(Opened::Failed, Opened::Answer)
        }
    };
    (outlet, opened)
}

impl Live {
    /// Reads everything that the upstream has ready, within a batch; says whether that was anything.
    fn read(&mut self, context: &mut Context<'_>, recycler: &Recycler) -> bool {
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
                Poll::Ready(Err(error)) => self.fail(&error),
            }
        }
        chunks > 0
    }

    /// Whether to let others run before what is there is written.
    fn waits(&mut self) -> bool {
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
    fn check(
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

    /// Ends the stream with an error and drops the upstream's connection.
    fn fail(&mut self, error: &Error) {
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

/// A live stream's deadlines in one timer. The timer is not touched for every token: it fires when
/// something may be due, and is set again if nothing is.
struct Deadlines {
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    last_read: Instant,
    end: Option<Instant>,
}

impl Deadlines {
    fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(tokio::time::sleep_until(now + timeouts.idle)),
            idle: timeouts.idle,
            last_read: now,
            end: timeouts.total.map(|total| now + total),
        }
    }

    /// Waits until a deadline has passed.
    fn poll(&mut self, context: &mut Context<'_>, mut now: Instant) -> Poll<Error> {
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
