//! The limits of all replicas together, counted in the shared state: one round trip for each of the
//! two steps of a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

use super::bucket::Bucket;
use super::check::{Backend, Check, FailedCheck, STREAM_RETRY, Taken, rate_limits};
use super::ledger::{Ledger, stream_name};
use super::policy::{LocalCounter, Policy, RedisCounter};
use super::script::{Condition, Reply, Steps, Time};
use super::{RateLimitStatus, RateLimits};

/// The connection to the shared limits.
pub(super) struct RedisLimits {
    store: Arc<Store>,
    pub(super) ledger: Arc<Ledger>,
    time: Time,
    /// This replica, among those that share the state.
    replica: u64,
}

/// One round trip: its steps, and which step belongs to which check.
struct Round<'a, 'c> {
    checks: &'a [Check<'c>],
    steps: Steps,
    /// For each check, its bucket or stream set.
    placed: Vec<Option<Placed>>,
    /// Units that are given back: their policies, buckets and steps.
    returned: Vec<(&'static Policy, Arc<Bucket>, usize)>,
    /// A check failed before the round.
    failed_before: bool,
}

enum Placed {
    Bucket(Arc<Bucket>, usize),
    /// The set's key, the stream's name in it, and the step.
    Streams(Arc<str>, Arc<str>, usize),
}

impl RedisLimits {
    pub(super) fn new(store: Arc<Store>, metrics: Arc<Metrics>, time: Time) -> Self {
        Self {
            ledger: Arc::new(Ledger::new(Arc::clone(&store), metrics, Arc::clone(&time))),
            store,
            time,
            // Two replicas with the same number would share a stream's lease now and then.
            replica: getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id())),
        }
    }

    /// Takes what the checks ask for: all of it or nothing. Policies that only this process counts
    /// are checked first, because they need no round trip. If a check fails, everything in `taken`
    /// is given back, with what was in it before, and the inner result is that check.
    ///
    /// # Errors
    /// The store did not answer. `taken` is as it was then.
    pub(super) async fn check(
        &self,
        checks: &[Check<'_>],
        taken: &mut Vec<Taken>,
    ) -> Result<Result<RateLimits, FailedCheck>, StoreError> {
        let (own, failed) = take_own(checks);
        let round = Round::new(self, checks, taken, failed.is_some());
        let reply = match round.steps.is_empty() {
            true => Reply::default(),
            false => match round.steps.run(&self.store).await {
                Ok(reply) => reply,
                Err(error) => {
                    for unit in own {
                        unit.give_back();
                    }
                    return Err(error);
                }
            },
        };
        let limits = round.limits(&reply);
        if let Some((check, after)) = failed.or_else(|| round.failed(&reply)) {
            for unit in taken.drain(..).chain(own) {
                // The script has given back what was taken in the shared state.
                if !unit.is_in_redis() {
                    unit.give_back();
                }
            }
            return Ok(Err(check.failed(after, limits)));
        }
        taken.extend(own);
        round.keep(self, &reply, taken);
        Ok(Ok(limits))
    }

    /// Leases the streams that were admitted without the shared state, so that it counts them as
    /// soon as it answers again.
    pub(super) fn lease_later(&self, checks: &[Check<'_>], taken: &mut Vec<Taken>) {
        let sets = checks.iter().filter_map(|check| match &check.limit.redis {
            RedisCounter::Streams(key, _) => Some(key),
            _ => None,
        });
        let lease = |key| {
            self.ledger
                .lease(Arc::clone(key), stream_name(self.replica))
        };
        taken.extend(sets.map(|key| Taken::Lease(lease(key))));
    }
}

/// Takes what only this process counts. If one of the checks fails, everything is given back.
fn take_own<'a, 'c>(checks: &'a [Check<'c>]) -> (Vec<Taken>, Option<(&'a Check<'c>, Duration)>) {
    let mut own = Vec::new();
    for check in checks.iter().filter(|check| !check.limit.policy.shared) {
        match check.take_locally() {
            Ok(unit) => own.extend(unit),
            Err(after) => {
                for unit in own {
                    unit.give_back();
                }
                return (Vec::new(), Some((check, after)));
            }
        }
    }
    (own, None)
}

impl<'a, 'c> Round<'a, 'c> {
    /// `failed` says that a check failed already: nothing is taken, and `taken` is given back in
    /// any case, not only if the script refuses.
    fn new(limits: &RedisLimits, checks: &'a [Check<'c>], taken: &[Taken], failed: bool) -> Self {
        let mut steps = Steps::new((limits.time)(), &limits.store);
        let place = |check: &Check<'c>, steps: &mut Steps| match &check.limit.redis {
            RedisCounter::Local => None,
            RedisCounter::Streams(key, limit) => (!failed).then(|| {
                let name = stream_name(limits.replica);
                let step = steps.lease(key, &name, *limit);
                Placed::Streams(Arc::clone(key), name, step)
            }),
            counter => counter.bucket(check.address).map(|bucket| {
                let step = match check.amount.filter(|_| !failed) {
                    Some(amount) => bucket.take(steps, amount),
                    None => steps.read(&bucket.key),
                };
                Placed::Bucket(bucket, step)
            }),
        };
        let placed = checks
            .iter()
            .map(|check| place(check, &mut steps))
            .collect();
        let condition = match failed {
            true => Condition::Always,
            false => Condition::IfRefused,
        };
        let mut returned = Vec::new();
        for unit in taken {
            match unit {
                Taken::Unit {
                    policy,
                    amount,
                    from: Backend::Redis(_, bucket, last_full_at),
                } => {
                    let amount = bucket.amount(*amount);
                    let step = steps.give_back(&bucket.key, amount, last_full_at, condition);
                    returned.push((*policy, Arc::clone(bucket), step));
                }
                Taken::Lease(lease) => {
                    let (key, name) = lease.set_and_name();
                    steps.release(key, name, condition);
                }
                Taken::Unit { .. } | Taken::Stream { .. } => {}
            }
        }
        Self {
            checks,
            steps,
            placed,
            returned,
            failed_before: failed,
        }
    }

    /// The check that the script refused.
    fn failed(&self, reply: &Reply) -> Option<(&'a Check<'c>, Duration)> {
        let (refused, after) = reply.refused?;
        let mut each = self.checks.iter().zip(&self.placed);
        each.find_map(|(check, placed)| match placed.as_ref()? {
            Placed::Bucket(_, step) => (*step == refused).then_some((check, after)),
            Placed::Streams(_, _, step) => (*step == refused).then_some((check, STREAM_RETRY)),
        })
    }

    /// The sender's status. A unit that was given back counts where no check read its bucket.
    fn limits(&self, reply: &Reply) -> RateLimits {
        let status =
            |bucket: &Bucket, step: usize| -> RateLimitStatus { bucket.status(reply, step) };
        let refused = self.failed_before || reply.refused.is_some();
        let returned = self.returned.iter().filter(|_| refused);
        let returned = returned.map(|(policy, bucket, step)| (*policy, status(bucket, *step)));
        let checked = self.checks.iter().zip(&self.placed);
        let checked = checked.filter_map(|(check, placed)| match placed.as_ref()? {
            Placed::Bucket(bucket, step) => Some((check.limit.policy, status(bucket, *step))),
            Placed::Streams(..) => None,
        });
        rate_limits(returned.chain(checked))
    }

    /// Adds to `taken` what the script took.
    fn keep(self, limits: &RedisLimits, reply: &Reply, taken: &mut Vec<Taken>) {
        for (check, placed) in self.checks.iter().zip(self.placed) {
            let Some(amount) = check.amount else {
                continue;
            };
            if let (LocalCounter::Streams(streams), true) =
                (&check.limit.local, check.limit.policy.shared)
            {
                // Counted here too, for the time when this process has to count alone.
                let _open = streams.take_unchecked();
                taken.push(Taken::Stream { _open });
            }
            match placed {
                Some(Placed::Bucket(bucket, step)) => {
                    let last_full_at = reply.last_full_at(step);
                    taken.push(Taken::Unit {
                        policy: check.limit.policy,
                        amount,
                        from: Backend::Redis(Arc::clone(&limits.ledger), bucket, last_full_at),
                    });
                }
                Some(Placed::Streams(key, name, _)) => {
                    taken.push(Taken::Lease(limits.ledger.lease(key, name)));
                }
                None => {}
            }
        }
    }
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
