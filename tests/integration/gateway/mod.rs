//! The running gateway, from outside: real listeners, real upstreams, real HTTP over loopback.
//!
//! | file | is about |
//! |---|---|
//! | `harness` | a gateway from a config's text |
//! | `client` | requests to it, and its answers event by event |
//! | `scripted` | an upstream that a test controls byte by byte |
//! | `program` | the real binary: its output, its logs, its signals |
//! | others | tests of one concern each |

mod agents;
mod answers;
mod bodies;
mod breaks;
mod budgets;
pub mod client;
mod commands;
mod connections;
mod continuation;
mod counting;
pub mod deadlines;
mod dialects;
mod failover;
mod failure_log;
pub mod harness;
mod health;
mod http2;
mod http_forms;
mod kept_members;
mod keys;
mod leaving;
mod limits;
mod long_frames;
mod memory;
mod metrics;
mod models;

mod multiplexing;
mod notifications;
mod operator;
mod parsing;
mod passing;
pub mod program;
mod reconnecting;
mod recording;
mod refusals;
mod reloading;
mod replicas;
mod resuming;
pub mod scripted;
mod secrets;
mod slow_reader;
mod state_servers;
mod state_tls;
mod stopping;
mod stored_form;
mod superseded;
mod takeover;
mod tls;
mod traces;
mod trials;
mod vendor_refusals;
mod verbatim;
mod viewers;

use std::time::Duration;

/// Much longer than any step takes, so that a test that would wait forever fails.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longer than a new upstream's connections rest before they are reused.
pub const REST: Duration = Duration::from_millis(500);

/// # Panics
/// If `future` does not complete in time.
pub async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future)
        .await
        .expect("the awaited event did not happen in time")
}
