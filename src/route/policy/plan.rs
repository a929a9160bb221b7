//! The course of one request over the targets of its model.

use std::time::Duration;

use super::{Availability, Policy};

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the target at this position.
    Ask(usize),
    /// The target's turn came, and it is not asked.
    PassOver(usize, Availability),
    /// Ask for the next step after this time.
    Wait(Duration),
    /// No target is left.
    Stop,
}

/// Which targets one request has asked and may still ask.
#[derive(Debug)]
pub struct Plan {
    /// Positions of targets; where it has none, the targets are tried as they are listed.
    order: Vec<usize>,
    targets: usize,
    /// How many of the order had their turn in this pass.
    next: usize,
    /// How often the order was gone through before.
    passes: u32,
    /// Bits of the targets that are not asked again.
    excluded: u64,
    /// Bits of the targets that failed and may be asked again.
    retryable: u64,
    /// Bits of the targets that failed.
    failed: u64,
    /// The longest pause that a target asked for in this pass.
    longest_pause: Duration,
    /// What happens to targets that are not available, in this pass.
    fallback: Fallback,
    /// Whether the budget was charged for the next target.
    is_paid: bool,
    /// Whether a target was asked.
    has_asked: bool,
}

/// Which of the unavailable targets are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    /// None: another target is available.
    None,
    /// Those that rest.
    Resting,
    /// The first: all breakers are open.
    First,
}

impl Plan {
    /// A plan has at most this many targets.
    pub const MAX_TARGETS: usize = 64;

    /// For `targets` targets that are tried in this order, or in that of their list if it is empty.
    pub fn new(targets: usize, order: Vec<usize>) -> Self {
        Self {
            order,
            targets: targets.min(Self::MAX_TARGETS),
            next: 0,
            passes: 0,
            excluded: 0,
            retryable: 0,
            failed: 0,
            longest_pause: Duration::ZERO,
            fallback: Fallback::None,
            is_paid: false,
            has_asked: false,
        }
    }

    /// The first target of the order, whether it is available or not.
    pub fn preferred(&self) -> usize {
        self.target(0)
    }

    /// Whether the target was asked before for this request.
    pub fn is_retry(&self, target: usize) -> bool {
        self.failed & bit(target) != 0
    }

    /// What to do next. `availability` tells how a target is now.
    pub fn next(
        &mut self,
        policy: &mut Policy,
        availability: impl Fn(usize) -> Availability,
    ) -> Step {
        if self.next == 0 {
            self.fallback = self.choose_fallback(&availability);
        }
        while self.next < self.targets {
            let target = self.target(self.next);
            self.next += 1;
            if self.is_excluded(target) {
                continue;
            }
            let found = availability(target);
            match (self.fallback, found) {
                (_, Availability::Available) => {}
                (Fallback::Resting, Availability::Resting) => {}
                (Fallback::First, _) => self.next = self.targets,
                _ => return Step::PassOver(target, found),
            }
            if self.passes > 0 && !std::mem::take(&mut self.is_paid) && !policy.budget.take() {
                return Step::Stop;
            }
            self.has_asked = true;
            return Step::Ask(target);
        }
        if !self.has_asked && self.targets > 0 {
            // Every target that was available has become unavailable since.
            self.has_asked = true;
            return Step::Ask(self.preferred());
        }
        self.begin_pass(policy)
    }

    /// Another target to ask beside the one that is asked now. `None` if none is available, or the budget
    /// is used up.
    pub fn hedge(
        &mut self,
        policy: &mut Policy,
        availability: impl Fn(usize) -> Availability,
    ) -> Option<usize> {
        let is_free = |&place: &usize| {
            let target = self.target(place);
            !self.is_excluded(target) && availability(target) == Availability::Available
        };
        let place = (self.next..self.targets).find(is_free)?;
        if !policy.budget.take() {
            return None;
        }
        self.next = place + 1;
        Some(self.target(place))
    }

    /// The target failed. `may_retry` tells whether it may be asked again, and `pause` what it asked for
    /// before that.
    pub fn record_failure(&mut self, target: usize, may_retry: bool, pause: Option<Duration>) {
        let bit = bit(target);
        self.failed |= bit;
        if may_retry {
            self.retryable |= bit;
            self.longest_pause = self.longest_pause.max(pause.unwrap_or_default());
        } else {
            self.excluded |= bit;
            self.retryable &= !bit;
        }
    }

    fn begin_pass(&mut self, policy: &mut Policy) -> Step {
        let retry = policy.retry;
        let is_last = self.passes + 1 >= retry.attempts;
        if self.retryable == 0 || is_last || self.longest_pause > retry.max_backoff {
            return Step::Stop;
        }
        if !policy.budget.take() {
            return Step::Stop;
        }
        self.is_paid = true;
        let longest = retry.backoff.saturating_mul(1 << self.passes.min(16));
        let longest = longest.min(retry.max_backoff);
        let pause = longest
            .mul_f64(policy.random.unit())
            .max(self.longest_pause);
        self.passes += 1;
        self.next = 0;
        self.retryable = 0;
        self.longest_pause = Duration::ZERO;
        Step::Wait(pause)
    }

    fn choose_fallback(&self, availability: impl Fn(usize) -> Availability) -> Fallback {
        let mut fallback = Fallback::First;
        for target in (0..self.targets).filter(|&target| !self.is_excluded(target)) {
            match availability(target) {
                Availability::Available => return Fallback::None,
                Availability::Resting => fallback = Fallback::Resting,
                Availability::Open => {}
            }
        }
        fallback
    }

    fn target(&self, place: usize) -> usize {
        self.order.get(place).copied().unwrap_or(place)
    }

    fn is_excluded(&self, target: usize) -> bool {
        self.excluded & bit(target) != 0
    }
}

fn bit(target: usize) -> u64 {
    1 << (target % Plan::MAX_TARGETS)
}
