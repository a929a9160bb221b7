//! What somebody holds who may pass.

use std::net::IpAddr;
use std::sync::Arc;

use governor::nanos::Nanos;

use crate::model::Usage;

use super::address::Address;
use super::bucket::{Bucket, GiveBack};
use super::budget::Settle;
use super::ledger::{Lease, Ledger};
use super::streams::OpenStream;
use super::{Estimate, RateLimits};

/// The right to be answered. Where it was asked for a stream, the stream counts as open until the
/// permit is dropped. Dropping it never waits.
#[derive(Debug, Default)]
pub struct Permit {
    pub(super) limits: RateLimits,
    pub(super) taken: Taken,
    pub(super) tokens: Option<Reservation>,
    pub(super) _streams: [Option<OpenStream>; 2],
    pub(super) lease: Option<Lease>,
}

/// What a later refusal gives back.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) address: Option<TakenFromAddress>,
    /// Of the caller's requests: when their cell was busy since.
    pub(super) request: Option<Nanos>,
    /// The same in the shared state.
    pub(super) redis: Vec<GiveBack>,
}

/// One request of an address, and what it takes to give it back.
#[derive(Debug)]
pub(super) struct TakenFromAddress {
    pub(super) address: Address,
    pub(super) last_full_at: Nanos,
}

/// Tokens that were taken before anybody knew how many it will be. Those that were not used come
/// back when this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) backend: Backend,
    pub(super) estimate: Estimate,
    pub(super) reserved: u64,
    pub(super) used: u64,
}

/// The budget, and when it was busy since.
#[derive(Debug)]
pub(super) enum Backend {
    Local(Arc<dyn Settle>, Nanos),
    Redis(Arc<Ledger>, Arc<Bucket>, String),
}

impl Permit {
    /// Where the caller stands, or its address if the caller has no limit of its own.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    /// Says what the answer cost: `usage` as the upstream told it, and how many bytes of content
    /// came. Without a word of it, everything that was reserved comes back.
    pub fn settle(&mut self, usage: Option<Usage>, produced: u64) {
        if let Some(tokens) = &mut self.tokens {
            tokens.used = tokens.estimate.used(usage, produced);
        }
    }
}

impl TakenFromAddress {
    pub(super) fn new(address: IpAddr, last_full_at: Nanos) -> Self {
        Self {
            address: Address::from(address),
            last_full_at,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        match &self.backend {
            Backend::Local(budget, last_full_at) => {
                budget.settle(*last_full_at, self.reserved, self.used);
            }
            Backend::Redis(ledger, bucket, last_full_at) => {
                ledger.settle(bucket, last_full_at, self.reserved, self.used);
            }
        }
    }
}
