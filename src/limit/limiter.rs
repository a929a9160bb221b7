//! Who may pass, whether this process decides alone or all replicas together.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use governor::clock::{Clock, MonotonicClock};

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

use super::local::{Account, Limiter};
use super::redis::{Shared, Time};
use super::{Estimate, Opens, Permit, RateLimits, Refused, Settings};

/// Asks the shared limits where there are some, and its own [`Limiter`] where there are none or
/// they cannot be asked.
#[derive(Debug)]
pub struct Gate<C: Clock = MonotonicClock> {
    limiter: Limiter<C>,
    over_replicas: Option<OverReplicas>,
}

/// The state that replicas share, as a [`Gate`] needs it.
#[derive(Debug, Clone)]
pub struct SharedState {
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
    /// Whether nobody may pass while the store cannot be asked; else this process decides alone.
    pub deny: bool,
}

#[derive(Debug)]
struct OverReplicas {
    state: SharedState,
    shared: Arc<Shared>,
    /// Whether the last question had no answer, so that a change is logged once.
    alone: Arc<AtomicBool>,
}

impl Gate {
    /// Needs a Tokio runtime where there is a shared state.
    pub fn new(settings: &Settings, state: Option<SharedState>) -> Self {
        Self {
            limiter: Limiter::new(settings),
            over_replicas: state.map(|state| OverReplicas::new(state, Arc::new(|| None))),
        }
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> Gate<C> {
    /// A gate whose time a test moves: this process's by `clock`, and the shared state's, in
    /// microseconds, by `time`.
    pub fn with_time(
        settings: &Settings,
        clock: C,
        state: SharedState,
        time: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let time = Arc::new(move || Some(time()));
        Self {
            limiter: Limiter::with_clock(settings, clock),
            over_replicas: Some(OverReplicas::new(state, time)),
        }
    }

    /// The gate for a new configuration; see [`Limiter::succeeded_by`]. Where the store stays, so
    /// does what it was not told yet.
    pub fn succeeded_by(&self, settings: &Settings, state: Option<SharedState>) -> Self {
        let before = self.over_replicas.as_ref();
        Self {
            limiter: self.limiter.succeeded_by(settings),
            over_replicas: state.map(|state| match before {
                Some(before) if Arc::ptr_eq(&before.state.store, &state.store) => OverReplicas {
                    state,
                    shared: Arc::clone(&before.shared),
                    alone: Arc::clone(&before.alone),
                },
                _ => OverReplicas::new(state, Arc::new(|| None)),
            }),
        }
    }

    /// The account of a configured key, by its name.
    pub fn account(&self, name: &str) -> Option<Account<C>> {
        self.limiter.account(name)
    }

    /// Streams open on this replica now.
    pub fn open_streams(&self) -> u64 {
        self.limiter.open_streams()
    }

    /// Counts a request against its address alone, because it asks for nothing new or its sender
    /// proved no key, and says where the address stands.
    ///
    /// # Errors
    /// As [`Limiter::arrive`]; [`crate::model::ErrorCode::Overloaded`] if the shared state cannot
    /// be asked and nobody may pass without it.
    pub async fn visit(&self, address: IpAddr) -> Result<RateLimits, Refused> {
        if let Some(replicas) = &self.over_replicas {
            let rate = self.limiter.address_rate();
            let answer = replicas.shared.arrive(rate, address).await;
            if let Some(decided) = replicas.decided(answer)? {
                return decided;
            }
        }
        self.limiter.arrive(address).map(|arrival| arrival.limits())
    }

    /// Asks every policy but the token budget. `caller` is `None` where no keys are configured.
    ///
    /// # Errors
    /// As [`Limiter::arrive`] and [`Limiter::admit`]; [`crate::model::ErrorCode::Overloaded`] if
    /// the shared state cannot be asked and nobody may pass without it.
    pub async fn admit(
        &self,
        address: IpAddr,
        caller: Option<&Account<C>>,
        opens: Opens,
    ) -> Result<Permit, Refused> {
        let standing = caller.map(Account::standing);
        if let Some(replicas) = &self.over_replicas {
            let asked = replicas
                .shared
                .admit(&self.limiter, address, standing, opens);
            if let Some(decided) = replicas.decided(asked.await)? {
                return decided;
            }
        }
        let arrival = self.limiter.arrive(address)?;
        let mut permit = self.limiter.admit(arrival, caller, opens)?;
        if let Some(replicas) = &self.over_replicas {
            replicas.shared.lease_later(&mut permit, standing, opens);
        }
        Ok(permit)
    }

    /// Reserves what the answer may cost of the caller's tokens; [`Permit::settle`] says later
    /// what it did cost.
    ///
    /// # Errors
    /// As [`Limiter::reserve`]; [`crate::model::ErrorCode::Overloaded`] if the shared state cannot
    /// be asked and nobody may pass without it.
    pub async fn reserve(
        &self,
        mut permit: Permit,
        caller: Option<&Account<C>>,
        estimate: Estimate,
    ) -> Result<Permit, Refused> {
        let (Some(replicas), Some(standing)) = (&self.over_replicas, caller.map(Account::standing))
        else {
            return self.limiter.reserve(permit, caller, estimate);
        };
        let shared = &replicas.shared;
        let answer = shared.reserve(&mut permit, standing, estimate).await;
        match replicas.decided(answer) {
            Ok(Some(Ok(()))) => Ok(permit),
            Ok(Some(Err(refused))) | Err(refused) => {
                shared.give_back(&mut permit);
                // What was admitted by this process alone has something there.
                self.limiter.undo(permit, Some(standing));
                Err(refused)
            }
            Ok(None) => {
                let taken = std::mem::take(&mut permit.taken.shared);
                let reserved = self.limiter.reserve(permit, caller, estimate);
                if reserved.is_err() {
                    for taken in taken {
                        shared.ledger.give_back(taken);
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
    /// As [`Gate::admit`] and [`Gate::reserve`].
    pub async fn take_over(
        &self,
        caller: Option<&Account<C>>,
        estimate: Estimate,
    ) -> Result<Permit, Refused> {
        let permit = self.limiter.take_over(caller)?;
        self.reserve(permit, caller, estimate).await
    }

    /// Waits until the shared state was told of every stream that has ended, or cannot be.
    pub async fn settled(&self) {
        if let Some(replicas) = &self.over_replicas {
            replicas.shared.ledger.told().await;
        }
    }
}

impl OverReplicas {
    fn new(state: SharedState, time: Time) -> Self {
        let shared = Shared::new(Arc::clone(&state.store), Arc::clone(&state.metrics), time);
        Self {
            state,
            shared: Arc::new(shared),
            alone: Arc::default(),
        }
    }

    /// `None` where this process has to decide alone.
    ///
    /// # Errors
    /// Where it may not.
    fn decided<T>(&self, answer: Result<T, StoreError>) -> Result<Option<T>, Refused> {
        let changed = self.alone.swap(answer.is_err(), Ordering::Relaxed) != answer.is_err();
        let error = match answer {
            Ok(answer) => {
                if changed {
                    tracing::info!("limits are counted over all replicas again");
                }
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        self.state.metrics.limited_alone(self.state.deny);
        if self.state.deny {
            if changed {
                tracing::warn!(%error, "limits cannot be checked; requests are refused");
            }
            return Err(Refused::without_store());
        }
        if changed {
            tracing::warn!(%error, "limits are counted by this replica alone");
        }
        Ok(None)
    }
}
