//! The state machine that turns an upstream's answer into the client's bytes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::active_answer::{Live, Source};
use super::client_sink::Outlet;
use super::deadlines::{Deadlines, too_long};
use super::timers::Stop;
use crate::limit::MemoryReservation;
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, Request};
use crate::route::Route;
use crate::upstream::{Answer, Recycler, Trace};

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
    /// Whether another target goes on with an answer that breaks off.
    pub continues: bool,
    /// Returned to the budget with the last clone of the conditions: once the request is not
    /// needed any more.
    pub memory: Arc<MemoryReservation>,
}

/// Upstream to bytes. Whoever polls it drives the stream; dropping it closes the upstream's
/// connection.
pub(super) struct Pump {
    state: State,
    deadlines: Deadlines,
    cut: CancellationToken,
    recycler: Recycler,
    /// Somebody who may do so has cancelled the answer.
    cancelled: bool,
    /// What it takes to ask again, where another target may go on.
    again: Option<Box<Again>>,
    /// Whether the client has its 200: then every failure is told in the stream.
    answered: bool,
    /// Whether polling it again brings nothing before its waker was called.
    waits: bool,
}

#[derive(Clone)]
struct Again {
    request: Request,
    trace: Trace,
    conditions: Conditions,
}

enum State {
    /// No target has answered yet.
    Opening(Opening),
    Live(Box<Live>),
    /// Everything is written and settled, or nothing ever will be; with the failure, if it was one.
    Ended(Option<Error>),
}

struct Opening {
    asking: Pin<Box<dyn Future<Output = (Outlet, Opened)> + Send>>,
    /// Ends it at its next poll.
    stop: Arc<AtomicBool>,
}

enum Opened {
    Answer(Box<Answer>),
    Failed(Error),
    Cancelled,
}

impl Pump {
    /// Nothing is asked before the first poll.
    pub(super) fn new(
        request: Request,
        trace: Trace,
        mut outlet: Outlet,
        conditions: Conditions,
    ) -> Self {
        let again = conditions.continues.then(|| {
            outlet.keep_text();
            Box::new(Again {
                request: request.clone(),
                trace: trace.clone(),
                conditions: conditions.clone(),
            })
        });
        let deadlines = Deadlines::new(conditions.route.timeouts);
        let stop = Arc::<AtomicBool>::default();
        let (cut, recycler) = (conditions.cut.clone(), conditions.recycler.clone());
        let (end, stopped) = (deadlines.end, Arc::clone(&stop));
        let asking = opened(request, trace, outlet, conditions, end, stopped);
        Self {
            state: State::Opening(Opening {
                asking: Box::pin(asking),
                stop,
            }),
            deadlines,
            cut,
            recycler,
            cancelled: false,
            again,
            answered: false,
            waits: false,
        }
    }

    /// Goes on with an answer that broke off elsewhere, for the reason `why`. The outlet knows what
    /// was said, and that its start was.
    pub(super) fn taking_over(
        request: Request,
        outlet: Outlet,
        conditions: Conditions,
        why: Error,
    ) -> Self {
        let (cut, recycler) = (conditions.cut.clone(), conditions.recycler.clone());
        let mut live = Live::new(outlet, None);
        live.broken = Some(Box::new(why));
        Self {
            state: State::Live(Box::new(live)),
            deadlines: Deadlines::new(conditions.route.timeouts),
            cut,
            recycler,
            cancelled: false,
            again: Some(Box::new(Again {
                request,
                trace: Trace::default(),
                conditions,
            })),
            answered: true,
            waits: false,
        }
    }

    /// The next bytes: whole events, everything that the upstream has ready. `None` once the
    /// terminal event was given, or where the stream was refused before it began.
    pub(super) fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.waits = false;
        let polled = self.poll_state(context);
        self.waits |= polled.is_pending();
        polled
    }

    /// Whether polling it again brings nothing before its waker was called.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    fn poll_state(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Ended(_) => return Poll::Ready(None),
                State::Opening(opening) => {
                    let (outlet, opened) = ready!(opening.asking.as_mut().poll(context));
                    // Waiting for the first content was no idling.
                    self.deadlines.last_read = Instant::now();
                    self.state = self.opened(outlet, opened);
                }
                State::Live(live) => {
                    let now = Instant::now();
                    let continues = self.again.is_some();
                    live.check(context, self.cancelled, &self.deadlines, now);
                    let read = live.read(context, &self.recycler, continues);
                    if read.anything {
                        self.deadlines.last_read = now;
                    }
                    let ready = live.outlet.take_ready();
                    if ready.is_none() && live.broken.is_some() {
                        self.go_on();
                        continue;
                    }
                    if live.source.is_none() && live.broken.is_none() {
                        self.state = State::Ended(live.outlet.failure().cloned());
                    }
                    if ready.is_some() {
                        self.waits = read.drained && self.deadlines.are_awaited(now);
                        return Poll::Ready(ready);
                    }
                    if let State::Live(live) = &mut self.state {
                        let error = ready!(self.deadlines.poll(context));
                        live.break_off(error, self.again.is_some());
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
        self.cancelled = true;
        if let State::Opening(opening) = &self.state {
            opening.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Ends a stream that nobody can read any more: closes the upstream's connection and settles
    /// what there is to settle.
    pub(super) fn abandon(&mut self) {
        self.state = State::Ended(None);
    }

    /// Ends the stream here, unsaid, so that another replica can go on with it: closes the upstream's
    /// connection and settles what there is to settle.
    pub(super) fn give_up(&mut self, why: &Error) {
        if let State::Live(live) = &mut self.state {
            live.outlet.give_up(why);
        }
        self.state = State::Ended(None);
    }

    /// Ends the stream because of a fault of its own.
    pub(super) fn break_down(&mut self) {
        let error = Error::new(ErrorCode::Internal, "the gateway failed at this answer");
        match &mut self.state {
            State::Live(live) => live.fail(&error),
            // What it would be told with went down with it.
            State::Opening(_) => self.state = State::Ended(Some(error)),
            State::Ended(_) => {}
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

    /// Asks others to go on with an answer that broke off; where nobody can, it ends in its error.
    fn go_on(&mut self) {
        let State::Live(mut live) = std::mem::replace(&mut self.state, State::Ended(None)) else {
            return;
        };
        let asked = live.broken.take().zip(self.again.as_deref());
        let asked = asked.and_then(|(error, again)| {
            let route = again.conditions.route.going_on(live.outlet.upstream());
            let asked = route.zip(live.outlet.go_on());
            if asked.is_none() {
                live.outlet.fail(&error);
            }
            let (route, text) = asked?;
            Some((error, again.clone(), route, text))
        });
        let Some((error, mut again, route, text)) = asked else {
            self.state = State::Live(live);
            return;
        };
        tracing::warn!(
            code = error.code().as_str(),
            message = error.message(),
            "another target is asked to go on"
        );
        again.conditions.route = Arc::new(route);
        let request = again.request.continue_after(&text);
        let stop = Arc::new(AtomicBool::new(self.cancelled));
        let (end, stopped) = (self.deadlines.end, Arc::clone(&stop));
        let asking = async move {
            let going_on = opened(
                request,
                again.trace,
                live.outlet,
                again.conditions,
                end,
                stopped,
            );
            match going_on.await {
                // Why nobody goes on is told to the operator; the client is told what broke.
                (outlet, Opened::Failed(_)) => (outlet, Opened::Failed(*error)),
                gone_on => gone_on,
            }
        };
        self.state = State::Opening(Opening {
            asking: Box::pin(asking),
            stop,
        });
    }

    fn opened(&self, mut outlet: Outlet, opened: Opened) -> State {
        let source = match opened {
            Opened::Answer(answer) => Some(Source {
                answer: *answer,
                cut: Stop::new(self.cut.clone()),
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
        State::Live(Box::new(Live::new(outlet, source)))
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
            answer.map_or_else(Opened::Failed, |answer| Opened::Answer(Box::new(answer)))
        }
    };
    (outlet, opened)
}
