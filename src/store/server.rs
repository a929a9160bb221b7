//! The connection to one server.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{ConnectionState, Health, Link};
use super::reconnect::{self, ReconnectTask};
use super::{DEADLINE, StoreError};
use crate::config::Servers;
use crate::metrics::StoreFailure;

/// One multiplexed connection, and the task that maintains it. Dropping it closes the connection.
pub(super) struct Server {
    state: Arc<watch::Sender<ConnectionState>>,
    health: Arc<Health>,
    /// Maintains the connection for as long as this lives.
    _reconnect: AbortOnDropHandle<()>,
}

impl Server {
    /// Starts to connect without waiting for it. `probe_key` is a key that this server may write.
    pub(super) fn new(servers: Servers, probe_key: String, health: Arc<Health>) -> Self {
        health.add_down();
        let state = Arc::new(watch::Sender::new(ConnectionState::Connecting));
        let task = ReconnectTask {
            servers,
            probe_key,
            state: Arc::clone(&state),
            health: Arc::clone(&health),
        };
        Self {
            state,
            health,
            _reconnect: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.borrow().is_up()
    }

    pub(super) async fn wait_until_up(&self) {
        let mut state = self.state.subscribe();
        // `self` holds the sender, so this cannot fail.
        let _ = state.wait_for(ConnectionState::is_up).await;
    }

    /// The server does not belong to the store any more.
    pub(super) fn retire(&self) {
        if !self.is_up() {
            self.health.remove_down();
        }
    }

    /// A connection for one caller; see [`super::Store::dedicated`].
    pub(super) async fn dedicated(&self) -> Result<MultiplexedConnection, StoreError> {
        let link = self.link().await?;
        reconnect::connect(&link.client)
            .await
            .map_err(|error| self.record_failure(error, link.number))
    }

    /// Sends commands over the connection.
    pub(super) async fn run<T, F>(
        &self,
        command: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let link = self.link().await?;
        self.health.metrics.record_store_round_trip();
        match timeout(DEADLINE, command(link.connection)).await {
            Ok(answer) => answer.map_err(|error| self.record_failure(error, link.number)),
            Err(_) => {
                self.health
                    .metrics
                    .record_store_failure(StoreFailure::Timeout);
                self.mark_down(link.number, "no answer in time");
                Err(StoreError::Unavailable)
            }
        }
    }

    /// The connection. Waits while the first one is made.
    async fn link(&self) -> Result<Link, StoreError> {
        let connected = |state: &ConnectionState| match state {
            ConnectionState::Connecting => None,
            ConnectionState::Up(link) => Some(Ok(link.clone())),
            ConnectionState::Down => Some(Err(StoreError::Unavailable)),
        };
        if let Some(known) = connected(&self.state.borrow()) {
            return known;
        }
        let mut state = self.state.subscribe();
        let started = state.wait_for(|state| !matches!(state, ConnectionState::Connecting));
        match timeout(DEADLINE, started).await {
            Ok(Ok(state)) => connected(&state).unwrap_or(Err(StoreError::Unavailable)),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
        }
    }

    fn record_failure(&self, error: RedisError, number: u64) -> StoreError {
        let metrics = &self.health.metrics;
        if is_outage(&error) {
            metrics.record_store_failure(StoreFailure::Connection);
            self.mark_down(number, &error.to_string());
            StoreError::Unavailable
        } else {
            metrics.record_store_failure(StoreFailure::Refused);
            StoreError::Refused(error)
        }
    }

    /// Marks the connection of that number as broken. Of several commands that fail on it, only the
    /// first logs it.
    fn mark_down(&self, number: u64, reason: &str) {
        let changed = self.state.send_if_modified(|state| {
            let mine = matches!(state, ConnectionState::Up(link) if link.number == number);
            if mine {
                *state = ConnectionState::Down;
            }
            mine
        });
        if changed {
            self.health.add_down();
            tracing::warn!(
                reason,
                "the shared state is down; connecting again once a second"
            );
        }
    }
}

/// Whether the error concerns the server or the way to it, and not only this command.
fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        // If an answer is not Redis protocol at all, the connection breaks by itself.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType | ErrorKind::Client => false,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::NoPerm
        ),
        // Out of memory, cannot save, not logged in, in a long script, too few replicas.
        ErrorKind::Extension => matches!(
            error.code(),
            Some("OOM" | "MISCONF" | "NOAUTH" | "WRONGPASS" | "BUSY" | "NOREPLICAS")
        ),
        _ => true,
    }
}
