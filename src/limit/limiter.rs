//! Who may pass, whether this process decides alone or all replicas together.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use governor::clock::{Clock, MonotonicClock};

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

use super::local::{Account, LocalLimits};
use super::redis::{RedisLimits, Time};
use super::{Admission, Estimate, LimitRefusal, Permit, RateLimits, Settings};

/// Asks the shared limits where there are some, and its own [`LocalLimits`] where there are none or
/// they cannot be asked.
#[derive(Debug)]
pub struct Limiter<C: Clock = MonotonicClock> {
    local: LocalLimits<C>,
    over_redis: Option<OverRedis>,
}

/// The state that replicas share, as a [`Limiter`] needs it.
#[derive(Debug, Clone)]
pub struct SharedState {
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
    /// Whether nobody may pass while the store cannot be asked; else this process decides alone.
    pub deny: bool,
}

#[derive(Debug)]
struct OverRedis {
    state: SharedState,
    redis: Arc<RedisLimits>,
    /// Whether the last question had no answer, so that a change is logged once.
    without_store: Arc<AtomicBool>,
}

impl Limiter {
    /// Needs a Tokio runtime where there is a shared state.
    pub fn new(settings: &Settings, state: Option<SharedState>) -> Self {
        Self {
            local: LocalLimits::new(settings),
            over_redis: state.map(|state| OverRedis::new(state, Arc::new(|| None))),
        }
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> Limiter<C> {
    /// A limiter whose time a test moves: this process's by `clock`, and the shared state's, in
    /// microseconds, by `time`.
    pub fn with_time(
        settings: &Settings,
        clock: C,
        state: SharedState,
        time: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let time = Arc::new(move || Some(time()));
        Self {
            local: LocalLimits::with_clock(settings, clock),
            over_redis: Some(OverRedis::new(state, time)),
        }
    }

    /// The limiter for a new configuration; see [`LocalLimits::reconfigured`]. Where the store stays, so
    /// does what it was not told yet.
    pub fn reconfigured(&self, settings: &Settings, state: Option<SharedState>) -> Self {
        let before = self.over_redis.as_ref();
        Self {
            local: self.local.reconfigured(settings),
            over_redis: state.map(|state| match before {
                Some(before) if Arc::ptr_eq(&before.state.store, &state.store) => OverRedis {
                    state,
                    redis: Arc::clone(&before.redis),
                    without_store: Arc::clone(&before.without_store),
                },
                _ => OverRedis::new(state, Arc::new(|| None)),
            }),
        }
    }

    /// The account of a configured key, by its name.
    pub fn account(&self, name: &str) -> Option<Account<C>> {
        self.local.account(name)
    }

    /// Streams open on this replica now.
    pub fn open_streams(&self) -> u64 {
        self.local.open_streams()
    }

    /// Counts a request against its address alone, because it asks for nothing new or its sender
    /// proved no key, and says where the address stands.
    ///
    /// # Errors
    /// As [`LocalLimits::admit_address`]; [`crate::model::ErrorCode::Overloaded`] if the shared state cannot
    /// be asked and nobody may pass without it.
    pub async fn admit_address(&self, address: IpAddr) -> Result<RateLimits, LimitRefusal> {
        if let Some(over_redis) = &self.over_redis {
            let rate = self.local.address_rate();
            let answer = over_redis.redis.admit_address(rate, address).await;
            if let Some(answer) = over_redis.answer_or_fallback(answer)? {
                return answer;
            }
        }
        self.local
            .admit_address(address)
            .map(|address_permit| address_permit.limits())
    }

    /// Asks every policy but the token budget. `caller` is `None` where no keys are configured.
    ///
    /// # Errors
    /// As [`LocalLimits::admit_address`] and [`LocalLimits::admit`]; [`crate::model::ErrorCode::Overloaded`] if
    /// the shared state cannot be asked and nobody may pass without it.
    pub async fn admit(
        &self,
        address: IpAddr,
        account: Option<&Account<C>>,
        admission: Admission,
    ) -> Result<Permit, LimitRefusal> {
        let counters = account.map(Account::counters);
        if let Some(over_redis) = &self.over_redis {
            let answer = over_redis
                .redis
                .admit(&self.local, address, counters, admission);
            if let Some(answer) = over_redis.answer_or_fallback(answer.await)? {
                return answer;
            }
        }
        let address_permit = self.local.admit_address(address)?;
        let mut permit = self.local.admit(address_permit, account, admission)?;
        if let Some(over_redis) = &self.over_redis {
            over_redis
                .redis
                .lease_later(&mut permit, counters, admission);
        }
        Ok(permit)
    }

    /// Reserves what the answer may cost of the caller's tokens; [`Permit::settle`] says later
    /// what it did cost.
    ///
    /// # Errors
    /// As [`LocalLimits::reserve`]; [`crate::model::ErrorCode::Overloaded`] if the shared state cannot
    /// be asked and nobody may pass without it.
    pub async fn reserve(
        &self,
        mut permit: Permit,
        account: Option<&Account<C>>,
        estimate: Estimate,
    ) -> Result<Permit, LimitRefusal> {
        let (Some(over_redis), Some(counters)) = (&self.over_redis, account.map(Account::counters))
        else {
            return self.local.reserve(permit, account, estimate);
        };
        let redis = &over_redis.redis;
        let answer = redis.reserve(&mut permit, counters, estimate).await;
        match over_redis.answer_or_fallback(answer) {
            Ok(Some(Ok(()))) => Ok(permit),
            Ok(Some(Err(refused))) | Err(refused) => {
                redis.give_back(&mut permit);
                // What was admitted by this process alone has something there.
                self.local.give_back_permit(permit, Some(counters));
                Err(refused)
            }
            Ok(None) => {
                let taken = std::mem::take(&mut permit.taken.redis);
                let reserved = self.local.reserve(permit, account, estimate);
                if reserved.is_err() {
                    for taken in taken {
                        redis.ledger.give_back(taken);
                    }
                }
                reserved
            }
        }
    }

    /// Lets a stream go on here that another replica had let in: it counts as open, and what is left
    /// of its answer may cost, and nobody asked for anything new.
    ///
    /// # Errors
    /// As [`Limiter::admit`] and [`Limiter::reserve`].
    pub async fn admit_takeover(
        &self,
        account: Option<&Account<C>>,
        estimate: Estimate,
    ) -> Result<Permit, LimitRefusal> {
        let permit = self.local.admit_takeover(account)?;
        self.reserve(permit, account, estimate).await
    }

    /// Waits until the shared state was told of every stream that has ended, or cannot be.
    pub async fn flush(&self) {
        if let Some(over_redis) = &self.over_redis {
            over_redis.redis.ledger.flush().await;
        }
    }
}

impl OverRedis {
    fn new(state: SharedState, time: Time) -> Self {
        let redis = RedisLimits::new(Arc::clone(&state.store), Arc::clone(&state.metrics), time);
        Self {
            state,
            redis: Arc::new(redis),
            without_store: Arc::default(),
        }
    }

    /// `None` where this process has to decide alone.
    ///
    /// # Errors
    /// Where it may not.
    fn answer_or_fallback<T>(
        &self,
        answer: Result<T, StoreError>,
    ) -> Result<Option<T>, LimitRefusal> {
        let changed =
            self.without_store.swap(answer.is_err(), Ordering::Relaxed) != answer.is_err();
        let error = match answer {
            Ok(answer) => {
                if changed {
                    tracing::info!("limits are counted over all replicas again");
                }
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        self.state
            .metrics
            .record_limit_without_store(self.state.deny);
        if self.state.deny {
            if changed {
                tracing::warn!(%error, "limits cannot be checked; requests are refused");
            }
            return Err(LimitRefusal::without_store());
        }
        if changed {
            tracing::warn!(%error, "limits are counted by this replica alone");
        }
        Ok(None)
    }
}
