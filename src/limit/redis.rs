//! The limits of all replicas together, in the shared state: the same arithmetic as in one process,
//! asked in one round trip for each of the two steps.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;

use crate::metrics::Metrics;
use crate::model::Rate;
use crate::store::{Store, StoreError};

use super::bucket::{Bucket, GiveBack, SharedLimits};
use super::ledger::{Ledger, stream_name};
use super::local::{Limiter, Standing};
use super::permit::{Reservation, Source, Taken};
use super::refusal::Policy;
use super::script::{Outcome, Steps, When};
use super::streams::OpenStream;
use super::{Estimate, Opens, Permit, RateLimits, Refused};

/// The time in microseconds; `None` for the server's own, which all replicas share.
pub(super) type Time = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// The connection to the shared limits.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) ledger: Arc<Ledger>,
    time: Time,
    /// This replica, among those that share the state.
    replica: u64,
}

/// Where the steps for each policy are among those that are asked.
#[derive(Debug, Default)]
struct Asked {
    address: Option<(Bucket, usize)>,
    streams: Option<usize>,
    requests: Option<usize>,
    tokens: Option<usize>,
}

impl Shared {
    pub(super) fn new(store: Arc<Store>, metrics: Arc<Metrics>, time: Time) -> Self {
        Self {
            ledger: Arc::new(Ledger::new(Arc::clone(&store), metrics, Arc::clone(&time))),
            store,
            time,
            // Two replicas with the same number would share a stream's lease now and then.
            replica: getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id())),
        }
    }

    /// Takes one of an address's requests, and says where it stands.
    pub(super) async fn arrive(
        &self,
        rate: Option<Rate>,
        address: IpAddr,
    ) -> Result<Result<RateLimits, Refused>, StoreError> {
        let Some(rate) = rate else {
            return Ok(Ok(RateLimits::default()));
        };
        let bucket = Bucket::of_address(address, rate);
        let mut steps = Steps::new((self.time)());
        let step = bucket.take(&mut steps, 1);
        let outcome = steps.ask(&self.store).await?;
        let limits = RateLimits::of(bucket.status(&outcome, step));
        Ok(match outcome.refused {
            None => Ok(limits),
            Some((_, after)) => Err(refused_requests(Policy::Address, rate, after, limits)),
        })
    }

    /// Asks every policy but the token budget, in the order of the table in [`super`]; only the
    /// streams of this replica are this process's own.
    pub(super) async fn admit<C>(
        &self,
        limiter: &Limiter<C>,
        address: IpAddr,
        caller: Option<&Standing<C>>,
        opens: Opens,
    ) -> Result<Result<Permit, Refused>, StoreError>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let own = match opens {
            Opens::Stream => match limiter.streams.open_one() {
                Ok(stream) => Some(stream),
                Err(limit) => return self.overloaded(limit, caller).await.map(Err),
            },
            Opens::Nothing => None,
        };
        let limits = caller.map(|caller| &caller.shared);
        let name = stream_name(self.replica);
        let mut steps = Steps::new((self.time)());
        let mut asked = Asked::default();
        if let Some(rate) = limiter.address_rate() {
            let bucket = Bucket::of_address(address, rate);
            let step = bucket.take(&mut steps, 1);
            asked.address = Some((bucket, step));
        }
        if let Some(limits) = limits {
            if let (Some((key, limit)), Opens::Stream) = (&limits.streams, opens) {
                asked.streams = Some(steps.lease(key, &name, *limit));
            }
            let requests = limits.requests.as_ref();
            asked.requests = requests.map(|requests| requests.take(&mut steps, 1));
            let tokens = limits.tokens.as_ref();
            asked.tokens = tokens.map(|tokens| steps.look(&tokens.key));
        }
        let outcome = if steps.is_empty() {
            Outcome::default()
        } else {
            steps.ask(&self.store).await?
        };
        let standing = asked.standing(limits, &outcome);
        if let Some((step, after)) = outcome.refused {
            return Ok(Err(asked.refusal(limits, step, after, standing)));
        }
        let mut permit = Permit {
            limits: standing,
            taken: Taken {
                shared: asked.taken(limits, &outcome),
                ..Taken::default()
            },
            _streams: [own, caller.and_then(|caller| counted(caller, opens))],
            ..Permit::default()
        };
        if asked.streams.is_some() {
            self.lease(&mut permit, caller, name);
        }
        Ok(Ok(permit))
    }

    /// Counts a stream that was admitted without the shared state, as soon as there is one.
    pub(super) fn lease_later<C: Clock>(
        &self,
        permit: &mut Permit,
        caller: Option<&Standing<C>>,
        opens: Opens,
    ) {
        if opens == Opens::Stream {
            self.lease(permit, caller, stream_name(self.replica));
        }
    }

    /// Reserves tokens; on a refusal everything that the permit took in the shared state is given
    /// back in the same breath, and the rest is the caller's to undo.
    pub(super) async fn reserve<C: Clock>(
        &self,
        permit: &mut Permit,
        caller: &Standing<C>,
        estimate: Estimate,
    ) -> Result<Result<(), Refused>, StoreError> {
        let Some(bucket) = &caller.shared.tokens else {
            return Ok(Ok(()));
        };
        let limit = bucket.rate.amount;
        let reserved = estimate.reserved(limit);
        let mut steps = Steps::new((self.time)());
        // Where no waiting helps, there is nothing to ask of the budget.
        let (step, when) = match reserved {
            Some(reserved) => (bucket.take(&mut steps, reserved), When::Refused),
            None => (steps.look(&bucket.key), When::Always),
        };
        let requests = undo(&mut steps, permit, &caller.shared, when);
        let outcome = steps.ask(&self.store).await?;
        let status = bucket.status(&outcome, step);
        if let (Some(reserved), None) = (reserved, outcome.refused) {
            permit.limits.tokens = Some(status);
            permit.tokens = Some(Reservation {
                from: Source::Shared(
                    Arc::clone(&self.ledger),
                    Arc::clone(bucket),
                    outcome.busy_since(step),
                ),
                estimate,
                reserved,
                used: 0,
            });
            return Ok(Ok(()));
        }
        permit.taken.shared.clear();
        let requests = requests.map(|(requests, step)| requests.status(&outcome, step));
        let limits = RateLimits {
            requests: requests.or(permit.limits.requests),
            tokens: Some(status),
        };
        Ok(Err(match outcome.refused {
            Some((_, after)) => Refused::tokens(bucket.rate, after, limits),
            None => Refused::too_many_tokens(&estimate, limit, limits),
        }))
    }

    /// Leaves a note to give back what a permit took in the shared state.
    pub(super) fn give_back(&self, permit: &mut Permit) {
        for taken in permit.taken.shared.drain(..) {
            self.ledger.give_back(taken);
        }
    }

    fn lease<C: Clock>(&self, permit: &mut Permit, caller: Option<&Standing<C>>, name: Arc<str>) {
        let streams = caller.and_then(|caller| caller.shared.streams.as_ref());
        permit.lease = streams.map(|(key, _)| self.ledger.lease(Arc::clone(key), name));
    }

    /// A refusal by this replica, which says all the same where the caller stands.
    async fn overloaded<C: Clock>(
        &self,
        limit: u64,
        caller: Option<&Standing<C>>,
    ) -> Result<Refused, StoreError> {
        let limits = caller.map(|caller| &caller.shared);
        let mut steps = Steps::new((self.time)());
        let mut asked = Asked::default();
        if let Some(limits) = limits {
            let mut look = |bucket: &Bucket| steps.look(&bucket.key);
            asked.requests = limits.requests.as_ref().map(&mut look);
            asked.tokens = limits.tokens.as_deref().map(&mut look);
        }
        let outcome = if steps.is_empty() {
            Outcome::default()
        } else {
            steps.ask(&self.store).await?
        };
        let standing = asked.standing(limits, &outcome);
        Ok(Refused::streams(Policy::Replica, limit, standing))
    }
}

impl Asked {
    /// Where the caller stands, or its address if the caller has no limit of its own.
    fn standing(&self, limits: Option<&SharedLimits>, outcome: &Outcome) -> RateLimits {
        let requests = limits.and_then(|limits| limits.requests.as_ref());
        let tokens = limits.and_then(|limits| limits.tokens.as_ref());
        let address = self.address.as_ref();
        let own = RateLimits {
            requests: requests
                .zip(self.requests)
                .map(|(requests, step)| requests.status(outcome, step)),
            tokens: tokens
                .zip(self.tokens)
                .map(|(tokens, step)| tokens.status(outcome, step)),
        };
        own.or(RateLimits {
            requests: address.map(|(bucket, step)| bucket.status(outcome, *step)),
            tokens: None,
        })
    }

    fn refusal(
        &self,
        limits: Option<&SharedLimits>,
        step: usize,
        after: Duration,
        standing: RateLimits,
    ) -> Refused {
        if let Some((bucket, _)) = self.address.as_ref().filter(|(_, at)| *at == step) {
            return refused_requests(Policy::Address, bucket.rate, after, standing);
        }
        let streams = limits.and_then(|limits| limits.streams.as_ref());
        if let Some((_, limit)) = streams.filter(|_| self.streams == Some(step)) {
            return Refused::streams(Policy::Caller, *limit, standing);
        }
        let requests = limits.and_then(|limits| limits.requests.as_ref());
        match requests {
            Some(requests) => refused_requests(Policy::Caller, requests.rate, after, standing),
            // Not reached: no other step can refuse.
            None => Refused::without_store(),
        }
    }

    fn taken(&self, limits: Option<&SharedLimits>, outcome: &Outcome) -> Vec<GiveBack> {
        let requests = limits.and_then(|limits| limits.requests.as_ref());
        let requests = requests.zip(self.requests);
        let address = self.address.as_ref();
        let taken = |(bucket, step): (&Bucket, usize)| GiveBack {
            key: Arc::clone(&bucket.key),
            amount: bucket.amount(1),
            busy_since: outcome.busy_since(step),
        };
        address
            .map(|(bucket, step)| (bucket, *step))
            .into_iter()
            .chain(requests)
            .map(taken)
            .collect()
    }
}

fn refused_requests(policy: Policy, rate: Rate, after: Duration, limits: RateLimits) -> Refused {
    let mut limits = limits;
    if let Some(requests) = &mut limits.requests {
        requests.remaining = 0;
    }
    Refused::requests(policy, rate, after, limits)
}

/// The steps that give back what a permit took; which of them are the caller's own requests.
fn undo<'c>(
    steps: &mut Steps,
    permit: &Permit,
    limits: &'c SharedLimits,
    when: When,
) -> Option<(&'c Bucket, usize)> {
    if let Some((key, name)) = permit.lease.as_ref().map(|lease| lease.entry()) {
        steps.release(key, name, when);
    }
    let mut own = None;
    for taken in &permit.taken.shared {
        let step = steps.give_back(&taken.key, taken.amount, &taken.busy_since, when);
        let requests = limits.requests.as_ref();
        own = own.or(requests
            .filter(|requests| requests.key == taken.key)
            .map(|requests| (requests, step)));
    }
    own
}

/// One more stream of the caller's on this replica, for the time when it has to count alone.
fn counted<C: Clock>(caller: &Standing<C>, opens: Opens) -> Option<OpenStream> {
    (opens == Opens::Stream).then(|| caller.streams.open_anyway())
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
