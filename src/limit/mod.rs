//! How much one caller, one address and this replica may do: requests and tokens per time, and open
//! streams; in one process, or over all replicas that share a state.
//!
//! A request passes in two steps. [`Limiter::admit`] asks every policy that needs to know no more than
//! who asks, and gives a [`Permit`] that is kept as long as the answer runs. Once the request is
//! read, [`Limiter::reserve`] takes what its answer may cost of the key's tokens, and
//! [`Permit::settle`] says at the end what it did cost. A refusal by one policy uses up nothing of
//! another: what was taken before it is given back. A request that is refused for want of a key
//! stays counted against its address, see [`Limiter::admit_address`], and leaves no other trace.
//!
//! | policy | counts | over replicas | refusal |
//! |---|---|---|---|
//! | requests per address | before authentication; IPv6 by /64 | yes | `rate_limited` |
//! | streams of this replica | while they are open | no | `overloaded` |
//! | streams per key | while they are open | yes | `rate_limited` |
//! | requests per key | when everything else agreed | yes | `rate_limited` |
//! | tokens per key | an estimate, then what was used | yes | `rate_limited`; `invalid_request` where no waiting helps |
//!
//! | file | does |
//! |---|---|
//! | `limiter` | who decides: this process, or all replicas together, and what happens without the store |
//! | `limiter` | this process's limits; never waits |
//! | `requests`, `cells` | requests per time by `governor`, and what is remembered of them |
//! | `budget`, `estimate` | tokens per time, with debt; what a request may cost |
//! | `streams` | open streams |
//! | `shared`, `bucket`, `script` | the same in the shared state: one atomic script for each step |
//! | `ledger` | what the shared state is told afterwards |
//! | `permit`, `refusal`, `status` | what somebody gets who may pass, or may not, and the headers |
//!
//! **The arithmetic** is the generic cell rate algorithm, as the `governor` crate does it: a limit
//! of 600 a minute is a bucket of 600 that regains one every 100 ms. So all 600 may come at once,
//! and over any time `T` at most 600 + 600 × `T` ÷ 1 min pass: a window of a minute that begins
//! with a full bucket can see nearly twice the rate.
//!
//! **Memory** is bounded: keys are those of the configuration, and of addresses no more than
//! [`Settings::addresses`] are remembered. See [`LocalLimits::admit_address`] for what happens beyond. In the
//! shared state, whatever is full again is forgotten by itself.
//!
//! Callers are held by name, so that a limiter for a new configuration can take over the counts of the
//! names that it shares with the old one.

mod address;
mod bucket;
mod budget;
mod cells;
mod estimate;
mod ledger;
mod limiter;
mod local;
mod memory;
mod permit;
mod redis;
mod refusal;
mod requests;
mod script;
mod status;
mod streams;

use crate::model::Rate;

pub use address::Address;
pub use estimate::Estimate;
pub use limiter::{Limiter, SharedState};
pub use local::{Account, AddressPermit, LocalLimits};
pub use memory::{MemoryBudget, MemoryReservation};
pub use permit::Permit;
pub use refusal::LimitRefusal;
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
    pub keys: Vec<KeySettings>,
}

/// The limits of one configured key; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    pub name: String,
    pub requests: Option<Rate>,
    pub tokens: Option<Rate>,
    /// Streams open at once.
    pub streams: Option<u64>,
}

/// Whether what is admitted holds a stream open, or is answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Stream,
    Request,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: None,
            per_address: None,
            addresses: 100_000,
            keys: Vec::new(),
        }
    }
}
