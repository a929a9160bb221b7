//! Maintains the store's connection: makes it, probes it, and replaces it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{DEADLINE, PREFIX};
use crate::metrics::Metrics;

/// The connection, if there is one.
pub(super) enum ConnectionState {
    /// The first one is being made.
    Connecting,
    /// With its number, so that a failure on an old connection does not close a new one.
    Up(MultiplexedConnection, u64),
    Down,
}

pub(super) struct ReconnectTask {
    pub(super) client: Client,
    pub(super) state: Arc<watch::Sender<ConnectionState>>,
    pub(super) metrics: Arc<Metrics>,
}

/// How long connecting may take, TLS and login included. Only this task waits for it.
const CONNECT: Duration = Duration::from_secs(1);
/// The least time between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// How often an idle connection is probed, so that the first request after an idle hour does not
/// find it broken.
const PROBE: Duration = Duration::from_secs(5);
/// How many commands the connection queues. Further commands wait for a place.
const PENDING_COMMANDS: usize = 1024;

impl ReconnectTask {
    pub(super) async fn run(self) {
        for number in 0.. {
            let attempt = Instant::now();
            match connect_writable(&self.client).await {
                Ok(connection) => {
                    tracing::info!("the shared state is up");
                    self.metrics.set_store_up(true);
                    self.state
                        .send_replace(ConnectionState::Up(connection.clone(), number));
                    self.run_probes(connection, number).await;
                }
                Err(error) => {
                    self.metrics.set_store_up(false);
                    let before = self.state.send_replace(ConnectionState::Down);
                    // A connection that broke was logged when it broke.
                    if matches!(before, ConnectionState::Connecting) {
                        tracing::warn!(%error, "the shared state is down; connecting again once a second");
                    }
                }
            }
            sleep_until(attempt + RETRY).await;
        }
    }

    /// Returns when the connection is broken.
    async fn run_probes(&self, connection: MultiplexedConnection, number: u64) {
        let mut state = self.state.subscribe();
        loop {
            let down = state.wait_for(|state| matches!(state, ConnectionState::Down));
            // Either a command found the connection broken, or it was idle.
            if timeout(PROBE, down).await.is_ok() {
                return;
            }
            if let Err(error) = probe(&connection).await {
                self.state.send_replace(ConnectionState::Down);
                self.metrics.set_store_up(false);
                tracing::warn!(%error, number, "the shared state is down; connecting again once a second");
                return;
            }
        }
    }
}

/// A connection without a deadline of its own: the caller sets one.
pub(super) async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PENDING_COMMANDS);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// A connection to a server that takes writes.
async fn connect_writable(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let connection = connect(client).await?;
    probe(&connection).await?;
    Ok(connection)
}

/// A write, because a server that is full, or a read-only replica, still answers `PING`.
async fn probe(connection: &MultiplexedConnection) -> Result<(), RedisError> {
    let mut command = redis::cmd("SET");
    command
        .arg(format!("{PREFIX}probe"))
        .arg(1)
        .arg("PX")
        .arg((2 * PROBE).as_millis() as u64);
    let mut connection = connection.clone();
    let answer = command.exec_async(&mut connection);
    match timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
