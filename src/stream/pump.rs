//! The state machine that turns an upstream's answer into the client's bytes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::active_answer::{ActiveAnswer, UpstreamAnswer};
use super::client_sink::ClientSink;
use super::deadlines::Deadlines;
use super::open_streams::OpenStreams;
use super::record::{EndedOutput, Progress};
use super::timers::CancelWaiter;
use crate::dialect::OpeningHeartbeat;
use crate::limit::MemoryReservation;
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, Request};
use crate::route::{Route, RoutedAnswer, total_timeout};
use crate::upstream::{Recycler, Trace};

/// The settings of one stream, beside its request.
#[derive(Clone)]
pub struct StreamSettings {
    pub route: Arc<Route>,
    pub metrics: Arc<Metrics>,
    pub heartbeat: Duration,
    /// The dialect's heartbeat.
    pub heartbeat_bytes: &'static [u8],
    /// Ends the stream with `draining`.
    pub shutdown: CancellationToken,
    pub recycler: Recycler,
    /// The list that the stream is in while it is open.
    pub open_streams: Arc<OpenStreams>,
    /// Whether another target may continue an answer that breaks off.
    pub may_continue: bool,
    /// Returned to the budget with the last clone of the settings: once the request is not needed any
    /// more.
    pub memory: Arc<MemoryReservation>,
}

/// Turns an upstream's answer into bytes. Polling it drives the stream; dropping it closes the
/// upstream's connection.
pub(super) struct Pump {
    state: State,
    deadlines: Deadlines,
    shutdown: CancellationToken,
    recycler: Recycler,
    /// The stream was cancelled by its owner.
    cancelled: bool,
    /// What a request to another target takes, if one may continue the answer.
    continuation: Option<Box<Continuation>>,
    /// Whether the client has its 200. From then on every failure is an event of the stream. Shared
    /// with the sink.
    response_started: Arc<AtomicBool>,
    /// Whether polling again is useless until the waker was called.
    is_waiting: bool,
    /// Set when an answer that had begun ends.
    output: Option<Box<EndedOutput>>,
}

#[derive(Clone)]
struct Continuation {
    request: Request,
    trace: Trace,
    settings: StreamSettings,
}

enum State {
    /// No target has answered yet.
    Opening(PendingOpen),
    Active(Box<ActiveAnswer>),
    /// Everything is written and settled, or never will be; with the error, if it was one.
    Ended(Option<Error>),
}

struct PendingOpen {
    future: Pin<Box<dyn Future<Output = (ClientSink, OpenOutcome)> + Send>>,
    /// Only before the first answer, and only if that is not passed on verbatim.
    heartbeat: Option<Arc<dyn OpeningHeartbeat>>,
    /// Makes the next poll end the opening as cancelled.
    cancel_opening: Arc<AtomicBool>,
}

enum OpenOutcome {
    Answer(RoutedAnswer),
    Failed(Error),
    Cancelled,
}

impl Pump {
    /// Sends nothing before the first poll.
    pub(super) fn new(
        request: Request,
        trace: Trace,
        mut sink: ClientSink,
        settings: StreamSettings,
    ) -> Self {
        let continuation = settings.may_continue.then(|| {
            sink.keep_text();
            Box::new(Continuation {
                request: request.clone(),
                trace: trace.clone(),
                settings: settings.clone(),
            })
        });
        let deadlines = Deadlines::new(settings.route.timeouts);
        let may_be_verbatim = settings.route.may_be_verbatim(&request);
        let heartbeat = (!may_be_verbatim).then(|| sink.opening_heartbeat());
        let response_started = Arc::clone(sink.response_started());
        let cancel_opening = Arc::<AtomicBool>::default();
        let (shutdown, recycler) = (settings.shutdown.clone(), settings.recycler.clone());
        let (end, cancelled_flag) = (deadlines.end, Arc::clone(&cancel_opening));
        let future = open_route(request, trace, sink, settings, end, cancelled_flag);
        Self {
            state: State::Opening(PendingOpen {
                future: Box::pin(future),
                heartbeat: heartbeat.flatten(),
                cancel_opening,
            }),
            deadlines,
            shutdown,
            recycler,
            cancelled: false,
            continuation,
            response_started,
            is_waiting: false,
            output: None,
        }
    }

    /// Continues an answer that broke off on another replica, for the reason `why`. The sink has the text
    /// so far, and its start event counts as written.
    pub(super) fn for_takeover(
        request: Request,
        sink: ClientSink,
        settings: StreamSettings,
        why: Error,
    ) -> Self {
        let (shutdown, recycler) = (settings.shutdown.clone(), settings.recycler.clone());
        let response_started = Arc::clone(sink.response_started());
        response_started.store(true, Ordering::Relaxed);
        let trace = Trace::of(sink.observation());
        let mut active = ActiveAnswer::new(sink, None);
        active.break_error = Some(Box::new(why));
        Self {
            state: State::Active(Box::new(active)),
            deadlines: Deadlines::new(settings.route.timeouts),
            shutdown,
            recycler,
            cancelled: false,
            continuation: Some(Box::new(Continuation {
                request,
                trace,
                settings,
            })),
            response_started,
            is_waiting: false,
            output: None,
        }
    }

    /// The next bytes: whole events, everything that the upstream has ready. `None` once the terminal
    /// event was given, or if the stream was refused before it began.
    pub(super) fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.is_waiting = false;
        let polled = self.poll_state(context);
        self.is_waiting |= polled.is_pending();
        polled
    }

    /// Whether polling again is useless until the waker was called.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn poll_state(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Ended(_) => return Poll::Ready(None),
                State::Opening(opening) => {
                    let (sink, outcome) = ready!(opening.future.as_mut().poll(context));
                    // The wait for the first content does not count as idle time.
                    self.deadlines.last_read = Instant::now();
                    self.state = self.handle_opened(sink, outcome);
                }
                State::Active(active) => {
                    let now = Instant::now();
                    let may_continue = self.continuation.is_some();
                    active.check(context, self.cancelled, &self.deadlines, now);
                    let read = active.read(context, &self.recycler, may_continue);
                    if read.read_any {
                        self.deadlines.last_read = now;
                    }
                    let ready = active.sink.take_ready();
                    if ready.is_none() && active.break_error.is_some() {
                        self.continue_answer();
                        continue;
                    }
                    if active.upstream.is_none() && active.break_error.is_none() {
                        self.output = Some(active.sink.record().ended_output());
                        self.state = State::Ended(active.sink.failure().cloned());
                        self.continuation = None;
                    }
                    if ready.is_some() {
                        self.is_waiting = read.drained && self.deadlines.are_awaited(now);
                        return Poll::Ready(ready);
                    }
                    if let State::Active(active) = &mut self.state {
                        let error = ready!(self.deadlines.poll(context));
                        active.break_off(error, self.continuation.is_some());
                    }
                }
            }
        }
    }

    /// The client has its 200: from here on a failure is an event.
    pub(super) fn mark_response_started(&mut self) {
        self.response_started.store(true, Ordering::Relaxed);
    }

    /// The next poll closes the upstream's connection and completes the answer as cancelled.
    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
        if let State::Opening(opening) = &self.state {
            opening.cancel_opening.store(true, Ordering::Relaxed);
        }
    }

    /// Ends a stream that has no readers any more: closes the upstream's connection and settles the
    /// stream.
    pub(super) fn abandon(&mut self) {
        if let State::Active(active) = &self.state {
            self.output = Some(active.sink.record().ended_output());
        }
        self.state = State::Ended(None);
        self.continuation = None;
    }

    /// Ends the stream here without a terminal event, so that another replica can continue it: closes the
    /// upstream's connection and settles the stream.
    pub(super) fn stop_for_takeover(&mut self, why: &Error) {
        if let State::Active(active) = &mut self.state {
            active.sink.record_failure(why);
        }
        self.state = State::Ended(None);
        self.continuation = None;
    }

    /// Ends the stream after a panic in the pump.
    pub(super) fn fail_after_panic(&mut self) {
        let error = Error::new(
            ErrorCode::Internal,
            "the gateway failed while it processed this answer",
        );
        match &mut self.state {
            State::Active(active) => active.fail(&error),
            // The sink was lost in the panic, so there is no event.
            State::Opening(_) => self.state = State::Ended(Some(error)),
            State::Ended(_) => {}
        }
    }

    /// See [`AnswerEncoder::heartbeat`](super::AnswerEncoder::heartbeat).
    pub(super) fn heartbeat(&self) -> Option<Bytes> {
        match &self.state {
            State::Active(active) => active.sink.heartbeat(),
            State::Opening(opening) => {
                let heartbeat = opening.heartbeat.as_ref()?;
                let mut events = BytesMut::new();
                heartbeat.write(&mut events);
                Some(events.freeze())
            }
            State::Ended(_) => None,
        }
    }

    /// What an answer had when it ended.
    pub(super) fn output(&self) -> Option<&EndedOutput> {
        self.output.as_deref()
    }

    /// What it has sent so far; `None` before an answer begins and after its end.
    pub(super) fn progress(&self) -> Option<Progress> {
        match &self.state {
            State::Active(active) => Some(active.sink.record().progress()),
            State::Opening(_) | State::Ended(_) => None,
        }
    }

    /// Whether a deadline may have passed, which the next poll finds. With `may_read`, that poll may read
    /// the upstream, to see whether it is silent.
    pub(super) fn may_be_overdue(&self, now: Instant, may_read: bool) -> bool {
        match &self.state {
            // Its targets have deadlines of their own.
            State::Opening(_) => true,
            State::Active(_) => self.deadlines.have_passed(now, may_read),
            State::Ended(_) => false,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Why the stream ended without its finish. `None` before it has ended.
    pub(super) fn failure(&self) -> Option<&Error> {
        match &self.state {
            State::Ended(failure) => failure.as_ref(),
            State::Opening(_) | State::Active(_) => None,
        }
    }

    /// Asks another target to continue an answer that broke off. If none can, the answer ends in its
    /// error.
    fn continue_answer(&mut self) {
        let State::Active(mut active) = std::mem::replace(&mut self.state, State::Ended(None))
        else {
            return;
        };
        let target = active.break_error.take().zip(self.continuation.as_deref());
        let target = target.and_then(|(error, continuation)| {
            let route = continuation
                .settings
                .route
                .continuation(active.sink.upstream());
            let target = route.zip(active.sink.begin_continuation());
            if target.is_none() {
                active.sink.fail(&error);
            }
            let (route, text) = target?;
            Some((error, continuation.clone(), route, text))
        });
        let Some((error, mut continuation, route, text)) = target else {
            self.state = State::Active(active);
            return;
        };
        tracing::warn!(
            code = error.code().as_str(),
            message = error.message(),
            "the answer broke off; another target is asked to continue it"
        );
        continuation.settings.route = Arc::new(route);
        let request = continuation.request.continue_after(&text);
        let cancel_opening = Arc::new(AtomicBool::new(self.cancelled));
        let (end, cancelled_flag) = (self.deadlines.end, Arc::clone(&cancel_opening));
        let future = async move {
            let opening = open_route(
                request,
                continuation.trace,
                active.sink,
                continuation.settings,
                end,
                cancelled_flag,
            );
            match opening.await {
                // The log has the reason why no target continued; the client gets the reason of the break.
                (sink, OpenOutcome::Failed(_)) => (sink, OpenOutcome::Failed(*error)),
                other => other,
            }
        };
        self.state = State::Opening(PendingOpen {
            future: Box::pin(future),
            heartbeat: None,
            cancel_opening,
        });
    }

    fn handle_opened(&self, mut sink: ClientSink, outcome: OpenOutcome) -> State {
        let upstream = match outcome {
            OpenOutcome::Answer(routed) => Some(UpstreamAnswer {
                routed,
                shutdown: CancelWaiter::new(self.shutdown.clone()),
            }),
            OpenOutcome::Failed(error)
                if !self.response_started.load(Ordering::Relaxed) && !sink.is_started() =>
            {
                sink.refuse(&error);
                return State::Ended(Some(error));
            }
            OpenOutcome::Failed(error) => {
                sink.fail(&error);
                None
            }
            OpenOutcome::Cancelled => {
                sink.cancel();
                None
            }
        };
        State::Active(Box::new(ActiveAnswer::new(sink, upstream)))
    }
}

async fn open_route(
    request: Request,
    trace: Trace,
    mut sink: ClientSink,
    settings: StreamSettings,
    end: Option<Instant>,
    cancel_opening: Arc<AtomicBool>,
) -> (ClientSink, OpenOutcome) {
    let ended = async {
        match end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    // A cancelling task always polls the pump afterwards.
    let cancelled = std::future::poll_fn(|_| match cancel_opening.load(Ordering::Relaxed) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    let route = &settings.route;
    let outcome = tokio::select! {
        biased;
        () = cancelled => OpenOutcome::Cancelled,
        () = settings.shutdown.cancelled() => OpenOutcome::Failed(Error::draining()),
        // Before `ended`, so that the targets that were asked until then count as failed.
        answer = route.open(&request, &trace, &mut sink, &settings.metrics, end) => {
            answer.map_or_else(OpenOutcome::Failed, OpenOutcome::Answer)
        }
        () = ended => OpenOutcome::Failed(total_timeout()),
    };
    if let OpenOutcome::Failed(error) = &outcome {
        // The target that was being asked, if there was one.
        trace.end_open_attempts(&error.attempt_outcome());
    }
    (sink, outcome)
}
