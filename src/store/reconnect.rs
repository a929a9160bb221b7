//! Keeps the store's connection: makes it, looks after it, makes another one.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{DEADLINE, PREFIX};
use crate::metrics::Metrics;

/// What there is of a connection.
pub(super) enum ConnectionState {
    /// The first one is being made.
    Connecting,
    /// With its number, so that who failed on an old one does not end a new one.
    Up(MultiplexedConnection, u64),
    Down,
}

pub(super) struct ReconnectTask {
    pub(super) client: Client,
    pub(super) state: Arc<watch::Sender<ConnectionState>>,
    pub(super) metrics: Arc<Metrics>,
}

/// How long a connection may take, TLS and login included. Nobody waits for it but the keeper.
const CONNECT: Duration = Duration::from_secs(1);
/// The least time between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// How often an idle connection is asked whether it still stands, so that the first request after
/// an idle hour does not have to find out.
const PROBE: Duration = Duration::from_secs(5);
/// How many commands may wait to be written to the connection; more wait for their turn.
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
                    // What broke a connection was told when it broke.
                    if matches!(before, ConnectionState::Connecting) {
                        tracing::warn!(%error, "the shared state is down");
                    }
                }
            }
            sleep_until(attempt + RETRY).await;
        }
    }

    /// Returns when the connection is no good any more.
    async fn run_probes(&self, connection: MultiplexedConnection, number: u64) {
        let mut state = self.state.subscribe();
        loop {
            let down = state.wait_for(|state| matches!(state, ConnectionState::Down));
            // Either the link went down, or nobody said anything for a while.
            if timeout(PROBE, down).await.is_ok() {
                return;
            }
            if let Err(error) = probe(&connection).await {
                self.state.send_replace(ConnectionState::Down);
                self.metrics.set_store_up(false);
                tracing::warn!(%error, number, "the shared state is down");
                return;
            }
        }
    }
}

/// A connection with no deadline of its own: whoever asks sets one.
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

/// A write, because a server that is full, or only a copy of another, still answers `PING`.
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
