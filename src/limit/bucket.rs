//! What is kept in the shared state, by key.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::model::Rate;
use crate::store::PREFIX;

use super::address::Address;
use super::requests::interval;
use super::script::{Reply, Steps, micros};
use super::{KeySettings, RateLimitStatus};

/// A rate in the shared state. An amount is the time in microseconds that it takes to come back.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) key: Arc<str>,
    pub(super) rate: Rate,
}

/// What the shared state knows of one configured key.
#[derive(Debug)]
pub(super) struct KeyBuckets {
    pub(super) requests: Option<Bucket>,
    pub(super) tokens: Option<Arc<Bucket>>,
    /// The set of open streams, and how many there may be.
    pub(super) streams: Option<(Arc<str>, u64)>,
}

/// What was taken from a bucket that was busy since then.
#[derive(Debug, Clone)]
pub(super) struct GiveBack {
    pub(super) key: Arc<str>,
    pub(super) amount: f64,
    pub(super) last_full_at: String,
}

impl KeyBuckets {
    pub(super) fn of(limits: &KeySettings) -> Self {
        let bucket = |policy, rate| Bucket {
            key: key(policy, limits.name.as_bytes(), Some(rate)),
            rate,
        };
        Self {
            requests: limits.requests.map(|rate| bucket("requests", rate)),
            tokens: limits.tokens.map(|rate| bucket("tokens", rate).into()),
            streams: limits
                .streams
                .map(|limit| (key("streams", limits.name.as_bytes(), None), limit)),
        }
    }
}

impl Bucket {
    pub(super) fn of_address(address: IpAddr, rate: Rate) -> Self {
        let address = match Address::from(address) {
            Address::V4(address) => address.octets().to_vec(),
            Address::V6Network(network) => network.to_be_bytes().to_vec(),
        };
        Self {
            key: key("address", &address, Some(rate)),
            rate,
        }
    }

    pub(super) fn take(&self, steps: &mut Steps, count: u64) -> usize {
        let capacity = self.amount(self.rate.amount);
        steps.take(&self.key, self.amount(count), capacity)
    }

    /// How long so many take to come back, in microseconds.
    pub(super) fn amount(&self, count: u64) -> f64 {
        interval(self.rate) as f64 / 1_000.0 * count as f64
    }

    pub(super) fn status(&self, reply: &Reply, step: usize) -> RateLimitStatus {
        let missing = reply.missing(step);
        let left = (self.amount(self.rate.amount) - missing).max(0.0);
        RateLimitStatus {
            limit: self.rate.amount,
            // What the last digit of a float leaves out is no whole one.
            remaining: (left / self.amount(1) + 1e-6) as u64,
            reset: micros(missing),
        }
    }
}

/// A key of the shared state. The rate is part of it: what is missing of 100 a day says nothing
/// about 10 a minute. Hashed, because names are the operator's words and addresses are people's.
fn key(policy: &str, whose: &[u8], rate: Option<Rate>) -> Arc<str> {
    let mut hash = Sha256::new();
    hash.update(whose);
    if let Some(rate) = rate {
        hash.update(rate.amount.to_be_bytes());
        hash.update(rate.per.as_nanos().to_be_bytes());
    }
    let hash = hash.finalize();
    let mut key = format!("{PREFIX}{policy}:");
    for byte in &hash[..16] {
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut key, format_args!("{byte:02x}"));
    }
    key.into()
}
