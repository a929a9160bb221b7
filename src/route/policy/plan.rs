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
    /// Bits of the targets that were asked in this pass.
    asked: u64,
    /// Whether a target was asked in this pass although its breaker is open.
    has_asked_open: bool,
    /// Whether the budget was charged for the next target.
    is_paid: bool,
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
            asked: 0,
            has_asked_open: false,
            is_paid: false,
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
        while self.next < self.targets {
            let place = self.next;
            self.next += 1;
            let target = self.target(place);
            if !self.may_ask(target) {
                continue;
            }
            let found = availability(target);
            if found == Availability::Available {
                return self.ask(target, policy);
            }
            let mut later = (self.next..self.targets).map(|place| self.target(place));
            if later.any(|target| self.may_ask(target) && is_available(target, &availability)) {
                return Step::PassOver(target, found);
            }
        }
        match self.choose_unavailable(&availability) {
            Some(target) => self.ask(target, policy),
            None => self.begin_pass(policy),
        }
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
            self.may_ask(target) && is_available(target, &availability)
        };
        let place = (self.next..self.targets).find(is_free)?;
        if !policy.budget.take() {
            return None;
        }
        let target = self.target(place);
        self.asked |= bit(target);
        Some(target)
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
        self.asked = 0;
        self.has_asked_open = false;
        self.retryable = 0;
        self.longest_pause = Duration::ZERO;
        Step::Wait(pause)
    }

    /// Every target that was available has failed: the next of those that rest, then one whose breaker is
    /// open. The least bad is asked rather than none.
    fn choose_unavailable(
        &mut self,
        availability: impl Fn(usize) -> Availability,
    ) -> Option<usize> {
        let targets = (0..self.targets).map(|place| self.target(place));
        let left: Vec<_> = targets.filter(|&target| self.may_ask(target)).collect();
        let is_open = |target: &&usize| availability(**target) == Availability::Open;
        if let Some(target) = left.iter().find(|target| !is_open(target)) {
            return Some(*target);
        }
        let is_first = !std::mem::replace(&mut self.has_asked_open, true);
        left.first().copied().filter(|_| is_first)
    }

    fn ask(&mut self, target: usize, policy: &mut Policy) -> Step {
        if self.passes > 0 && !std::mem::take(&mut self.is_paid) && !policy.budget.take() {
            return Step::Stop;
        }
        self.asked |= bit(target);
        Step::Ask(target)
    }

    /// Whether the target may be asked in this pass.
    fn may_ask(&self, target: usize) -> bool {
        (self.asked | self.excluded) & bit(target) == 0
    }

    fn target(&self, place: usize) -> usize {
        self.order.get(place).copied().unwrap_or(place)
    }
}

fn is_available(target: usize, availability: impl Fn(usize) -> Availability) -> bool {
    availability(target) == Availability::Available
}

fn bit(target: usize) -> u64 {
    1 << (target % Plan::MAX_TARGETS)
}
