//! Tries one target after another until the first content commits the answer to one.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::attempt::{Attempt, AttemptDeadlines, now};
use super::policy::{Plan, Step};
use super::{Receiver, Route, RoutedAnswer};
use crate::limit::Estimate;
use crate::metrics::{Affinity, HedgeWinner, Metrics};
use crate::model::{Error, ErrorCode, Request};
use crate::upstream::Trace;

impl Route {
    /// Tries the targets in the order of the model's policy and returns the answer whose first content
    /// `receiver` got. That answer may already be finished.
    ///
    /// A request that was sent and not answered is never sent again to the same target. Nothing is sent
    /// after `end`.
    ///
    /// # Errors
    /// The last target's error, before `receiver` got anything; if every target was rate limited, that, with
    /// the longest wait that one asked for.
    pub async fn open(
        &self,
        request: &Request,
        trace: &Trace,
        receiver: &mut dyn Receiver,
        metrics: &Metrics,
        end: Option<Instant>,
    ) -> Result<RoutedAnswer, Error> {
        let mut opening = Opening {
            route: self,
            end,
            request,
            trace,
            metrics,
            plan: self.begin_plan(now()),
            accepts_untagged: self.accepts_untagged_signatures(request),
            failure: None,
        };
        while let Some(place) = self.next_target(&mut opening.plan, trace).await {
            opening.record_start(place);
            let Some(attempt) = opening.begin(place)? else {
                continue;
            };
            match opening.run(place, attempt, receiver).await {
                Ok(Some((place, answer))) => {
                    self.record_affinity(&opening.plan, place, metrics);
                    return Ok(answer);
                }
                // Nothing would come in time.
                Ok(None) if end.is_some_and(|end| end <= Instant::now()) => break,
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Err(opening.failure.unwrap_or_else(no_target))
    }

    /// The next target to ask, after the pause before it. `None` if none is left.
    pub(super) async fn next_target(&self, plan: &mut Plan, trace: &Trace) -> Option<usize> {
        loop {
            match self.next_step(plan, now()) {
                Step::Ask(place) => return Some(place),
                Step::PassOver(place, why) => {
                    let target = &self.targets[place];
                    trace.pass_over(&target.upstream.name, &target.model, why.as_str());
                }
                Step::Wait(pause) => sleep(pause).await,
                Step::Stop => return None,
            }
        }
    }

    /// Counts whether the target of the request's session answered. Models with one target have no choice.
    pub(super) fn record_affinity(&self, plan: &Plan, place: usize, metrics: &Metrics) {
        if self.targets.len() < 2 || self.is_continuation {
            return;
        }
        let affinity = match self.session {
            None => Affinity::None,
            Some(_) if plan.preferred() == place => Affinity::Hit,
            Some(_) => Affinity::Moved,
        };
        metrics.record_affinity(&self.model, affinity);
    }

    /// Whether every target accepts the signatures of each other one without their tags.
    fn accepts_untagged_signatures(&self, request: &Request) -> bool {
        let Some(native) = &request.native_fields else {
            return false;
        };
        let signers = self.targets.iter();
        let mut signers = signers.map(|target| target.upstream.signer_for(&target.model));
        let Some(first) = signers.next() else {
            return false;
        };
        first.accepts_untagged(native.wire)
            && signers.all(|signer| first.is_like(&signer) && signer.accepts_untagged(native.wire))
    }
}

/// One request on its way to a target that answers.
struct Opening<'a> {
    route: &'a Route,
    request: &'a Request,
    trace: &'a Trace,
    metrics: &'a Metrics,
    end: Option<Instant>,
    plan: Plan,
    accepts_untagged: bool,
    /// Of the targets that were asked.
    failure: Option<Error>,
}

/// The attempts that are under way: one, or two while the first is silent.
struct Race<'a> {
    first: Option<(usize, Attempt<'a>)>,
    second: Option<(usize, Attempt<'a>)>,
    /// When the second one is to begin. `None` where it has begun, or is not to.
    hedge_at: Option<Instant>,
    /// The place of the second one, once it has begun.
    hedge: Option<usize>,
}

/// What ended the wait for a target.
enum RaceEvent {
    Answer(usize, RoutedAnswer),
    Failed(usize, Error),
    /// The first target is silent for so long that another is to be asked.
    Hedge,
}

impl<'a> Opening<'a> {
    fn record_start(&mut self, place: usize) {
        if self.failure.is_none() {
            if let Some(arrived) = self.trace.arrived {
                self.metrics.record_overhead(arrived.elapsed());
            }
        } else if self.plan.is_retry(place) {
            self.metrics.record_retry(&self.route.model);
        } else {
            self.metrics.record_failover(&self.route.model);
        }
    }

    /// `None` if the target cannot be asked, and another may be.
    ///
    /// # Errors
    /// If no other target could be asked either.
    fn begin(&mut self, place: usize) -> Result<Option<Attempt<'a>>, Error> {
        let target = &self.route.targets[place];
        let deadlines = AttemptDeadlines {
            first_token: self.route.timeouts.first_token,
            end: self.end,
        };
        let begun = Attempt::begin(
            target,
            self.request,
            self.accepts_untagged,
            deadlines,
            self.trace,
        );
        match begun {
            Ok(attempt) => Ok(Some(attempt)),
            Err(error) => {
                target.report_failure(&error, self.trace, self.metrics);
                self.record_failure(place, error)?;
                Ok(None)
            }
        }
    }

    /// Waits for the attempt's answer, or that of a second one which begins when the first is silent.
    /// `None` if they failed, and another target may be asked.
    ///
    /// # Errors
    /// If no other target may be asked.
    async fn run(
        &mut self,
        place: usize,
        attempt: Attempt<'a>,
        receiver: &mut dyn Receiver,
    ) -> Result<Option<(usize, RoutedAnswer)>, Error> {
        let begun = Instant::now();
        let hedge_at = self.route.hedge_after(place).map(|after| begun + after);
        let mut race = Race {
            hedge_at,
            first: Some((place, attempt)),
            second: None,
            hedge: None,
        };
        let mut timer = pin!(sleep_until(race.next_timeout(begun)));
        while race.is_running() {
            let wait = poll_fn(|context| race.poll(context, timer.as_mut(), receiver));
            match wait.await {
                RaceEvent::Answer(place, answer) => {
                    self.metrics
                        .record_attempt(&self.route.targets[place].upstream.name, "ok");
                    self.end_race(race, Some(place));
                    return Ok(Some((place, answer)));
                }
                RaceEvent::Failed(place, error) => {
                    let target = &self.route.targets[place];
                    target.report_failure(&error, self.trace, self.metrics);
                    if let Err(error) = self.record_failure(place, error) {
                        self.end_race(race, None);
                        return Err(error);
                    }
                }
                RaceEvent::Hedge => {
                    race.second = self.begin_hedge();
                    race.hedge = race.second.as_ref().map(|(place, _)| *place);
                }
            }
        }
        Ok(None)
    }

    /// Asks the next target of the plan too. `None` if there is none, or too many were asked already.
    fn begin_hedge(&mut self) -> Option<(usize, Attempt<'a>)> {
        let place = self.route.next_hedge(&mut self.plan, now())?;
        // An error that would end the request is left to the attempt that is under way.
        let attempt = self.begin(place).ok().flatten()?;
        Some((place, attempt))
    }

    /// Closes the connection of the attempt that lost. `winner` is the place of the target that answers.
    fn end_race(&self, race: Race<'a>, winner: Option<usize>) {
        for (_, loser) in [race.first, race.second].into_iter().flatten() {
            let tokens = Estimate::of(self.request, 0).prompt;
            self.metrics.record_hedged_input(&self.route.model, tokens);
            loser.give_up(self.metrics);
        }
        if race.hedge.is_some() && winner.is_some() {
            let winner = match race.hedge == winner {
                true => HedgeWinner::Second,
                false => HedgeWinner::First,
            };
            self.metrics.record_hedge(&self.route.model, winner);
        }
    }

    /// # Errors
    /// If another target would not do better.
    fn record_failure(&mut self, place: usize, error: Error) -> Result<(), Error> {
        if !allows_failover(&error) {
            return Err(error);
        }
        self.plan
            .record_failure(place, error.allows_retry(), error.retry_after());
        self.failure = Some(combine_errors(self.failure.take(), error));
        Ok(())
    }
}

impl Race<'_> {
    fn is_running(&self) -> bool {
        self.first.is_some() || self.second.is_some()
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut timer: std::pin::Pin<&mut Sleep>,
        receiver: &mut dyn Receiver,
    ) -> Poll<RaceEvent> {
        // While another target may still be faster, only content decides.
        let may_begin = self.hedge_at.is_none() && (self.first.is_none() || self.second.is_none());
        for slot in [&mut self.first, &mut self.second] {
            let Some((place, attempt)) = slot else {
                continue;
            };
            let place = *place;
            if let Poll::Ready(polled) = attempt.poll(context, receiver, may_begin) {
                *slot = None;
                return Poll::Ready(match polled {
                    Ok(answer) => RaceEvent::Answer(place, answer),
                    Err(error) => RaceEvent::Failed(place, error),
                });
            }
        }
        loop {
            let now = Instant::now();
            let next = self.next_timeout(now);
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if let Some(event) = self.take_timeout(Instant::now()) {
                return Poll::Ready(event);
            }
        }
    }

    /// When the next deadline is, or a second attempt begins.
    fn next_timeout(&self, now: Instant) -> Instant {
        let deadline = |slot: &Option<(usize, Attempt<'_>)>| {
            slot.as_ref().map(|(_, attempt)| attempt.deadline)
        };
        let deadlines = [deadline(&self.first), deadline(&self.second), self.hedge_at];
        deadlines.into_iter().flatten().min().unwrap_or(now)
    }

    fn take_timeout(&mut self, now: Instant) -> Option<RaceEvent> {
        for slot in [&mut self.first, &mut self.second] {
            if let Some((place, mut attempt)) = slot.take_if(|(_, attempt)| attempt.deadline <= now)
            {
                return Some(RaceEvent::Failed(place, attempt.time_out()));
            }
        }
        let is_due = |at: &mut Instant| *at <= now;
        self.hedge_at.take_if(is_due).map(|_| RaceEvent::Hedge)
    }
}

/// Whether another target may do better. A target that refuses the request itself decides for all,
/// unless it only lacks the model.
pub fn allows_failover(error: &Error) -> bool {
    match error.code() {
        ErrorCode::UpstreamRejected => error.status() == StatusCode::NOT_FOUND,
        _ => true,
    }
}

/// The error to report after two targets failed. A rate limit is reported only if every target is
/// rate limited.
pub fn combine_errors(before: Option<Error>, now: Error) -> Error {
    let limited = |error: &Error| error.code() == ErrorCode::UpstreamRateLimited;
    match before {
        Some(before) if limited(&before) && limited(&now) => {
            let longest = before.retry_after().max(now.retry_after());
            now.with_retry_after(longest)
        }
        Some(before) if limited(&now) => before,
        _ => now,
    }
}

pub(super) fn no_target() -> Error {
    Error::new(ErrorCode::Internal, "the model has no target")
}
