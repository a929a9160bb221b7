//! The keys of the shared state, and the units of its buckets.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::model::Rate;
use crate::store::PREFIX;

use super::RateLimitStatus;
use super::address::Address;
use super::requests::unit_interval;
use super::script::{Reply, Steps, micros};

/// A rate in the shared state. An amount is the time in microseconds that it takes to come back.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) key: Arc<str>,
    rate: Rate,
}

/// A correction of what was taken from a bucket. It applies only if the bucket was not full since.
#[derive(Debug, Clone)]
pub(super) struct GiveBack {
    pub(super) key: Arc<str>,
    pub(super) amount: f64,
    pub(super) last_full_at: String,
}

impl Bucket {
    /// The bucket of one resource of the key with this name.
    pub(super) fn new(resource: &str, name: &str, rate: Rate) -> Self {
        Self {
            key: key(resource, name.as_bytes(), Some(rate)),
            rate,
        }
    }

    pub(super) fn of_address(address: Address, rate: Rate) -> Self {
        let address = match address {
            Address::V4(address) => address.octets().to_vec(),
            Address::V6Network(network) => network.to_be_bytes().to_vec(),
        };
        Self {
            key: key("address", &address, Some(rate)),
            rate,
        }
    }

    /// The set of open streams of the key with this name.
    pub(super) fn stream_set(name: &str) -> Arc<str> {
        key("streams", name.as_bytes(), None)
    }

    pub(super) fn take(&self, steps: &mut Steps, count: u64) -> usize {
        let capacity = self.amount(self.rate.amount);
        steps.take(&self.key, self.amount(count), capacity)
    }

    /// How long so many take to come back, in microseconds.
    pub(super) fn amount(&self, count: u64) -> f64 {
        unit_interval(self.rate) as f64 / 1_000.0 * count as f64
    }

    pub(super) fn status(&self, reply: &Reply, step: usize) -> RateLimitStatus {
        let missing = reply.missing(step);
        let left = (self.amount(self.rate.amount) - missing).max(0.0);
        RateLimitStatus {
            limit: self.rate.amount,
            // The last digit of a float must not cost a whole unit.
            remaining: (left / self.amount(1) + 1e-6) as u64,
            reset: micros(missing),
        }
    }
}

/// A key of the shared state. The rate is part of it, because what is missing of 100 a day says
/// nothing about 10 a minute. It is hashed, because names are the operator's words and addresses
/// identify people.
fn key(resource: &str, subject: &[u8], rate: Option<Rate>) -> Arc<str> {
    let mut hash = Sha256::new();
    hash.update(subject);
    if let Some(rate) = rate {
        hash.update(rate.amount.to_be_bytes());
        hash.update(rate.per.as_nanos().to_be_bytes());
    }
    let hash = hash.finalize();
    let mut key = format!("{PREFIX}{resource}:");
    for byte in &hash[..16] {
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut key, format_args!("{byte:02x}"));
    }
    key.into()
}
