//! The limits of this process alone. Nothing here waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use governor::clock::{Clock, MonotonicClock};

use crate::model::Rate;

use super::address::Address;
use super::bucket::SharedLimits;
use super::budget::Budget;
use super::cells::{AddressCells, Cells, OneCell};
use super::permit::{Reservation, Source, Taken, TakenOfAddress};
use super::refusal::Policy;
use super::requests::Requests;
use super::streams::{OpenStream, Streams};
use super::{CallerLimits, Estimate, Opens, Permit, RateLimits, Refused, Settings};

/// Decides who may pass. `C` is the clock, so that a test can move time.
#[derive(Debug)]
pub struct Limiter<C: Clock = MonotonicClock> {
    clock: C,
    pub(super) streams: Streams,
    addresses: Option<Arc<Requests<AddressCells, C>>>,
    callers: HashMap<String, Account<C>>,
}

/// One configured key's standing with a [`Limiter`]; cheap to clone and kept with the key.
#[derive(Debug)]
pub struct Account<C: Clock = MonotonicClock>(Arc<Standing<C>>);

#[derive(Debug)]
pub(super) struct Standing<C: Clock> {
    requests: Option<Arc<Requests<OneCell, C>>>,
    tokens: Option<Arc<Budget<C>>>,
    pub(super) streams: Streams,
    pub(super) shared: SharedLimits,
}

/// A request whose address may make it. Dropping it leaves the request counted;
/// [`Limiter::admit`] and [`Limiter::give_back`] may undo that.
#[derive(Debug)]
pub struct Arrival {
    taken: Option<TakenOfAddress>,
    limits: RateLimits,
}

impl Limiter {
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings, MonotonicClock)
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> Limiter<C> {
    pub fn with_clock(settings: &Settings, clock: C) -> Self {
        Self::built(settings, clock, None)
    }

    /// The limiter for a new configuration. Open streams stay counted, for the replica and for
    /// every key whose name stays; a rate that did not change keeps what was used of it.
    pub fn succeeded_by(&self, settings: &Settings) -> Self {
        Self::built(settings, self.clock.clone(), Some(self))
    }

    fn built(settings: &Settings, clock: C, before: Option<&Self>) -> Self {
        let account = |limits: &CallerLimits| {
            let before = before.and_then(|before| before.callers.get(&limits.name));
            let before = before.map(|account| &*account.0);
            let requests = before.and_then(|before| before.requests.as_ref());
            let tokens = before.and_then(|before| before.tokens.as_ref());
            Account(Arc::new(Standing {
                requests: limits.requests.map(|rate| {
                    kept(requests, rate).unwrap_or_else(|| {
                        Requests::new(rate, |_| OneCell::default(), clock.clone()).into()
                    })
                }),
                tokens: limits.tokens.map(|rate| {
                    let same = tokens.filter(|tokens| tokens.rate() == rate);
                    same.cloned()
                        .unwrap_or_else(|| Budget::new(rate, clock.clone()).into())
                }),
                streams: Streams::new(limits.streams, before.map(|before| &before.streams)),
                shared: SharedLimits::of(limits),
            }))
        };
        let addresses = before.and_then(|before| before.addresses.as_ref());
        Self {
            streams: Streams::new(settings.streams, before.map(|before| &before.streams)),
            addresses: settings.per_address.map(|rate| {
                let cells = |weight| AddressCells::new(settings.addresses, weight);
                kept(addresses, rate)
                    .unwrap_or_else(|| Requests::new(rate, cells, clock.clone()).into())
            }),
            callers: settings
                .callers
                .iter()
                .map(|limits| (limits.name.clone(), account(limits)))
                .collect(),
            clock,
        }
    }

    /// The account of a configured key, by its name.
    pub fn account(&self, name: &str) -> Option<Account<C>> {
        self.callers.get(name).cloned()
    }

    /// Takes one of the address's requests, before anything else is known of the request.
    ///
    /// When as many addresses are remembered as may be, those whose requests have all come back
    /// are forgotten; where that is not enough, newcomers share one allowance, so that a flood of
    /// addresses is limited more, never less.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::RateLimited`], with the time after which the address may go on.
    pub fn arrive(&self, address: IpAddr) -> Result<Arrival, Refused> {
        let Some(requests) = &self.addresses else {
            return Ok(Arrival {
                taken: None,
                limits: RateLimits::default(),
            });
        };
        match requests.take(&Address::from(address)) {
            Ok((busy_since, status)) => Ok(Arrival {
                taken: Some(TakenOfAddress::new(address, busy_since)),
                limits: RateLimits::of(status),
            }),
            Err((after, status)) => Err(Refused::requests(
                Policy::Address,
                requests.rate(),
                after,
                RateLimits::of(status),
            )),
        }
    }

    /// Asks all the other policies but the token budget. `caller` is `None` where no keys are
    /// configured.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::Overloaded`] if this replica has no stream left,
    /// [`crate::model::ErrorCode::RateLimited`] if the caller has no stream or request left. The
    /// address has its request back then.
    pub fn admit(
        &self,
        arrival: Arrival,
        caller: Option<&Account<C>>,
        opens: Opens,
    ) -> Result<Permit, Refused> {
        match self.ask(caller.map(Account::standing), opens) {
            Ok(mut permit) => {
                permit.limits = permit.limits.or(arrival.limits);
                permit.taken.address = arrival.taken;
                Ok(permit)
            }
            Err(mut refused) => {
                refused.limits = refused.limits.or(self.give_back(arrival));
                Err(refused)
            }
        }
    }

    /// Counts a stream as open that was let in elsewhere.
    ///
    /// # Errors
    /// As [`Limiter::admit`], but for the requests.
    pub fn take_over(&self, caller: Option<&Account<C>>) -> Result<Permit, Refused> {
        let caller = caller.map(Account::standing);
        Ok(Permit {
            _streams: self.open(caller, RateLimits::default)?,
            ..Permit::default()
        })
    }

    /// Reserves what the answer may cost of the caller's tokens; [`Permit::settle`] says later
    /// what it did cost.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::RateLimited`] if the caller has not so many tokens left,
    /// [`crate::model::ErrorCode::InvalidRequest`] if it never will. Everything that the permit
    /// stood for is given back then.
    pub fn reserve(
        &self,
        mut permit: Permit,
        caller: Option<&Account<C>>,
        estimate: Estimate,
    ) -> Result<Permit, Refused> {
        let caller = caller.map(Account::standing);
        let Some(budget) = caller.and_then(|caller| caller.tokens.as_ref()) else {
            return Ok(permit);
        };
        let limit = budget.rate().amount;
        let Some(reserved) = estimate.reserved(limit) else {
            let limits = self.undo(permit, caller);
            return Err(Refused::too_many_tokens(&estimate, limit, limits));
        };
        match budget.take(reserved) {
            Ok((busy_since, status)) => {
                permit.limits.tokens = Some(status);
                permit.tokens = Some(Reservation {
                    from: Source::Local(Arc::clone(budget) as _, busy_since),
                    estimate,
                    reserved,
                    used: 0,
                });
                Ok(permit)
            }
            Err((after, status)) => {
                let mut limits = self.undo(permit, caller);
                limits.tokens = Some(status);
                Err(Refused::tokens(budget.rate(), after, limits))
            }
        }
    }

    /// Gives the address its request back, for a refusal that is nobody's doing, and says where
    /// the address stands now. What has come back to it by itself meanwhile is not given twice.
    pub fn give_back(&self, arrival: Arrival) -> RateLimits {
        self.give_back_to_address(arrival.taken)
    }

    /// Streams open now.
    pub fn open_streams(&self) -> u64 {
        self.streams.open()
    }

    /// Addresses remembered now.
    pub fn addresses(&self) -> usize {
        self.addresses
            .as_ref()
            .map_or(0, |requests| requests.kept())
    }

    /// The rate of every address.
    pub(super) fn address_rate(&self) -> Option<Rate> {
        self.addresses.as_ref().map(|requests| requests.rate())
    }

    /// Gives back what was taken in this process, and says where its holder stands now.
    pub(super) fn undo(&self, mut permit: Permit, caller: Option<&Standing<C>>) -> RateLimits {
        let Taken {
            address, request, ..
        } = std::mem::take(&mut permit.taken);
        let requests = caller.and_then(|caller| caller.requests.as_ref());
        let own = match (requests, request) {
            (Some(requests), Some(busy_since)) => {
                requests.give_back(&(), busy_since);
                RateLimits::of(requests.status(&()))
            }
            _ => RateLimits::default(),
        };
        own.or(self.give_back_to_address(address)).or(permit.limits)
    }

    fn give_back_to_address(&self, taken: Option<TakenOfAddress>) -> RateLimits {
        match (&self.addresses, taken) {
            (Some(requests), Some(taken)) => {
                requests.give_back(&taken.address, taken.busy_since);
                RateLimits::of(requests.status(&taken.address))
            }
            _ => RateLimits::default(),
        }
    }

    /// One more stream, of this replica and of the caller. Who is refused is told where the caller
    /// stands.
    fn open(
        &self,
        caller: Option<&Standing<C>>,
        standing: impl Fn() -> RateLimits,
    ) -> Result<[Option<OpenStream>; 2], Refused> {
        let open = |policy, streams: &Streams| {
            let opened = streams.open_one();
            opened.map_err(|limit| Refused::streams(policy, limit, standing()))
        };
        let caller = caller.map(|caller| (Policy::Caller, &caller.streams));
        Ok([
            Some(open(Policy::Replica, &self.streams)?),
            caller.map(|(policy, own)| open(policy, own)).transpose()?,
        ])
    }

    /// Everything but the address's policy. The caller's request is taken last, so that only
    /// streams have to be given back, which dropping does.
    fn ask(&self, caller: Option<&Standing<C>>, opens: Opens) -> Result<Permit, Refused> {
        let requests = caller.and_then(|caller| caller.requests.as_ref());
        let tokens = caller.and_then(|caller| caller.tokens.as_ref());
        let tokens = tokens.map(|tokens| tokens.status());
        let streams = match opens {
            Opens::Stream => {
                let requests = || requests.map(|requests| requests.status(&()));
                self.open(caller, || RateLimits {
                    requests: requests(),
                    tokens,
                })?
            }
            Opens::Nothing => [None, None],
        };
        let taken = requests.map(|requests| {
            requests.take(&()).map_err(|(after, status)| {
                let requests_now = Some(status);
                let limits = RateLimits {
                    requests: requests_now,
                    tokens,
                };
                Refused::requests(Policy::Caller, requests.rate(), after, limits)
            })
        });
        let (request, status) = taken.transpose()?.unzip();
        Ok(Permit {
            limits: RateLimits {
                requests: status,
                tokens,
            },
            taken: Taken {
                request,
                ..Taken::default()
            },
            _streams: streams,
            ..Permit::default()
        })
    }
}

/// The limit that was there before, if its rate is still the same.
fn kept<S: Cells, C: Clock>(
    before: Option<&Arc<Requests<S, C>>>,
    rate: Rate,
) -> Option<Arc<Requests<S, C>>> {
    before.filter(|before| before.rate() == rate).cloned()
}

impl<C: Clock> Account<C> {
    /// The key's streams open now.
    pub fn open_streams(&self) -> u64 {
        self.0.streams.open()
    }

    pub(super) fn standing(&self) -> &Standing<C> {
        &self.0
    }
}

impl<C: Clock> Clone for Account<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Arrival {
    /// Where the address stands, for an answer that knows no caller.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }
}
