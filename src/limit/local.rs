//! The limits of this process. Nothing here waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use governor::clock::{Clock, MonotonicClock};

use super::address::Address;
use super::check::{Check, Taken, admission_amount, check_locally, rate_limits};
use super::policy::{LocalCounter, Policy, PolicyLimit, Resource, Subject};
use super::{Admission, Estimate, LimitRefusal, Permit, RateLimits, Settings};

/// The counters of every limit. `C` is the clock, so that a test can move time.
#[derive(Debug)]
pub struct LocalLimits<C: Clock = MonotonicClock> {
    clock: C,
    /// The limits of this replica and of addresses.
    replica: Vec<PolicyLimit>,
    accounts: HashMap<String, Account>,
}

/// The limits of one configured key and their counters; cheap to clone and kept with the key.
#[derive(Debug, Clone)]
pub struct Account(Arc<[PolicyLimit]>);

/// One request of an address that its limit admitted. Dropping it leaves the request counted;
/// [`LocalLimits::give_back`], and a refusal by [`LocalLimits::admit`], return it.
#[derive(Debug)]
pub struct AddressPermit {
    taken: Vec<Taken>,
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

    /// The limits of a new configuration. Open streams stay counted, for the replica and for every
    /// key whose name stays; a rate that did not change keeps what was used of it.
    pub fn reconfigured(&self, settings: &Settings) -> Self {
        Self::build(settings, self.clock.clone(), Some(self))
    }

    fn build(settings: &Settings, clock: C, before: Option<&Self>) -> Self {
        let replica = before.map_or(&[][..], |before| &before.replica);
        let accounts = settings.keys.iter().map(|key| {
            let before = before.and_then(|before| before.accounts.get(&key.name));
            let before = before.map_or(&[][..], |account| &account.0);
            let limits = PolicyLimit::of_key(key, &clock, before);
            (key.name.clone(), Account(limits.into()))
        });
        Self {
            replica: PolicyLimit::of_replica(settings, &clock, replica),
            accounts: accounts.collect(),
            clock,
        }
    }

    /// The account of a configured key, by its name.
    pub fn account(&self, name: &str) -> Option<Account> {
        self.accounts.get(name).cloned()
    }

    /// Takes one of the address's requests, before anything else is known of the request.
    ///
    /// When as many addresses are remembered as may be, those whose requests have all come back
    /// are forgotten. Where that is not enough, new addresses share one allowance, so that a flood
    /// of addresses is limited more, never less.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::RateLimited`], with the time until the next request can pass.
    pub fn admit_address(&self, address: IpAddr) -> Result<AddressPermit, LimitRefusal> {
        let mut taken = Vec::new();
        let limits = check_locally(&self.address_checks(address), &mut taken)
            .map_err(|failed| LimitRefusal::new(&failed, None))?;
        Ok(AddressPermit { taken, limits })
    }

    /// Checks every other policy but takes no tokens. `account` is `None` where no keys are
    /// configured.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::Overloaded`] if this replica has no stream left,
    /// [`crate::model::ErrorCode::RateLimited`] if the key has no stream or request left. The
    /// address has its request back then.
    pub fn admit(
        &self,
        address_permit: AddressPermit,
        account: Option<&Account>,
        admission: Admission,
    ) -> Result<Permit, LimitRefusal> {
        let AddressPermit { mut taken, limits } = address_permit;
        let checks = self.checks(None, account, |policy| {
            let amount = admission_amount(policy, admission);
            amount.filter(|_| policy.subject != Subject::Address)
        });
        match check_locally(&checks, &mut taken) {
            Ok(own) => Ok(Permit::new(own.or(limits), taken)),
            Err(failed) => Err(LimitRefusal::new(&failed, None)),
        }
    }

    /// Reserves what the answer may cost of the key's tokens; [`Permit::settle`] states later what
    /// it did cost.
    ///
    /// # Errors
    /// [`crate::model::ErrorCode::RateLimited`] if the key has not so many tokens left,
    /// [`crate::model::ErrorCode::InvalidRequest`] if it never will. Everything that the permit
    /// holds is given back then.
    pub fn reserve(
        &self,
        mut permit: Permit,
        account: Option<&Account>,
        estimate: Estimate,
    ) -> Result<Permit, LimitRefusal> {
        let checks = self.token_checks(account, &estimate);
        match check_locally(&checks, &mut permit.taken) {
            Ok(limits) => {
                permit.set_reservation(limits, estimate);
                Ok(permit)
            }
            Err(failed) => Err(LimitRefusal::after_admission(&failed, &permit, estimate)),
        }
    }

    /// Gives the address its request back, for a refusal that is not its doing, and returns its
    /// status. What has come back by itself meanwhile is not given twice.
    pub fn give_back(&self, address_permit: AddressPermit) -> RateLimits {
        let taken = address_permit.taken.into_iter();
        rate_limits(taken.filter_map(Taken::give_back))
    }

    /// Streams open now.
    pub fn open_streams(&self) -> u64 {
        open_streams(&self.replica)
    }

    /// Addresses remembered now.
    pub fn addresses(&self) -> usize {
        let counters = self.replica.iter().map(|limit| match &limit.local {
            LocalCounter::Rate(counter) => counter.addresses(),
            LocalCounter::Streams(_) => 0,
        });
        counters.sum()
    }

    pub(super) fn address_checks(&self, address: IpAddr) -> Vec<Check<'_>> {
        self.checks(Some(address), None, |policy| {
            (policy.subject == Subject::Address).then_some(Some(1))
        })
    }

    /// What a request asks of each policy before it is read.
    pub(super) fn admission_checks<'a>(
        &'a self,
        address: IpAddr,
        account: Option<&'a Account>,
        admission: Admission,
    ) -> Vec<Check<'a>> {
        self.checks(Some(address), account, |policy| {
            admission_amount(policy, admission)
        })
    }

    /// A stream that another replica had admitted: it counts as open, and as no request.
    pub(super) fn takeover_checks<'a>(&'a self, account: Option<&'a Account>) -> Vec<Check<'a>> {
        self.checks(None, account, |policy| {
            (policy.resource == Resource::Streams).then_some(Some(1))
        })
    }

    /// What a request asks of the token policies once it was read.
    pub(super) fn token_checks<'a>(
        &'a self,
        account: Option<&'a Account>,
        estimate: &Estimate,
    ) -> Vec<Check<'a>> {
        let mut checks = self.checks(None, account, |policy| {
            (policy.resource == Resource::Tokens).then_some(None)
        });
        for check in &mut checks {
            check.amount = Some(estimate.needed(check.limit.limit.amount()));
        }
        checks
    }

    /// The checks of the policies that `amount` selects, in the table's order.
    fn checks<'a>(
        &'a self,
        address: Option<IpAddr>,
        account: Option<&'a Account>,
        amount: impl Fn(&Policy) -> Option<Option<u64>>,
    ) -> Vec<Check<'a>> {
        let own = account.iter().flat_map(|account| account.0.iter());
        self.replica
            .iter()
            .chain(own)
            .filter_map(|limit| {
                let address = address.filter(|_| limit.policy.subject == Subject::Address);
                Some(Check {
                    limit,
                    address: address.map(Address::from),
                    amount: amount(limit.policy)?,
                })
            })
            .collect()
    }
}

fn open_streams(limits: &[PolicyLimit]) -> u64 {
    let counters = limits.iter().map(|limit| match &limit.local {
        LocalCounter::Streams(streams) => streams.open(),
        LocalCounter::Rate(_) => 0,
    });
    counters.sum()
}

impl Account {
    /// The key's streams open now.
    pub fn open_streams(&self) -> u64 {
        open_streams(&self.0)
    }
}

impl AddressPermit {
    /// The status of the address, for an answer that knows no key.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }
}
