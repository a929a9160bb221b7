//! The state that replicas share: one Redis or Valkey server.
//!
//! A [`Store`] has one multiplexed connection, which all requests share, and a task that maintains
//! it: the task connects, probes whether the server takes writes, and connects again if it does
//! not. So a request never waits for a connection, except while the first one is made: it has its
//! answer within [`DEADLINE`], or an error at once. A server that stops answering costs the
//! requests that are under way one deadline, and later requests nothing.
//!
//! The caller decides what a missing answer means. An unanswered command may have been carried out.
//!
//! Changes between up and down are logged; single failures are only counted.

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
/// The beginning of every key, so that other programs can share the server and its access rules can
/// be strict.
pub const PREFIX: &str = "sluicegate:";

/// The connection to the shared state. Dropping it closes the connection.
pub struct Store {
    client: redis::Client,
    state: Arc<watch::Sender<ConnectionState>>,
    metrics: Arc<Metrics>,
    /// Maintains the connection for as long as the store lives.
    _reconnect: AbortOnDropHandle<()>,
}

/// Why a command failed.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// There is no answer in time, or the server takes no writes at present. The command may have
    /// been carried out.
    Unavailable,
    /// A healthy server refused this command, or its answer has the wrong type.
    Refused(RedisError),
}

impl Store {
    /// Starts to connect without waiting for it. Needs a Tokio runtime.
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

    /// Whether there is a connection now. The next command may fail all the same.
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), ConnectionState::Up(..))
    }

    /// Waits until there is a connection.
    pub async fn wait_until_up(&self) {
        let mut state = self.state.subscribe();
        // `self` holds the sender, so this cannot fail.
        let _ = state
            .wait_for(|state| matches!(state, ConnectionState::Up(..)))
            .await;
    }

    /// Sends one command.
    ///
    /// # Errors
    /// See [`StoreError`]. Not for commands that block: all others would wait for them.
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

    /// Runs a script by its hash, and loads it into a server that does not have it.
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

    /// A connection for one caller, for commands that block or take long. It is closed when its last
    /// clone is dropped. The caller sets deadlines, and opens another one when it breaks.
    ///
    /// # Errors
    /// As [`Store::query`]; at once if the store is down.
    pub async fn dedicated(&self) -> Result<MultiplexedConnection, StoreError> {
        let (_, number) = self.connection().await?;
        reconnect::connect(&self.client)
            .await
            .map_err(|error| self.record_failure(error, number))
    }

    /// The connection and its number. Waits while the first one is made.
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

    /// Marks the connection of that number as broken. Of several commands that fail on it, only the
    /// first logs it.
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
        // The client holds the password.
        f.debug_struct("Store")
            .field("is_up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => {
                f.write_str("the shared state (Redis) does not answer or takes no writes")
            }
            Self::Refused(error) => {
                write!(f, "the shared state (Redis) refused a command: {error}")
            }
        }
    }
}

impl std::error::Error for StoreError {}
