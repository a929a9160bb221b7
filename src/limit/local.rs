//! The limits of this process alone. Nothing here waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use governor::clock::{Clock, MonotonicClock};

use crate::model::Rate;

use super::address::Address;
use super::bucket::KeyBuckets;
use super::budget::TokenBudget;
use super::cells::{AddressCells, Cells, SingleCell};
use super::permit::{Backend, Reservation, Taken, TakenFromAddress};
use super::refusal::Policy;
use super::requests::RequestLimit;
use super::streams::{OpenStream, StreamLimit};
use super::{Admission, Estimate, KeySettings, LimitRefusal, Permit, RateLimits, Settings};

/// Decides who may pass. `C` is the clock, so that a test can move time.
#[derive(Debug)]
pub struct LocalLimits<C: Clock = MonotonicClock> {
    clock: C,
    pub(super) streams: StreamLimit,
    addresses: Option<Arc<RequestLimit<AddressCells, C>>>,
    accounts: HashMap<String, Account<C>>,
}

/// One configured key's standing with a [`LocalLimits`]; cheap to clone and kept with the key.
#[derive(Debug)]
pub struct Account<C: Clock = MonotonicClock>(Arc<KeyCounters<C>>);

#[derive(Debug)]
pub(super) struct KeyCounters<C: Clock> {
    requests: Option<Arc<RequestLimit<SingleCell, C>>>,
    tokens: Option<Arc<TokenBudget<C>>>,
    pub(super) streams: StreamLimit,
    pub(super) buckets: KeyBuckets,
}

/// A request whose address may make it. Dropping it leaves the request counted;
/// [`LocalLimits::admit`] and [`LocalLimits::give_back`] may undo that.
#[derive(Debug)]
pub struct AddressPermit {
    taken: Option<TakenFromAddress>,
    limits: RateLimits,
}

impl LocalLimits {
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings, MonotonicClock)
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> LocalLimits<C> {
    pub fn with_clock(settings: &Settings, clock: C) -> Self {
        Self::build(settings, clock, None)
    }

    /// The limiter for a new configuration. Open streams stay counted, for the replica and for
    /// every key whose name stays; a rate that did not change keeps what was used of it.
    pub fn reconfigured(&self, settings: &Settings) -> Self {
        Self::build(settings, self.clock.clone(), Some(self))
    }

    fn build(settings: &Settings, clock: C, before: Option<&Self>) -> Self {
        let account = |limits: &KeySettings| {
            let before = before.and_then(|before| before.accounts.get(&limits.name));
            let before = before.map(|account| &*account.0);
            let requests = before.and_then(|before| before.requests.as_ref());
            let tokens = before.and_then(|before| before.tokens.as_ref());
            Account(Arc::new(KeyCounters {
                requests: limits.requests.map(|rate| {
                    unchanged(requests, rate).unwrap_or_else(|| {
                        RequestLimit::new(rate, |_| SingleCell::default(), clock.clone()).into()
                    })
                }),
                tokens: limits.tokens.map(|rate| {
                    let same = tokens.filter(|tokens| tokens.rate() == rate);
                    same.cloned()
                        .unwrap_or_else(|| TokenBudget::new(rate, clock.clone()).into())
                }),
                streams: StreamLimit::new(limits.streams, before.map(|before| &before.streams)),
                buckets: KeyBuckets::of(limits),
            }))
        };
        let addresses = before.and_then(|before| before.addresses.as_ref());
        Self {
            streams: StreamLimit::new(settings.streams, before.map(|before| &before.streams)),
            addresses: settings.per_address.map(|rate| {
                let cells = |interval| AddressCells::new(settings.addresses, interval);
                unchanged(addresses, rate)
                    .unwrap_or_else(|| RequestLimit::new(rate, cells, clock.clone()).into())
            }),
            accounts: settings
                .keys
                .iter()
                .map(|limits| (limits.name.clone(), account(limits)))
                .collect(),
            clock,
        }
    }

    /// The account of a configured key, by its name.
    pub fn account(&self, name: &str) -> Option<Account<C>> {
        self.accounts.get(name).cloned()
    }

    /// Takes one of the address's requests, before anything else is known of the request.
    ///
    /// When as many addresses are remembered as may be, those whose requests have all come back
    /// are forgotten; where that is not enough, newcomers share one allowance, so that a flood of
    /// addresses is limited more, never less.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::RateLimited`], with the time after which the address may go on.
    pub fn admit_address(&self, address: IpAddr) -> Result<AddressPermit, LimitRefusal> {
        let Some(requests) = &self.addresses else {
            return Ok(AddressPermit {
                taken: None,
                limits: RateLimits::default(),
            });
        };
        match requests.take(&Address::from(address)) {
            Ok((last_full_at, status)) => Ok(AddressPermit {
                taken: Some(TakenFromAddress::new(address, last_full_at)),
                limits: RateLimits::of(status),
            }),
            Err((after, status)) => Err(LimitRefusal::requests(
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
        address_permit: AddressPermit,
        account: Option<&Account<C>>,
        admission: Admission,
    ) -> Result<Permit, LimitRefusal> {
        match self.admit_key(account.map(Account::counters), admission) {
            Ok(mut permit) => {
                permit.limits = permit.limits.or(address_permit.limits);
                permit.taken.address = address_permit.taken;
                Ok(permit)
            }
            Err(mut refused) => {
                refused.limits = refused.limits.or(self.give_back(address_permit));
                Err(refused)
            }
        }
    }

    /// Counts a stream as open that was let in elsewhere.
    ///
    /// # Errors
    /// As [`LocalLimits::admit`], but for the requests.
    pub fn admit_takeover(&self, account: Option<&Account<C>>) -> Result<Permit, LimitRefusal> {
        let account = account.map(Account::counters);
        Ok(Permit {
            _streams: self.open_streams_of(account, RateLimits::default)?,
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
        account: Option<&Account<C>>,
        estimate: Estimate,
    ) -> Result<Permit, LimitRefusal> {
        let account = account.map(Account::counters);
        let Some(budget) = account.and_then(|account| account.tokens.as_ref()) else {
            return Ok(permit);
        };
        let limit = budget.rate().amount;
        let Some(reserved) = estimate.reserved(limit) else {
            let limits = self.give_back_permit(permit, account);
            return Err(LimitRefusal::too_many_tokens(&estimate, limit, limits));
        };
        match budget.take(reserved) {
            Ok((last_full_at, status)) => {
                permit.limits.tokens = Some(status);
                permit.tokens = Some(Reservation {
                    backend: Backend::Local(Arc::clone(budget) as _, last_full_at),
                    estimate,
                    reserved,
                    used: 0,
                });
                Ok(permit)
            }
            Err((after, status)) => {
                let mut limits = self.give_back_permit(permit, account);
                limits.tokens = Some(status);
                Err(LimitRefusal::tokens(budget.rate(), after, limits))
            }
        }
    }

    /// Gives the address its request back, for a refusal that is nobody's doing, and says where
    /// the address stands now. What has come back to it by itself meanwhile is not given twice.
    pub fn give_back(&self, address_permit: AddressPermit) -> RateLimits {
        self.give_back_to_address(address_permit.taken)
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
    pub(super) fn give_back_permit(
        &self,
        mut permit: Permit,
        account: Option<&KeyCounters<C>>,
    ) -> RateLimits {
        let Taken {
            address, request, ..
        } = std::mem::take(&mut permit.taken);
        let requests = account.and_then(|account| account.requests.as_ref());
        let own = match (requests, request) {
            (Some(requests), Some(last_full_at)) => {
                requests.give_back(&(), last_full_at);
                RateLimits::of(requests.status(&()))
            }
            _ => RateLimits::default(),
        };
        own.or(self.give_back_to_address(address)).or(permit.limits)
    }

    fn give_back_to_address(&self, taken: Option<TakenFromAddress>) -> RateLimits {
        match (&self.addresses, taken) {
            (Some(requests), Some(taken)) => {
                requests.give_back(&taken.address, taken.last_full_at);
                RateLimits::of(requests.status(&taken.address))
            }
            _ => RateLimits::default(),
        }
    }

    /// One more stream, of this replica and of the caller. Who is refused is told where the caller
    /// stands.
    fn open_streams_of(
        &self,
        account: Option<&KeyCounters<C>>,
        limits: impl Fn() -> RateLimits,
    ) -> Result<[Option<OpenStream>; 2], LimitRefusal> {
        let open = |policy, streams: &StreamLimit| {
            let opened = streams.take();
            opened.map_err(|limit| LimitRefusal::streams(policy, limit, limits()))
        };
        let account = account.map(|account| (Policy::Caller, &account.streams));
        Ok([
            Some(open(Policy::Replica, &self.streams)?),
            account.map(|(policy, own)| open(policy, own)).transpose()?,
        ])
    }

    /// Everything but the address's policy. The caller's request is taken last, so that only
    /// streams have to be given back, which dropping does.
    fn admit_key(
        &self,
        account: Option<&KeyCounters<C>>,
        admission: Admission,
    ) -> Result<Permit, LimitRefusal> {
        let requests = account.and_then(|account| account.requests.as_ref());
        let tokens = account.and_then(|account| account.tokens.as_ref());
        let tokens = tokens.map(|tokens| tokens.status());
        let streams = match admission {
            Admission::Stream => {
                let requests = || requests.map(|requests| requests.status(&()));
                self.open_streams_of(account, || RateLimits {
                    requests: requests(),
                    tokens,
                })?
            }
            Admission::Request => [None, None],
        };
        let taken = requests.map(|requests| {
            requests.take(&()).map_err(|(after, status)| {
                let requests_now = Some(status);
                let limits = RateLimits {
                    requests: requests_now,
                    tokens,
                };
                LimitRefusal::requests(Policy::Caller, requests.rate(), after, limits)
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
fn unchanged<S: Cells, C: Clock>(
    before: Option<&Arc<RequestLimit<S, C>>>,
    rate: Rate,
) -> Option<Arc<RequestLimit<S, C>>> {
    before.filter(|before| before.rate() == rate).cloned()
}

impl<C: Clock> Account<C> {
    /// The key's streams open now.
    pub fn open_streams(&self) -> u64 {
        self.0.streams.open()
    }

    pub(super) fn counters(&self) -> &KeyCounters<C> {
        &self.0
    }
}

impl<C: Clock> Clone for Account<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl AddressPermit {
    /// Where the address stands, for an answer that knows no caller.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }
}
