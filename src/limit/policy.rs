//! The table of rate-limit policies. A policy is one row: whose use it limits, of what, and which
//! setting configures it. Both backends read the same rows, in this order.

use std::fmt;
use std::sync::Arc;

use governor::clock::Clock;

use crate::model::Rate;

use super::address::Address;
use super::bucket::Bucket;
use super::budget::TokenBudget;
use super::cells::{AddressCells, SingleCell};
use super::counter::RateCounter;
use super::requests::RequestLimit;
use super::streams::StreamLimit;
use super::{KeySettings, Settings};

/// One row of the table.
#[derive(Debug)]
pub(super) struct Policy {
    /// The policy's name in the metric of refusals.
    pub(super) name: &'static str,
    pub(super) subject: Subject,
    pub(super) resource: Resource,
    /// Whether replicas that share a state count it together.
    pub(super) shared: bool,
    setting: Setting,
}

/// Whose use is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Address,
    Replica,
    Key,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Requests,
    Streams,
    Tokens,
}

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Rate(Rate),
    /// Streams that are open at once. Without a limit they are counted all the same, because the
    /// next configuration may set one.
    Streams(Option<u64>),
}

#[derive(Debug)]
enum Setting {
    OfReplica(fn(&Settings) -> Option<Limit>),
    OfKey(fn(&KeySettings) -> Option<Limit>),
}

/// All policies, in the order in which they are checked. The requests of a key come after its
/// streams, so that most refusals only have to close a stream. Its tokens are read when a request
/// is admitted and taken once its size is known.
pub(super) static POLICIES: [Policy; 5] = [
    Policy {
        name: "address_requests",
        subject: Subject::Address,
        resource: Resource::Requests,
        shared: true,
        setting: Setting::OfReplica(|settings| settings.per_address.map(Limit::Rate)),
    },
    Policy {
        name: "replica_streams",
        subject: Subject::Replica,
        resource: Resource::Streams,
        shared: false,
        setting: Setting::OfReplica(|settings| Some(Limit::Streams(settings.streams))),
    },
    Policy {
        name: "key_streams",
        subject: Subject::Key,
        resource: Resource::Streams,
        shared: true,
        setting: Setting::OfKey(|key| Some(Limit::Streams(key.streams))),
    },
    Policy {
        name: "key_requests",
        subject: Subject::Key,
        resource: Resource::Requests,
        shared: true,
        setting: Setting::OfKey(|key| key.requests.map(Limit::Rate)),
    },
    Policy {
        name: "key_tokens",
        subject: Subject::Key,
        resource: Resource::Tokens,
        shared: true,
        setting: Setting::OfKey(|key| key.tokens.map(Limit::Rate)),
    },
];

/// A policy with a configured limit, and where its use is counted.
#[derive(Debug)]
pub(super) struct PolicyLimit {
    pub(super) policy: &'static Policy,
    pub(super) limit: Limit,
    pub(super) local: LocalCounter,
    pub(super) redis: RedisCounter,
}

/// The count of this process.
#[derive(Debug)]
pub(super) enum LocalCounter {
    Rate(Arc<dyn RateCounter>),
    Streams(StreamLimit),
}

/// The count in the shared state.
#[derive(Debug)]
pub(super) enum RedisCounter {
    /// Each address has a bucket of its own, made when it is needed.
    AddressBuckets(Rate),
    Bucket(Arc<Bucket>),
    /// The set of open streams, and how many it may hold.
    Streams(Arc<str>, u64),
    /// Only this process counts.
    Local,
}

impl PolicyLimit {
    /// The limits that the settings set for this replica and for addresses. Counts of `before`
    /// continue where the limit is the same; open streams are always counted on.
    pub(super) fn of_replica<C>(settings: &Settings, clock: &C, before: &[Self]) -> Vec<Self>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let limits = POLICIES.iter().filter_map(|policy| match policy.setting {
            Setting::OfReplica(limit) => Some((policy, limit(settings)?)),
            Setting::OfKey(_) => None,
        });
        let addresses = settings.addresses;
        limits
            .map(|(policy, limit)| Self::new(policy, limit, "", addresses, clock, before))
            .collect()
    }

    /// The limits of one key, as [`PolicyLimit::of_replica`].
    pub(super) fn of_key<C>(key: &KeySettings, clock: &C, before: &[Self]) -> Vec<Self>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let limits = POLICIES.iter().filter_map(|policy| match policy.setting {
            Setting::OfKey(limit) => Some((policy, limit(key)?)),
            Setting::OfReplica(_) => None,
        });
        limits
            .map(|(policy, limit)| Self::new(policy, limit, &key.name, 0, clock, before))
            .collect()
    }

    fn new<C>(
        policy: &'static Policy,
        limit: Limit,
        name: &str,
        addresses: usize,
        clock: &C,
        before: &[Self],
    ) -> Self
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let before = before
            .iter()
            .find(|before| before.policy.name == policy.name);
        let local = match (limit, before.map(|before| (&before.limit, &before.local))) {
            (Limit::Rate(_), Some((same, LocalCounter::Rate(counter)))) if *same == limit => {
                LocalCounter::Rate(Arc::clone(counter))
            }
            (Limit::Rate(rate), _) => LocalCounter::Rate(match (policy.resource, policy.subject) {
                (Resource::Tokens, _) => Arc::new(TokenBudget::new(rate, clock.clone())),
                (_, Subject::Address) => {
                    let cells = |interval| AddressCells::new(addresses, interval);
                    Arc::new(RequestLimit::new(rate, cells, clock.clone()))
                }
                _ => {
                    let cell = |_| SingleCell::default();
                    Arc::new(RequestLimit::new(rate, cell, clock.clone()))
                }
            }),
            (Limit::Streams(limit), Some((_, LocalCounter::Streams(streams)))) => {
                LocalCounter::Streams(StreamLimit::new(limit, Some(streams)))
            }
            (Limit::Streams(limit), _) => LocalCounter::Streams(StreamLimit::new(limit, None)),
        };
        Self {
            policy,
            limit,
            local,
            redis: policy.redis_counter(limit, name),
        }
    }
}

impl Policy {
    fn redis_counter(&self, limit: Limit, name: &str) -> RedisCounter {
        match (self.shared, limit, self.subject) {
            (false, ..) | (_, Limit::Streams(None), _) => RedisCounter::Local,
            (_, Limit::Rate(rate), Subject::Address) => RedisCounter::AddressBuckets(rate),
            (_, Limit::Rate(rate), _) => {
                RedisCounter::Bucket(Bucket::new(self.resource.name(), name, rate).into())
            }
            (_, Limit::Streams(Some(limit)), _) => {
                RedisCounter::Streams(Bucket::stream_set(name), limit)
            }
        }
    }
}

impl RedisCounter {
    /// The bucket that counts a rate.
    pub(super) fn bucket(&self, address: Option<Address>) -> Option<Arc<Bucket>> {
        match (self, address) {
            (Self::Bucket(bucket), _) => Some(Arc::clone(bucket)),
            (Self::AddressBuckets(rate), Some(address)) => {
                Some(Arc::new(Bucket::of_address(address, *rate)))
            }
            _ => None,
        }
    }
}

impl Limit {
    /// How much the limit allows at once.
    pub(super) fn amount(self) -> u64 {
        match self {
            Self::Rate(rate) => rate.amount,
            Self::Streams(limit) => limit.unwrap_or(u64::MAX),
        }
    }
}

impl Resource {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Streams => "streams",
            Self::Tokens => "tokens",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replica => "this gateway",
            Self::Key => "this key",
            Self::Address => "this address",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_policy_has_a_name_of_its_own() {
        let names: HashSet<_> = POLICIES.iter().map(|policy| policy.name).collect();
        assert_eq!(names.len(), POLICIES.len());
    }

    #[test]
    fn the_setting_of_a_policy_fits_its_subject() {
        for policy in &POLICIES {
            let of_key = matches!(policy.setting, Setting::OfKey(_));
            assert_eq!(of_key, policy.subject == Subject::Key, "{}", policy.name);
        }
    }
}
