//! The state of the connection to a server, and how many servers are down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::Client;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};

use crate::metrics::Metrics;

/// The connection, if there is one.
pub(super) enum ConnectionState {
    /// The first one is being made.
    Connecting,
    Up(Link),
    Down,
}

impl ConnectionState {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

/// A connection to the server that takes writes.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Arc<Client>,
    pub(super) connection: MultiplexedConnection,
    /// So that a failure on an old connection does not close a new one.
    pub(super) number: u64,
}

/// How many servers of the store are down. The store is up if none is.
pub(super) struct Health {
    pub(super) metrics: Arc<Metrics>,
    down: AtomicUsize,
    /// Notified when a server is found down.
    pub(super) found_down: Notify,
}

impl Health {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.set_store_up(false);
        Self {
            metrics,
            down: AtomicUsize::new(0),
            found_down: Notify::new(),
        }
    }

    pub(super) fn add_down(&self) {
        self.down.fetch_add(1, Ordering::Relaxed);
        self.metrics.set_store_up(false);
        self.found_down.notify_one();
    }

    pub(super) fn remove_down(&self) {
        let before = self.down.fetch_sub(1, Ordering::Relaxed);
        self.metrics.set_store_up(before == 1);
    }

    /// Replaces a server's state, and counts the change.
    pub(super) fn replace(
        &self,
        state: &watch::Sender<ConnectionState>,
        new: ConnectionState,
    ) -> ConnectionState {
        let is_up = new.is_up();
        let before = state.send_replace(new);
        match (before.is_up(), is_up) {
            (true, false) => self.add_down(),
            (false, true) => self.remove_down(),
            _ => {}
        }
        before
    }
}
