//! What a request asks of each policy, and what it holds of them afterwards.

use std::sync::Arc;
use std::time::Duration;

use governor::nanos::Nanos;

use super::address::Address;
use super::bucket::Bucket;
use super::counter::RateCounter;
use super::ledger::{Lease, Ledger};
use super::policy::{Limit, LocalCounter, Policy, PolicyLimit, Resource};
use super::streams::OpenStream;
use super::{Admission, RateLimitStatus, RateLimits};

/// What one request asks of one policy.
#[derive(Debug)]
pub(super) struct Check<'a> {
    pub(super) limit: &'a PolicyLimit,
    pub(super) address: Option<Address>,
    /// `None`: only the status is read.
    pub(super) amount: Option<u64>,
}

/// A check that failed.
#[derive(Debug)]
pub(super) struct FailedCheck {
    pub(super) policy: &'static Policy,
    pub(super) limit: Limit,
    pub(super) amount: u64,
    /// How long until the check can succeed.
    pub(super) after: Duration,
    /// The sender's status, once everything was given back.
    pub(super) limits: RateLimits,
}

/// Something that a check took. Dropping a stream or a lease gives it back; a unit of a rate stays
/// taken unless it is settled.
#[derive(Debug)]
pub(super) enum Taken {
    Unit {
        policy: &'static Policy,
        amount: u64,
        from: Backend,
    },
    Stream {
        _open: OpenStream,
    },
    Lease(Lease),
}

/// Where a unit was taken, and when the count there was last at its full allowance.
#[derive(Debug)]
pub(super) enum Backend {
    Local(Arc<dyn RateCounter>, Option<Address>, Nanos),
    Redis(Arc<Ledger>, Arc<Bucket>, String),
}

/// When a stream ends is not known, so a stream limit can only say: soon.
pub(super) const STREAM_RETRY: Duration = Duration::from_secs(1);

/// What admitting a request asks of a policy. `None`: nothing.
pub(super) fn admission_amount(policy: &Policy, admission: Admission) -> Option<Option<u64>> {
    match policy.resource {
        Resource::Requests => Some(Some(1)),
        Resource::Streams => (admission == Admission::Stream).then_some(Some(1)),
        // How many it takes is known once the request was read.
        Resource::Tokens => Some(None),
    }
}

impl<'a> Check<'a> {
    /// Takes what the check asks for in this process.
    ///
    /// # Errors
    /// How long until it can be taken.
    pub(super) fn take_locally(&self) -> Result<Option<Taken>, Duration> {
        let Some(amount) = self.amount else {
            return Ok(None);
        };
        match &self.limit.local {
            LocalCounter::Streams(streams) => streams
                .take()
                .map(|open| Some(Taken::Stream { _open: open }))
                .ok_or(STREAM_RETRY),
            LocalCounter::Rate(counter) => {
                let last_full_at = counter.take(self.address, amount)?;
                Ok(Some(Taken::Unit {
                    policy: self.limit.policy,
                    amount,
                    from: Backend::Local(Arc::clone(counter), self.address, last_full_at),
                }))
            }
        }
    }

    pub(super) fn local_status(&self) -> Option<RateLimitStatus> {
        match &self.limit.local {
            LocalCounter::Rate(counter) => Some(counter.status(self.address)),
            LocalCounter::Streams(_) => None,
        }
    }

    /// This check as a failed one. A sender that was refused a request has none left, even if one
    /// came back since.
    pub(super) fn failed(&self, after: Duration, mut limits: RateLimits) -> FailedCheck {
        let policy = self.limit.policy;
        if let (Resource::Requests, Some(requests)) = (policy.resource, &mut limits.requests) {
            requests.remaining = 0;
        }
        FailedCheck {
            policy,
            limit: self.limit.limit,
            amount: self.amount.unwrap_or(0),
            after,
            limits,
        }
    }
}

impl Taken {
    /// Corrects a unit to what was used.
    pub(super) fn settle(&self, used: u64) {
        let Self::Unit { amount, from, .. } = self else {
            return;
        };
        match from {
            Backend::Local(counter, address, last_full_at) => {
                counter.settle(*address, *last_full_at, *amount, used);
            }
            Backend::Redis(ledger, bucket, last_full_at) => {
                ledger.settle(bucket, last_full_at, *amount, used);
            }
        }
    }

    /// Whether the shared state counts it and no local count has to be corrected.
    pub(super) fn is_in_redis(&self) -> bool {
        matches!(
            self,
            Self::Unit {
                from: Backend::Redis(..),
                ..
            }
        )
    }

    /// Gives everything back. Returns the policy of a unit, and its status where this process
    /// counts it.
    pub(super) fn give_back(self) -> Option<(&'static Policy, RateLimitStatus)> {
        self.settle(0);
        match self {
            Self::Unit {
                policy,
                from: Backend::Local(counter, address, _),
                ..
            } => Some((policy, counter.status(address))),
            _ => None,
        }
    }
}

/// Takes what the checks ask for in this process, in order: all of it or nothing.
///
/// # Errors
/// The check that failed. Everything in `taken` is given back then, with what was in it before.
pub(super) fn check_locally(
    checks: &[Check<'_>],
    taken: &mut Vec<Taken>,
) -> Result<RateLimits, FailedCheck> {
    for check in checks {
        match check.take_locally() {
            Ok(unit) => taken.extend(unit),
            Err(after) => {
                let returned: Vec<_> = taken.drain(..).filter_map(Taken::give_back).collect();
                let limits = rate_limits(returned.into_iter().chain(statuses(checks)));
                return Err(check.failed(after, limits));
            }
        }
    }
    Ok(rate_limits(statuses(checks)))
}

fn statuses<'c>(
    checks: &'c [Check<'_>],
) -> impl Iterator<Item = (&'static Policy, RateLimitStatus)> + 'c {
    checks
        .iter()
        .filter_map(|check| Some((check.limit.policy, check.local_status()?)))
}

/// The statuses of several policies. Of two for one resource the later one counts: the key's comes
/// after its address's.
pub(super) fn rate_limits(
    statuses: impl Iterator<Item = (&'static Policy, RateLimitStatus)>,
) -> RateLimits {
    let mut limits = RateLimits::default();
    for (policy, status) in statuses {
        match policy.resource {
            Resource::Requests => limits.requests = Some(status),
            Resource::Tokens => limits.tokens = Some(status),
            Resource::Streams => {}
        }
    }
    limits
}
