//! What an admitted request holds.

use crate::model::Usage;

use super::check::Taken;
use super::policy::Resource;
use super::{Estimate, RateLimits};

/// The right to an answer. Where it was for a stream, the stream counts as open until the permit is
/// dropped. Dropping it never waits.
#[derive(Debug, Default)]
pub struct Permit {
    pub(super) limits: RateLimits,
    pub(super) taken: Vec<Taken>,
    tokens: Option<Reservation>,
}

/// Tokens that were taken before their number was known. Those that were not used come back when
/// this is dropped.
#[derive(Debug)]
struct Reservation {
    taken: Vec<Taken>,
    estimate: Estimate,
    used: u64,
}

impl Permit {
    pub(super) fn new(limits: RateLimits, taken: Vec<Taken>) -> Self {
        Self {
            limits,
            taken,
            tokens: None,
        }
    }

    /// The status of the key, or of its address if the key has no limit of its own.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    /// States what the answer cost: the upstream's usage, and how many bytes of content came.
    /// Without this, everything that was reserved comes back.
    pub fn settle(&mut self, usage: Option<Usage>, produced: u64) {
        if let Some(tokens) = &mut self.tokens {
            tokens.used = tokens.estimate.used(usage, produced);
        }
    }

    /// Keeps the tokens that were just taken until the answer's cost is known.
    pub(super) fn set_reservation(&mut self, limits: RateLimits, estimate: Estimate) {
        self.limits = limits.or(self.limits);
        let tokens = self.taken.extract_if(.., |taken| {
            matches!(taken, Taken::Unit { policy, .. } if policy.resource == Resource::Tokens)
        });
        let taken: Vec<_> = tokens.collect();
        self.tokens = (!taken.is_empty()).then_some(Reservation {
            taken,
            estimate,
            used: 0,
        });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for taken in &self.taken {
            taken.settle(self.used);
        }
    }
}
