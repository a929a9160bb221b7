//! Limits: how many requests and tokens per time, and how many open streams, one key, one address
//! and this replica may have; and how much memory all requests together.
//!
//! A request passes two steps. [`Limiter::admit`] checks every policy that needs only the sender,
//! and returns a [`Permit`] that is held as long as the answer runs. Once the request was read,
//! [`Limiter::reserve`] takes what its answer may cost of the key's tokens, and [`Permit::settle`]
//! states at the end what it did cost. A refusal by one policy costs nothing of another: what was
//! taken before it is given back. A request without a valid key stays counted against its address,
//! see [`Limiter::admit_address`].
//!
//! | policy | counts | over replicas | refusal |
//! |---|---|---|---|
//! | requests per address | before authentication; IPv6 by /64 | yes | `rate_limited` |
//! | streams of this replica | while they are open | no | `overloaded` |
//! | streams per key | while they are open | yes | `rate_limited` |
//! | requests per key | when every other policy agreed | yes | `rate_limited` |
//! | tokens per key | an estimate, then what was used | yes | `rate_limited`; `invalid_request` where waiting does not help |
//!
//! Each policy is one row of the table in `policy`. A request turns the rows into checks, and one of
//! two backends runs them: this process, or one script in the shared state.
//!
//! | file | does |
//! |---|---|
//! | `limiter` | decides: picks the backend, and what happens when the store does not answer |
//! | `policy` | the table of policies, and the counters of each configured limit |
//! | `check` | what a request asks of a policy, and what it holds afterwards; the backend of this process |
//! | `local` | the limits of this process and of its keys |
//! | `redis`, `bucket`, `script` | the backend of the shared state: one atomic script for each step |
//! | `counter` | the interface of a rate that is counted in this process |
//! | `requests`, `cells` | requests per time by `governor`, and its state |
//! | `budget`, `estimate` | tokens per time, with debt; what a request may cost |
//! | `streams` | open streams |
//! | `memory` | the bytes of requests that are held at once |
//! | `ledger` | what is written to the shared state later |
//! | `permit`, `refusal`, `status` | what an admitted request holds, the error of a refused one, and the headers |
//!
//! **The arithmetic** is the generic cell rate algorithm, as the `governor` crate does it: a limit
//! of 600 a minute is a bucket of 600 that regains one every 100 ms. So all 600 may come at once,
//! and over any time `T` at most 600 + 600 × `T` ÷ 1 min pass: a window of a minute that begins
//! with a full bucket can see nearly twice the rate.
//!
//! **State** is bounded: keys are those of the configuration, and at most [`Settings::addresses`]
//! addresses are remembered; see [`LocalLimits::admit_address`] for what happens beyond. In the
//! shared state, a full bucket expires by itself.
//!
//! Accounts are found by name, so that a limiter for a new configuration can take over the counts
//! of the names that it shares with the old one.

mod address;
mod bucket;
mod budget;
mod cells;
mod check;
mod counter;
mod estimate;
mod ledger;
mod limiter;
mod local;
mod memory;
mod permit;
mod policy;
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
