//! What is known of one target's health. A state machine without a clock: every call states the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// How many failures within `window` open it: in a row, or if they are at least half of what
    /// happened.
    pub failures: u32,
    pub window: Duration,
    /// How long it stays open.
    pub open: Duration,
}

/// The state of a target's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    /// One request is let through.
    HalfOpen,
    Open,
}

/// Whether a target may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Available,
    /// It asked for a pause.
    Resting,
    /// Its breaker is open.
    Open,
}

impl Availability {
    /// The word in the list of attempts for a target that was passed over.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Resting => "resting",
            Self::Open => "open",
        }
    }
}

/// The result of one attempt, as far as the target's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    Success,
    Failure,
    /// The target asked for a pause of this length.
    Rest(Duration),
    /// Another target was faster.
    Outrun,
    /// It says nothing about the target: the client left, or its request was refused.
    Neutral,
}

/// An attempt that has begun; its end is reported with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The number of the probe, if it is the one request that a half-open breaker lets through.
    probe: Option<u64>,
    begun: Instant,
}

/// One target's health.
#[derive(Debug, Default)]
pub struct Health {
    breaker: Breaker,
    /// The newest last, and whether each was a success.
    outcomes: VecDeque<(Instant, bool)>,
    rests_until: Option<Instant>,
    first_token: FirstToken,
    last_asked: Option<Instant>,
    open_attempts: u32,
    /// How many probes there were.
    probes: u64,
}

#[derive(Debug, Default, Clone, Copy)]
enum Breaker {
    #[default]
    Closed,
    Open {
        since: Instant,
        until: Instant,
    },
    /// A probe is under way.
    HalfOpen {
        since: Instant,
        probe: u64,
    },
}

/// How many outcomes are kept; more than any `failures` may be.
const MAX_OUTCOMES: usize = 2 * MAX_FAILURES as usize;

/// The largest [`BreakerSettings::failures`].
pub const MAX_FAILURES: u32 = 100;

impl Health {
    /// Whether the target may be asked at `now`. A breaker that was open long enough counts as available,
    /// unless its probe is under way.
    pub fn availability(&self, now: Instant) -> Availability {
        match self.breaker {
            Breaker::HalfOpen { .. } => return Availability::Open,
            Breaker::Open { until, .. } if now < until => return Availability::Open,
            Breaker::Open { .. } | Breaker::Closed => {}
        }
        match self.rests_until {
            Some(until) if now < until => Availability::Resting,
            _ => Availability::Available,
        }
    }

    pub fn breaker(&self) -> BreakerState {
        match self.breaker {
            Breaker::Closed => BreakerState::Closed,
            Breaker::Open { .. } => BreakerState::Open,
            Breaker::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// The target is asked, whether it is available or not.
    pub fn begin(&mut self, now: Instant) -> Ticket {
        let probe = match self.breaker {
            Breaker::Open { since, until } if until <= now => {
                self.probes += 1;
                let probe = self.probes;
                self.breaker = Breaker::HalfOpen { since, probe };
                Some(probe)
            }
            _ => None,
        };
        self.last_asked = Some(now);
        self.open_attempts += 1;
        Ticket { probe, begun: now }
    }

    /// The target sent its first content. That closes the breaker, unless it opened since the attempt
    /// began.
    pub fn record_first_content(&mut self, ticket: Ticket, now: Instant) {
        let waited = now.saturating_duration_since(ticket.begun);
        self.first_token.record(waited, now);
        self.succeed(ticket, now);
    }

    /// An attempt has ended. [`AttemptResult::Success`] is for one whose first content was not recorded.
    pub fn end(
        &mut self,
        ticket: Ticket,
        result: AttemptResult,
        settings: Option<&BreakerSettings>,
        now: Instant,
    ) {
        self.open_attempts = self.open_attempts.saturating_sub(1);
        match result {
            AttemptResult::Success => self.succeed(ticket, now),
            AttemptResult::Failure => {
                self.push(now, false);
                match settings {
                    Some(settings) => self.fail(ticket, settings, now),
                    None => self.release(ticket, now),
                }
            }
            AttemptResult::Rest(pause) => {
                let until = now.checked_add(pause);
                self.rests_until = self.rests_until.max(until);
                self.release(ticket, now);
            }
            AttemptResult::Outrun => {
                // It would have taken at least so long.
                let waited = now.saturating_duration_since(ticket.begun);
                if self
                    .first_token()
                    .is_some_and(|usual| usual < waited.as_secs_f64())
                {
                    self.first_token.record(waited, now);
                }
                self.release(ticket, now);
            }
            AttemptResult::Neutral => self.release(ticket, now),
        }
    }

    /// The recent time to the first content, in seconds. `None` before the first.
    pub fn first_token(&self) -> Option<f64> {
        self.first_token.average()
    }

    /// The time to the first content below which 95 % of the recent ones are. `None` if there were too
    /// few.
    pub fn first_token_p95(&self) -> Option<Duration> {
        self.first_token.p95()
    }

    pub fn open_attempts(&self) -> u32 {
        self.open_attempts
    }

    pub fn last_asked(&self) -> Option<Instant> {
        self.last_asked
    }

    fn fail(&mut self, ticket: Ticket, settings: &BreakerSettings, now: Instant) {
        // Only the probe of a half-open breaker decides: attempts that began before it opened end later.
        let opens = match self.breaker {
            Breaker::Closed => self.is_only_probe(ticket) || self.failed_too_often(settings, now),
            Breaker::HalfOpen { probe, .. } => ticket.probe == Some(probe),
            Breaker::Open { .. } => false,
        };
        if opens {
            self.breaker = Breaker::Open {
                since: now,
                until: now.checked_add(settings.open).unwrap_or(now),
            };
        }
    }

    /// Whether the breaker closed for this attempt alone: no other has succeeded since.
    fn is_only_probe(&self, ticket: Ticket) -> bool {
        let successes = self.outcomes.iter().filter(|(_, success)| *success);
        ticket.probe == Some(self.probes) && successes.count() <= 1
    }

    fn failed_too_often(&self, settings: &BreakerSettings, now: Instant) -> bool {
        let recent =
            |&&(at, _): &&(Instant, bool)| now.saturating_duration_since(at) <= settings.window;
        let needed = settings.failures.min(MAX_FAILURES) as usize;
        let newest = self.outcomes.iter().rev().take_while(recent);
        let in_a_row = newest.clone().take_while(|(_, success)| !success).count();
        let (all, failed) = newest.fold((0, 0), |(all, failed), (_, success)| {
            (all + 1, failed + usize::from(!success))
        });
        in_a_row >= needed || (failed >= needed && 2 * failed >= all)
    }

    /// The probe says nothing: the next request is one.
    fn release(&mut self, ticket: Ticket, now: Instant) {
        if let Breaker::HalfOpen { since, probe } = self.breaker
            && ticket.probe == Some(probe)
        {
            self.breaker = Breaker::Open { since, until: now };
        }
    }

    /// The target answers. That closes the breaker, unless it opened since the attempt began.
    fn succeed(&mut self, ticket: Ticket, now: Instant) {
        self.rests_until = None;
        match self.breaker {
            Breaker::Open { since, .. } | Breaker::HalfOpen { since, .. }
                if since <= ticket.begun =>
            {
                self.breaker = Breaker::Closed;
                self.outcomes.clear();
            }
            _ => {}
        }
        self.push(now, true);
    }

    fn push(&mut self, now: Instant, success: bool) {
        if self.outcomes.len() == MAX_OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((now, success));
    }
}

/// The times to the first content of one target.
#[derive(Debug, Default)]
struct FirstToken {
    /// In seconds; newer times weigh more.
    average: Option<(f64, Instant)>,
    /// In microseconds; a ring of the newest.
    samples: Vec<u32>,
    next: usize,
}

/// An average forgets: after this time its weight is 1/e.
const MEMORY: Duration = Duration::from_secs(10);
/// The least weight of a new time.
const MIN_WEIGHT: f64 = 0.2;
const MAX_SAMPLES: usize = 128;
/// Below this number of times nothing is said of their distribution.
const MIN_SAMPLES: usize = 20;

impl FirstToken {
    fn record(&mut self, waited: Duration, now: Instant) {
        let seconds = waited.as_secs_f64();
        let average = match self.average {
            None => seconds,
            Some((average, at)) => {
                let age = now.saturating_duration_since(at).as_secs_f64();
                let old = (-age / MEMORY.as_secs_f64()).exp().min(1.0 - MIN_WEIGHT);
                average * old + seconds * (1.0 - old)
            }
        };
        self.average = Some((average, now));
        let sample = u32::try_from(waited.as_micros()).unwrap_or(u32::MAX);
        match self.samples.get_mut(self.next) {
            Some(oldest) => *oldest = sample,
            None => self.samples.push(sample),
        }
        self.next = (self.next + 1) % MAX_SAMPLES;
    }

    fn average(&self) -> Option<f64> {
        self.average.map(|(average, _)| average)
    }

    fn p95(&self) -> Option<Duration> {
        if self.samples.len() < MIN_SAMPLES {
            return None;
        }
        let mut samples = self.samples.clone();
        let place = samples.len() * 95 / 100;
        let (_, sample, _) = samples.select_nth_unstable(place);
        Some(Duration::from_micros(u64::from(*sample)))
    }
}
