//! The state that replicas share: one Redis or Valkey, and what it costs when it is slow or gone.
//!
//! A [`Store`] has one multiplexed connection, which all requests share, and a task that keeps it:
//! it connects, asks now and then whether the server still takes writes, and connects again when
//! it does not. So a request never waits for a connection, except while the first one is made: it
//! finds one and has its answer within [`DEADLINE`], or is told at once that there is none. A
//! server that answers nobody costs those requests one deadline that were under way when it
//! stopped, and all others nothing.
//!
//! What it means that there is no answer is the caller's to decide. An unanswered command may have
//! been carried out all the same.
//!
//! Changes between up and down are logged, single failures only counted.

mod reconnect;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind,
};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::{Metrics, StoreFailure};
use reconnect::{ConnectionState, ReconnectTask};

/// How long a command may take, its answer included.
pub const DEADLINE: Duration = Duration::from_millis(250);
/// Every key's beginning, so that a server can be shared with others and its access rules be strict.
pub const PREFIX: &str = "sluicegate:";

/// The connection to the shared state. Dropping it closes the connection.
pub struct Store {
    client: redis::Client,
    state: Arc<watch::Sender<ConnectionState>>,
    metrics: Arc<Metrics>,
    /// Keeps the connection for as long as the store lives.
    _reconnect: AbortOnDropHandle<()>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// Nobody answers, or not in time, or the server takes no writes at present. Whether the
    /// command was carried out is not known.
    Unavailable,
    /// The server is well, and refuses this command; or its answer is not what was asked for.
    Refused(RedisError),
}

impl Store {
    /// Begins to connect, and does not wait for it. Needs a Tokio runtime.
    pub fn new(client: redis::Client, metrics: Arc<Metrics>) -> Self {
        metrics.set_store_up(false);
        let state = Arc::new(watch::Sender::new(ConnectionState::Connecting));
        let task = ReconnectTask {
            client: client.clone(),
            state: Arc::clone(&state),
            metrics: Arc::clone(&metrics),
        };
        Self {
            client,
            state,
            metrics,
            _reconnect: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    /// Whether there is a connection now. It says nothing about the next command.
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Up(..))
    }

    /// Waits until there is a connection.
    pub async fn wait_until_up(&self) {
        let mut state = self.state.subscribe();
        // The sender is `self`'s, so there is nothing to fail at.
        let _ = state
            .wait_for(|state| matches!(state, ConnectionState::Up(..)))
            .await;
    }

    /// Sends one command.
    ///
    /// # Errors
    /// See [`StoreError`]. Not for commands that block: they would hold up everybody's.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.run(async |mut connection| command.query_async(&mut connection).await)
            .await
    }

    /// Sends several commands in one round trip.
    ///
    /// # Errors
    /// As [`Store::query`]; a refusal of one of the commands is a refusal of all of them, although
    /// the others were carried out unless the pipeline is atomic.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.run(async |mut connection| pipeline.query_async(&mut connection).await)
            .await
    }

    /// Runs a script by its hash, and teaches it to a server that does not know it.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run(async |mut connection| script.invoke_async(&mut connection).await)
            .await
    }

    /// A connection of the caller's own, for commands that block or take long. It is closed when
    /// its last clone is dropped; the caller sets deadlines, and opens another one when it breaks.
    ///
    /// # Errors
    /// As [`Store::query`]; at once where the store is known to be down.
    pub async fn dedicated(&self) -> Result<MultiplexedConnection, StoreError> {
        let (_, number) = self.connection().await?;
        reconnect::connect(&self.client)
            .await
            .map_err(|error| self.record_failure(error, number))
    }

    /// The connection and its number, once it is known whether there is one.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), StoreError> {
        let connected = |state: &ConnectionState| match state {
            ConnectionState::Connecting => None,
            ConnectionState::Up(connection, number) => Some(Ok((connection.clone(), *number))),
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

    async fn run<T, F>(
        &self,
        command: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let (connection, number) = self.connection().await?;
        self.metrics.record_store_round_trip();
        match timeout(DEADLINE, command(connection)).await {
            Ok(answer) => answer.map_err(|error| self.record_failure(error, number)),
            Err(_) => {
                self.metrics.record_store_failure(StoreFailure::Timeout);
                self.mark_down(number, "no answer in time");
                Err(StoreError::Unavailable)
            }
        }
    }

    fn record_failure(&self, error: RedisError, number: u64) -> StoreError {
        if is_outage(&error) {
            self.metrics.record_store_failure(StoreFailure::Connection);
            self.mark_down(number, &error.to_string());
            StoreError::Unavailable
        } else {
            self.metrics.record_store_failure(StoreFailure::Refused);
            StoreError::Refused(error)
        }
    }

    /// The connection of that number is no good any more. Those who fail later find another one, or
    /// none, and say nothing.
    fn mark_down(&self, number: u64, reason: &str) {
        let changed = self.state.send_if_modified(|state| {
            let mine = matches!(state, ConnectionState::Up(_, current) if *current == number);
            if mine {
                *state = ConnectionState::Down;
            }
            mine
        });
        if changed {
            self.metrics.set_store_up(false);
            tracing::warn!(reason, "the shared state is down");
        }
    }
}

/// Whether the server, or the way to it, is not well; else it is only this command.
fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        // Where an answer is no Redis protocol at all, the connection breaks by itself.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType | ErrorKind::Client => false,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
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

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows the password.
        f.debug_struct("Store")
            .field("is_up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("the shared state cannot be reached"),
            Self::Refused(error) => write!(f, "the shared state refuses: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}
