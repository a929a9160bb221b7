//! One stream from the client's request to its terminal event: who drives it, what ends it.
//!
//! A stream is a state machine that its client's HTTP body polls: no task, no channel. A client
//! that does not read does not poll, so the upstream is not read either, and memory stays bounded;
//! a client that leaves drops the body, and with it the upstream's connection.
//!
//! | file | does |
//! |---|---|
//! | `body` | the state machine: opening, live, closed; heartbeats and deadlines |
//! | `outlet` | the client's end: what is written, and what is settled with it |
//! | `transcript` | events to the client's bytes; exactly one terminal event |
//! | `receipt` | settles a stream once, however it ends |
//! | `memory` | which streams there were, for clients that come back |

mod body;
mod memory;
mod outlet;
mod receipt;
mod transcript;

pub use body::{Conditions, StreamBody, collect, open};
pub use memory::{Memory, Remembered};
pub use outlet::Outlet;
pub use receipt::{Held, Receipt, Subject};
pub use transcript::Transcript;
