//! How connections are kept and reused.

use std::time::Duration;

/// How often, and how long, one connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Requests on one connection.
    pub requests: u32,
    /// Time since it was opened.
    pub age: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            requests: 1000,
            age: Duration::from_secs(600),
        }
    }
}

/// How connections are kept and reused.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolSettings {
    /// `None`: no connection is reused.
    pub reuse: Option<Reuse>,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// The most idle connections.
    pub max_idle: usize,
    /// The longest rest.
    pub max_rest: Duration,
}
