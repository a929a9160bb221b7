//! Model APIs as the gateway sees them: sending a request, reading the answer.
//!
//! | file | does |
//! |---|---|
//! | `client` | one upstream: its address and credential; a request out, an answer back |
//! | `exchange` | HTTP/1.1 with it: connections, heads, bodies |
//! | `recycle` | reads a finished answer's last bytes, so that its connection can be used again |
//! | `refusal`, `retry_after` | what a non-2xx answer means, for every wire in one place; how long it asks to wait |
//! | `scrub`, `account_ids` | keep credentials, and whose account it is, out of messages |
//! | `sigv4` | signs requests to AWS |
//! | `ingest` | an answer's bytes to events |
//! | `template` | reads what is like the frame before it without parsing it |
//! | `surrogate` | mends text that a vendor cut within a character |

mod account_ids;
mod client;
pub mod exchange;
pub mod ingest;
mod recycle;
mod refusal;
mod retry_after;
mod scrub;
mod sigv4;
mod surrogate;
mod template;

pub use client::{Answer, Trace, Upstream};
pub use recycle::Recycler;
pub use scrub::mask;
