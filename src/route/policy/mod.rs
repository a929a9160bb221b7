//! Decides which target is asked when. Everything here is a pure state machine: times, availability and
//! random seeds are handed in, and nothing is sent.
//!
//! | file | does |
//! |---|---|
//! | `health` | one target's breaker, rest and recent times to the first content |
//! | `order` | the order in which a request tries a model's targets |
//! | `plan` | the course of one request: the next target, a pause, or the end |
//! | `budget` | bounds retries and hedges to a share of the requests |
//! | `random` | random numbers from a seed |

mod budget;
mod health;
mod order;
mod plan;
mod random;

use std::time::Duration;

pub use budget::Budget;
pub use health::{
    AttemptResult, Availability, BreakerSettings, BreakerState, Health, MAX_FAILURES, Ticket,
};
pub use order::{Candidate, EXPLORE_AFTER, Strategy};
pub use plan::{Plan, Step};
pub use random::{Random, mix};

/// When a target is asked again, after every other target failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often one target is asked for one request; 1 is no second try.
    pub attempts: u32,
    /// The longest pause before the second try; it doubles with each further one.
    pub backoff: Duration,
    /// The longest pause of all. A target that asks for a longer one is not asked again.
    pub max_backoff: Duration,
}

/// When a second target is asked, because the first is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    Fixed(Duration),
    /// After the time within which 95 % of the target's recent answers began.
    P95,
}

/// How a model's targets are chosen. It learns from the outcomes: what it knows of one model.
#[derive(Debug)]
pub struct Policy {
    strategy: Strategy,
    retry: RetrySettings,
    budget: Budget,
    /// What each target is owed of the requests, by its index.
    shares: Vec<i64>,
    random: Random,
}

impl Policy {
    /// For a model with `targets` targets.
    pub fn new(strategy: Strategy, retry: RetrySettings, targets: usize, seed: u64) -> Self {
        Self {
            strategy,
            retry,
            budget: Budget::default(),
            shares: vec![0; targets],
            random: Random::new(seed),
        }
    }

    /// A request came in.
    pub fn begin_request(&mut self) {
        self.budget.earn();
    }
}

#[cfg(test)]
mod tests;
