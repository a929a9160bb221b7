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

use super::bucket::{Bucket, GiveBack, KeyBuckets};
use super::ledger::{Ledger, stream_name};
use super::local::{KeyCounters, LocalLimits};
use super::permit::{Backend, Reservation, Taken};
use super::refusal::Policy;
use super::script::{Condition, Reply, Steps};
use super::streams::OpenStream;
use super::{Admission, Estimate, LimitRefusal, Permit, RateLimits};

/// The time in microseconds; `None` for the server's own, which all replicas share.
pub(super) type Time = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// The connection to the shared limits.
pub(super) struct RedisLimits {
    pub(super) store: Arc<Store>,
    pub(super) ledger: Arc<Ledger>,
    time: Time,
    /// This replica, among those that share the state.
    replica: u64,
}

/// Where the steps for each policy are among those that are asked.
#[derive(Debug, Default)]
struct StepIndexes {
    address: Option<(Bucket, usize)>,
    streams: Option<usize>,
    requests: Option<usize>,
    tokens: Option<usize>,
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

    /// Takes one of an address's requests, and says where it stands.
    pub(super) async fn admit_address(
        &self,
        rate: Option<Rate>,
        address: IpAddr,
    ) -> Result<Result<RateLimits, LimitRefusal>, StoreError> {
        let Some(rate) = rate else {
            return Ok(Ok(RateLimits::default()));
        };
        let bucket = Bucket::of_address(address, rate);
        let mut steps = Steps::new((self.time)());
        let step = bucket.take(&mut steps, 1);
        let reply = steps.run(&self.store).await?;
        let limits = RateLimits::of(bucket.status(&reply, step));
        Ok(match reply.refused {
            None => Ok(limits),
            Some((_, after)) => Err(refused_requests(Policy::Address, rate, after, limits)),
        })
    }

    /// Asks every policy but the token budget, in the order of the table in [`super`]; only the
    /// streams of this replica are this process's own.
    pub(super) async fn admit<C>(
        &self,
        local: &LocalLimits<C>,
        address: IpAddr,
        account: Option<&KeyCounters<C>>,
        admission: Admission,
    ) -> Result<Result<Permit, LimitRefusal>, StoreError>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let own = match admission {
            Admission::Stream => match local.streams.take() {
                Ok(stream) => Some(stream),
                Err(limit) => return self.overloaded(limit, account).await.map(Err),
            },
            Admission::Request => None,
        };
        let buckets = account.map(|account| &account.buckets);
        let name = stream_name(self.replica);
        let mut steps = Steps::new((self.time)());
        let mut indexes = StepIndexes::default();
        if let Some(rate) = local.address_rate() {
            let bucket = Bucket::of_address(address, rate);
            let step = bucket.take(&mut steps, 1);
            indexes.address = Some((bucket, step));
        }
        if let Some(limits) = buckets {
            if let (Some((key, limit)), Admission::Stream) = (&limits.streams, admission) {
                indexes.streams = Some(steps.lease(key, &name, *limit));
            }
            let requests = limits.requests.as_ref();
            indexes.requests = requests.map(|requests| requests.take(&mut steps, 1));
            let tokens = limits.tokens.as_ref();
            indexes.tokens = tokens.map(|tokens| steps.get(&tokens.key));
        }
        let reply = if steps.is_empty() {
            Reply::default()
        } else {
            steps.run(&self.store).await?
        };
        let limits = indexes.limits(buckets, &reply);
        if let Some((step, after)) = reply.refused {
            return Ok(Err(indexes.refusal(buckets, step, after, limits)));
        }
        let mut permit = Permit {
            limits,
            taken: Taken {
                redis: indexes.taken(buckets, &reply),
                ..Taken::default()
            },
            _streams: [own, account.and_then(|account| counted(account, admission))],
            ..Permit::default()
        };
        if indexes.streams.is_some() {
            self.lease(&mut permit, account, name);
        }
        Ok(Ok(permit))
    }

    /// Counts a stream that was admitted without the shared state, as soon as there is one.
    pub(super) fn lease_later<C: Clock>(
        &self,
        permit: &mut Permit,
        account: Option<&KeyCounters<C>>,
        admission: Admission,
    ) {
        if admission == Admission::Stream {
            self.lease(permit, account, stream_name(self.replica));
        }
    }

    /// Reserves tokens; on a refusal everything that the permit took in the shared state is given
    /// back in the same breath, and the rest is the caller's to undo.
    pub(super) async fn reserve<C: Clock>(
        &self,
        permit: &mut Permit,
        account: &KeyCounters<C>,
        estimate: Estimate,
    ) -> Result<Result<(), LimitRefusal>, StoreError> {
        let Some(bucket) = &account.buckets.tokens else {
            return Ok(Ok(()));
        };
        let limit = bucket.rate.amount;
        let reserved = estimate.reserved(limit);
        let mut steps = Steps::new((self.time)());
        // Where no waiting helps, there is nothing to ask of the budget.
        let (step, condition) = match reserved {
            Some(reserved) => (bucket.take(&mut steps, reserved), Condition::IfRefused),
            None => (steps.get(&bucket.key), Condition::Always),
        };
        let requests = give_back_steps(&mut steps, permit, &account.buckets, condition);
        let reply = steps.run(&self.store).await?;
        let status = bucket.status(&reply, step);
        if let (Some(reserved), None) = (reserved, reply.refused) {
            permit.limits.tokens = Some(status);
            permit.tokens = Some(Reservation {
                backend: Backend::Redis(
                    Arc::clone(&self.ledger),
                    Arc::clone(bucket),
                    reply.last_full_at(step),
                ),
                estimate,
                reserved,
                used: 0,
            });
            return Ok(Ok(()));
        }
        permit.taken.redis.clear();
        let requests = requests.map(|(requests, step)| requests.status(&reply, step));
        let limits = RateLimits {
            requests: requests.or(permit.limits.requests),
            tokens: Some(status),
        };
        Ok(Err(match reply.refused {
            Some((_, after)) => LimitRefusal::tokens(bucket.rate, after, limits),
            None => LimitRefusal::too_many_tokens(&estimate, limit, limits),
        }))
    }

    /// Leaves a note to give back what a permit took in the shared state.
    pub(super) fn give_back(&self, permit: &mut Permit) {
        for taken in permit.taken.redis.drain(..) {
            self.ledger.give_back(taken);
        }
    }

    fn lease<C: Clock>(
        &self,
        permit: &mut Permit,
        account: Option<&KeyCounters<C>>,
        name: Arc<str>,
    ) {
        let streams = account.and_then(|account| account.buckets.streams.as_ref());
        permit.lease = streams.map(|(key, _)| self.ledger.lease(Arc::clone(key), name));
    }

    /// A refusal by this replica, which says all the same where the caller stands.
    async fn overloaded<C: Clock>(
        &self,
        limit: u64,
        account: Option<&KeyCounters<C>>,
    ) -> Result<LimitRefusal, StoreError> {
        let buckets = account.map(|account| &account.buckets);
        let mut steps = Steps::new((self.time)());
        let mut indexes = StepIndexes::default();
        if let Some(limits) = buckets {
            let mut get = |bucket: &Bucket| steps.get(&bucket.key);
            indexes.requests = limits.requests.as_ref().map(&mut get);
            indexes.tokens = limits.tokens.as_deref().map(&mut get);
        }
        let reply = if steps.is_empty() {
            Reply::default()
        } else {
            steps.run(&self.store).await?
        };
        let limits = indexes.limits(buckets, &reply);
        Ok(LimitRefusal::streams(Policy::Replica, limit, limits))
    }
}

impl StepIndexes {
    /// Where the caller stands, or its address if the caller has no limit of its own.
    fn limits(&self, buckets: Option<&KeyBuckets>, reply: &Reply) -> RateLimits {
        let requests = buckets.and_then(|buckets| buckets.requests.as_ref());
        let tokens = buckets.and_then(|buckets| buckets.tokens.as_ref());
        let address = self.address.as_ref();
        let own = RateLimits {
            requests: requests
                .zip(self.requests)
                .map(|(requests, step)| requests.status(reply, step)),
            tokens: tokens
                .zip(self.tokens)
                .map(|(tokens, step)| tokens.status(reply, step)),
        };
        own.or(RateLimits {
            requests: address.map(|(bucket, step)| bucket.status(reply, *step)),
            tokens: None,
        })
    }

    fn refusal(
        &self,
        buckets: Option<&KeyBuckets>,
        step: usize,
        after: Duration,
        limits: RateLimits,
    ) -> LimitRefusal {
        if let Some((bucket, _)) = self.address.as_ref().filter(|(_, at)| *at == step) {
            return refused_requests(Policy::Address, bucket.rate, after, limits);
        }
        let streams = buckets.and_then(|buckets| buckets.streams.as_ref());
        if let Some((_, limit)) = streams.filter(|_| self.streams == Some(step)) {
            return LimitRefusal::streams(Policy::Caller, *limit, limits);
        }
        let requests = buckets.and_then(|buckets| buckets.requests.as_ref());
        match requests {
            Some(requests) => refused_requests(Policy::Caller, requests.rate, after, limits),
            // Not reached: no other step can refuse.
            None => LimitRefusal::without_store(),
        }
    }

    fn taken(&self, limits: Option<&KeyBuckets>, reply: &Reply) -> Vec<GiveBack> {
        let requests = limits.and_then(|limits| limits.requests.as_ref());
        let requests = requests.zip(self.requests);
        let address = self.address.as_ref();
        let taken = |(bucket, step): (&Bucket, usize)| GiveBack {
            key: Arc::clone(&bucket.key),
            amount: bucket.amount(1),
            last_full_at: reply.last_full_at(step),
        };
        address
            .map(|(bucket, step)| (bucket, *step))
            .into_iter()
            .chain(requests)
            .map(taken)
            .collect()
    }
}

fn refused_requests(
    policy: Policy,
    rate: Rate,
    after: Duration,
    limits: RateLimits,
) -> LimitRefusal {
    let mut limits = limits;
    if let Some(requests) = &mut limits.requests {
        requests.remaining = 0;
    }
    LimitRefusal::requests(policy, rate, after, limits)
}

/// The steps that give back what a permit took; which of them are the caller's own requests.
fn give_back_steps<'c>(
    steps: &mut Steps,
    permit: &Permit,
    limits: &'c KeyBuckets,
    condition: Condition,
) -> Option<(&'c Bucket, usize)> {
    if let Some((key, name)) = permit.lease.as_ref().map(|lease| lease.entry()) {
        steps.release(key, name, condition);
    }
    let mut own = None;
    for taken in &permit.taken.redis {
        let step = steps.give_back(&taken.key, taken.amount, &taken.last_full_at, condition);
        let requests = limits.requests.as_ref();
        own = own.or(requests
            .filter(|requests| requests.key == taken.key)
            .map(|requests| (requests, step)));
    }
    own
}

/// One more stream of the caller's on this replica, for the time when it has to count alone.
fn counted<C: Clock>(account: &KeyCounters<C>, admission: Admission) -> Option<OpenStream> {
    (admission == Admission::Stream).then(|| account.streams.take_unchecked())
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
