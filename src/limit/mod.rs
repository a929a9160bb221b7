//! How much one caller, one address and this replica may do: requests per time, and open streams.
//!
//! A request passes in two steps, because an address's limit has to hold before anybody is
//! authenticated: [`Limiter::arrive`] takes one of the address's requests, and once the caller is
//! known [`Limiter::admit`] asks every other policy and gives a [`Permit`] that is kept as long as
//! the answer runs. A refusal by one policy uses up nothing of another: what was taken before it is
//! given back. A request that is refused for want of a key never reaches `admit`, so it stays
//! counted against its address and leaves no other trace.
//!
//! | policy | counts | refusal |
//! |---|---|---|
//! | requests per address | before authentication; IPv6 by /64 | `rate_limited` |
//! | streams of this replica | while they are open | `overloaded` |
//! | streams per key | while they are open | `rate_limited` |
//! | requests per key | when everything else agreed | `rate_limited` |
//!
//! **The arithmetic** is the generic cell rate algorithm, as the `governor` crate does it: a limit
//! of 600 a minute is a bucket of 600 that regains one every 100 ms. So all 600 may come at once,
//! and over any time `T` at most 600 + 600 × `T` ÷ 1 min pass: a window of a minute that begins
//! with a full bucket can see nearly twice the rate.
//!
//! **Memory** is bounded: keys are those of the configuration, and of addresses no more than
//! [`Settings::addresses`] are remembered. See [`Limiter::arrive`] for what happens beyond.
//!
//! Everything here is in this process and never waits. Callers are held by name, so that a limiter
//! for a new configuration can take over the counts of the names that it shares with the old one; a
//! store that replicas share and a token budget fit behind the same two steps.

mod address;
mod cells;
mod refusal;
mod requests;
mod status;
mod streams;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use governor::clock::{Clock, MonotonicClock};
use governor::nanos::Nanos;

use crate::model::Rate;
use address::Address;
use cells::{AddressCells, Cells, OneCell};
use refusal::Policy;
use requests::Requests;
use streams::{OpenStream, Streams};

pub use refusal::Refused;
pub use status::{RateLimitStatus, RateLimits};

/// What is limited, and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Streams that this replica holds open at once; `None` is no limit.
    pub streams: Option<u64>,
    /// Requests of one address, counted before authentication.
    pub per_address: Option<Rate>,
    /// How many addresses are remembered at most.
    pub addresses: usize,
    /// The configured keys. Of two with the same name the last one holds.
    pub callers: Vec<CallerLimits>,
}

/// The limits of one configured key; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerLimits {
    pub name: String,
    pub requests: Option<Rate>,
    /// Streams open at once.
    pub streams: Option<u64>,
}

/// Whether what is admitted holds a stream open, or is answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    Stream,
    Nothing,
}

/// Decides who may pass. `C` is the clock, so that a test can move time.
#[derive(Debug)]
pub struct Limiter<C: Clock = MonotonicClock> {
    clock: C,
    streams: Streams,
    addresses: Option<Arc<Requests<AddressCells, C>>>,
    callers: HashMap<String, Account<C>>,
}

/// One configured key's standing with a [`Limiter`]; cheap to clone and kept with the key.
#[derive(Debug)]
pub struct Account<C: Clock = MonotonicClock>(Arc<Standing<C>>);

#[derive(Debug)]
struct Standing<C: Clock> {
    requests: Option<Arc<Requests<OneCell, C>>>,
    streams: Streams,
}

/// A request whose address may make it. Dropping it leaves the request counted;
/// [`Limiter::admit`] and [`Limiter::give_back`] may undo that.
#[derive(Debug)]
pub struct Arrival {
    taken: Option<Taken>,
    limits: RateLimits,
}

/// One request of an address, and what it takes to give it back.
#[derive(Debug)]
struct Taken {
    address: Address,
    busy_since: Nanos,
}

/// The right to be answered. Where it was asked for a stream, the stream counts as open until the
/// permit is dropped; dropping is two atomic subtractions at most.
#[derive(Debug)]
pub struct Permit {
    limits: RateLimits,
    _replica: Option<OpenStream>,
    _caller: Option<OpenStream>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: None,
            per_address: None,
            addresses: 100_000,
            callers: Vec::new(),
        }
    }
}

impl Limiter {
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings, MonotonicClock)
    }
}

impl<C: Clock + Clone> Limiter<C> {
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
            Account(Arc::new(Standing {
                requests: limits.requests.map(|rate| {
                    kept(requests, rate).unwrap_or_else(|| {
                        Requests::new(rate, |_| OneCell::default(), clock.clone()).into()
                    })
                }),
                streams: Streams::new(limits.streams, before.map(|before| &before.streams)),
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
        let address = Address::from(address);
        match requests.take(&address) {
            Ok((busy_since, status)) => Ok(Arrival {
                taken: Some(Taken {
                    address,
                    busy_since,
                }),
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

    /// Asks all the other policies. `caller` is `None` where no keys are configured.
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
        let caller = caller.map(|account| &*account.0);
        match self.ask(caller, opens) {
            Ok(mut permit) => {
                permit.limits = permit.limits.or(arrival.limits);
                Ok(permit)
            }
            Err(mut refused) => {
                refused.limits = refused.limits.or(self.give_back(arrival));
                Err(refused)
            }
        }
    }

    /// Gives the address its request back, for a refusal that is nobody's doing, and says where
    /// the address stands now. What has come back to it by itself meanwhile is not given twice.
    pub fn give_back(&self, arrival: Arrival) -> RateLimits {
        match (&self.addresses, arrival.taken) {
            (Some(requests), Some(taken)) => {
                requests.give_back(&taken.address, taken.busy_since);
                RateLimits::of(requests.status(&taken.address))
            }
            _ => RateLimits::default(),
        }
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

    /// Everything but the address's policy. The caller's request is taken last, so that only
    /// streams have to be given back, which dropping does.
    fn ask(&self, caller: Option<&Standing<C>>, opens: Opens) -> Result<Permit, Refused> {
        let requests = caller.and_then(|caller| caller.requests.as_ref());
        let open = |policy, streams: &Streams| {
            streams.open_one().map_err(|limit| {
                let status = requests.map(|requests| requests.status(&()));
                Refused::streams(policy, limit, RateLimits { requests: status })
            })
        };
        let (replica_stream, caller_stream) = match opens {
            Opens::Stream => (
                Some(open(Policy::Replica, &self.streams)?),
                caller
                    .map(|caller| open(Policy::Caller, &caller.streams))
                    .transpose()?,
            ),
            Opens::Nothing => (None, None),
        };
        let status = requests.map(|requests| {
            let taken = requests.take(&());
            taken.map(|(_, status)| status).map_err(|(after, status)| {
                let limits = RateLimits::of(status);
                Refused::requests(Policy::Caller, requests.rate(), after, limits)
            })
        });
        Ok(Permit {
            limits: RateLimits {
                requests: status.transpose()?,
            },
            _replica: replica_stream,
            _caller: caller_stream,
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

impl Permit {
    /// Where the caller stands, or its address if the caller has no limit of its own.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }
}
