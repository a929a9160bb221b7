//! Decides who may pass: from the counts of this process, or from those that replicas share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use governor::clock::{Clock, MonotonicClock};

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

use super::check::{Check, FailedCheck, Taken, check_locally};
use super::local::{Account, LocalLimits};
use super::redis::RedisLimits;
use super::script::Time;
use super::{Admission, Estimate, LimitRefusal, Permit, RateLimits, Settings};

/// Checks the shared limits where replicas share a state, and its own [`LocalLimits`] where they
/// do not, or where the state does not answer.
#[derive(Debug)]
pub struct Limiter<C: Clock = MonotonicClock> {
    local: LocalLimits<C>,
    shared: Option<SharedLimits>,
    metrics: Arc<Metrics>,
}

/// The state that replicas share, as a [`Limiter`] needs it.
#[derive(Debug, Clone)]
pub struct SharedState {
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
    /// Whether requests are refused while the store does not answer. Otherwise this process decides
    /// from its own counts.
    pub deny: bool,
}

#[derive(Debug)]
struct SharedLimits {
    state: SharedState,
    redis: Arc<RedisLimits>,
    /// Whether the last check had no answer, so that a change is logged once.
    without_store: Arc<AtomicBool>,
}

impl Limiter {
    /// Needs a Tokio runtime where there is a shared state.
    pub fn new(settings: &Settings, state: Option<SharedState>, metrics: Arc<Metrics>) -> Self {
        Self {
            local: LocalLimits::new(settings),
            shared: state.map(|state| SharedLimits::new(state, Arc::new(|| None))),
            metrics,
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
            metrics: Arc::clone(&state.metrics),
            shared: Some(SharedLimits::new(state, time)),
        }
    }

    /// The limiter for a new configuration; see [`LocalLimits::reconfigured`]. Where the store stays
    /// the same, settlements that it did not get yet are kept.
    pub fn reconfigured(&self, settings: &Settings, state: Option<SharedState>) -> Self {
        let before = self.shared.as_ref();
        Self {
            local: self.local.reconfigured(settings),
            metrics: Arc::clone(&self.metrics),
            shared: state.map(|state| match before {
                Some(before) if Arc::ptr_eq(&before.state.store, &state.store) => SharedLimits {
                    state,
                    redis: Arc::clone(&before.redis),
                    without_store: Arc::clone(&before.without_store),
                },
                _ => SharedLimits::new(state, Arc::new(|| None)),
            }),
        }
    }

    /// The account of a configured key, by its name.
    pub fn account(&self, name: &str) -> Option<Account> {
        self.local.account(name)
    }

    /// Streams open on this replica now.
    pub fn open_streams(&self) -> u64 {
        self.local.open_streams()
    }

    /// Counts a request against its address alone, because it asks a model for nothing or has no
    /// valid key. Returns the status of the address.
    ///
    /// # Errors
    /// As [`LocalLimits::admit_address`]; [`crate::model::ErrorCode::Overloaded`] if the shared
    /// state does not answer and requests are refused then.
    pub async fn admit_address(&self, address: IpAddr) -> Result<RateLimits, LimitRefusal> {
        let checks = self.local.address_checks(address);
        match self.check(&checks, &mut Vec::new()).await? {
            Ok(limits) => Ok(limits),
            Err(failed) => Err(self.refuse(&failed)),
        }
    }

    /// Checks every policy, but takes no tokens. `account` is `None` where no keys are configured.
    ///
    /// # Errors
    /// As [`LocalLimits::admit_address`] and [`LocalLimits::admit`];
    /// [`crate::model::ErrorCode::Overloaded`] if the shared state does not answer and requests are
    /// refused then.
    pub async fn admit(
        &self,
        address: IpAddr,
        account: Option<&Account>,
        admission: Admission,
    ) -> Result<Permit, LimitRefusal> {
        let checks = self.local.admission_checks(address, account, admission);
        let mut taken = Vec::new();
        match self.check(&checks, &mut taken).await? {
            Ok(limits) => Ok(Permit::new(limits, taken)),
            Err(failed) => Err(self.refuse(&failed)),
        }
    }

    /// Reserves what the answer may cost of the key's tokens; [`Permit::settle`] states later what
    /// it did cost.
    ///
    /// # Errors
    /// As [`LocalLimits::reserve`]; [`crate::model::ErrorCode::Overloaded`] if the shared state
    /// does not answer and requests are refused then. Everything that the permit holds is given
    /// back.
    pub async fn reserve(
        &self,
        mut permit: Permit,
        account: Option<&Account>,
        estimate: Estimate,
    ) -> Result<Permit, LimitRefusal> {
        let checks = self.local.token_checks(account, &estimate);
        if checks.is_empty() {
            return Ok(permit);
        }
        match self.check(&checks, &mut permit.taken).await? {
            Ok(limits) => {
                permit.set_reservation(limits, estimate);
                Ok(permit)
            }
            Err(failed) => {
                self.metrics.record_limit_refusal(failed.policy.name);
                Err(LimitRefusal::after_admission(&failed, &permit, estimate))
            }
        }
    }

    /// Admits a stream that this replica continues for another one, which had admitted it: it
    /// counts as open, the rest of its answer may cost tokens, and it is no new request.
    ///
    /// # Errors
    /// As [`Limiter::admit`] and [`Limiter::reserve`].
    pub async fn admit_takeover(
        &self,
        account: Option<&Account>,
        estimate: Estimate,
    ) -> Result<Permit, LimitRefusal> {
        let mut taken = Vec::new();
        check_locally(&self.local.takeover_checks(account), &mut taken)
            .map_err(|failed| self.refuse(&failed))?;
        let permit = Permit::new(RateLimits::default(), taken);
        self.reserve(permit, account, estimate).await
    }

    /// Waits until the shared state has every settlement of streams that ended, or cannot get it.
    pub async fn flush(&self) {
        if let Some(shared) = &self.shared {
            shared.redis.ledger.flush().await;
        }
    }

    fn refuse(&self, failed: &FailedCheck) -> LimitRefusal {
        self.metrics.record_limit_refusal(failed.policy.name);
        LimitRefusal::new(failed, None)
    }

    /// Runs the checks over the shared state, or in this process where there is none or it does not
    /// answer.
    ///
    /// # Errors
    /// The shared state does not answer, and requests are refused then.
    async fn check(
        &self,
        checks: &[Check<'_>],
        taken: &mut Vec<Taken>,
    ) -> Result<Result<RateLimits, FailedCheck>, LimitRefusal> {
        let Some(shared) = &self.shared else {
            return Ok(check_locally(checks, taken));
        };
        match shared.redis.check(checks, taken).await {
            Ok(checked) => {
                shared.record_answer();
                Ok(checked)
            }
            Err(error) => {
                if let Err(refused) = shared.record_failure(&error) {
                    for unit in taken.drain(..) {
                        unit.give_back();
                    }
                    return Err(refused);
                }
                let checked = check_locally(checks, taken);
                if checked.is_ok() {
                    shared.redis.lease_later(checks, taken);
                }
                Ok(checked)
            }
        }
    }
}

impl SharedLimits {
    fn new(state: SharedState, time: Time) -> Self {
        let redis = RedisLimits::new(Arc::clone(&state.store), Arc::clone(&state.metrics), time);
        Self {
            state,
            redis: Arc::new(redis),
            without_store: Arc::default(),
        }
    }

    fn record_answer(&self) {
        if self.without_store.swap(false, Ordering::Relaxed) {
            tracing::info!("limits are counted over all replicas again");
        }
    }

    /// # Errors
    /// Requests are refused without the shared state.
    fn record_failure(&self, error: &StoreError) -> Result<(), LimitRefusal> {
        let changed = !self.without_store.swap(true, Ordering::Relaxed);
        self.state
            .metrics
            .record_limit_without_store(self.state.deny);
        if self.state.deny {
            if changed {
                tracing::warn!(
                    %error,
                    "requests are refused while the shared state is down (`on_store_failure: deny`)"
                );
            }
            return Err(LimitRefusal::without_store());
        }
        if changed {
            tracing::warn!(
                %error,
                "limits are counted by this replica alone while the shared state is down"
            );
        }
        Ok(())
    }
}
