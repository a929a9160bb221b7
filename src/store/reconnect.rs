//! Maintains the store's connection: makes it, probes it, and replaces it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::DEADLINE;
use super::connection::{ConnectionState, Health, Link};
use crate::config::{SentinelServers, Servers};

pub(super) struct ReconnectTask {
    pub(super) servers: Servers,
    pub(super) state: Arc<watch::Sender<ConnectionState>>,
    pub(super) probe_key: String,
    pub(super) health: Arc<Health>,
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
            match connect_any(&self.servers, &self.probe_key).await {
                Ok((client, connection)) => {
                    let server = client.get_connection_info().addr().to_string();
                    tracing::info!(server, "the shared state is up");
                    let link = Link {
                        client: Arc::new(client),
                        connection: connection.clone(),
                        number,
                    };
                    self.health.replace(&self.state, ConnectionState::Up(link));
                    self.run_probes(connection).await;
                }
                Err(error) => {
                    let before = self.health.replace(&self.state, ConnectionState::Down);
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
    async fn run_probes(&self, connection: MultiplexedConnection) {
        let mut state = self.state.subscribe();
        loop {
            let down = state.wait_for(|state| matches!(state, ConnectionState::Down));
            // Either a command found the connection broken, or it was idle.
            if timeout(PROBE, down).await.is_ok() {
                return;
            }
            if let Err(error) = probe(&connection, &self.probe_key).await {
                let before = self.health.replace(&self.state, ConnectionState::Down);
                if before.is_up() {
                    tracing::warn!(%error, "the shared state is down; connecting again once a second");
                }
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

/// A connection to the server that takes writes. The Sentinels are asked in turn, because one that is cut
/// off may still name a server that was replaced.
async fn connect_any(
    servers: &Servers,
    probe_key: &str,
) -> Result<(Client, MultiplexedConnection), RedisError> {
    let servers = match servers {
        Servers::One(client) => {
            return Ok((
                client.as_ref().clone(),
                connect_writable(client, probe_key).await?,
            ));
        }
        Servers::Sentinel(servers) => servers,
        // Each server of a cluster has a connection of its own.
        Servers::Cluster(seed) => {
            let client = seed.client().clone();
            return Ok((client.clone(), connect_writable(&client, probe_key).await?));
        }
    };
    let mut failure = None;
    for sentinel in &servers.sentinels {
        let connected = async {
            let client = find_master(servers, sentinel).await?;
            let connection = connect_writable(&client, probe_key).await?;
            Ok((client, connection))
        };
        match connected.await {
            Ok(connected) => return Ok(connected),
            Err(error) => failure = Some(error),
        }
    }
    // The config has at least one Sentinel.
    Err(failure.unwrap_or_else(|| std::io::Error::other("no Sentinel is configured").into()))
}

/// The server that this Sentinel names.
async fn find_master(servers: &SentinelServers, sentinel: &Client) -> Result<Client, RedisError> {
    let mut connection = connect(sentinel).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(&servers.master);
    let named = command.query_async::<Option<(String, u16)>>(&mut connection);
    let named = match timeout(DEADLINE, named).await {
        Ok(named) => named?,
        Err(_) => return Err(timed_out()),
    };
    let (host, port) = named.ok_or_else(|| {
        std::io::Error::other(format!(
            "the Sentinel at {} does not know the master `{}`",
            sentinel.get_connection_info().addr(),
            servers.master
        ))
    })?;
    servers.template.at(host, port)
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// A connection to a server that takes writes.
async fn connect_writable(
    client: &Client,
    probe_key: &str,
) -> Result<MultiplexedConnection, RedisError> {
    let connection = connect(client).await?;
    probe(&connection, probe_key).await?;
    Ok(connection)
}

/// A write, because a server that is full, or a read-only replica, still answers `PING`.
async fn probe(connection: &MultiplexedConnection, key: &str) -> Result<(), RedisError> {
    let mut command = redis::cmd("SET");
    command
        .arg(key)
        .arg(1)
        .arg("PX")
        .arg((2 * PROBE).as_millis() as u64);
    let mut connection = connection.clone();
    let answer = command.exec_async(&mut connection);
    match timeout(DEADLINE, answer).await {
        // The slot has moved to another server of the cluster; this one is alive.
        Ok(Err(error)) if is_redirect(&error) => Ok(()),
        Ok(answer) => answer,
        Err(_) => Err(timed_out()),
    }
}

/// Whether another server of the cluster has the key, or will have it soon.
pub(super) fn is_redirect(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain
        )
    )
}
