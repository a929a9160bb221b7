//! The state that replicas share: one Redis or Valkey server, the one that Sentinel names, or a cluster.
//!
//! A server has one multiplexed connection, which all requests share, and a task that maintains
//! it: the task connects, probes whether the server takes writes, and connects again if it does
//! not. So a request never waits for a connection, except while the first one is made: it has its
//! answer within [`DEADLINE`], or an error at once. A server that stops answering costs the
//! requests that are under way one deadline, and later requests nothing.
//!
//! The caller decides what a missing answer means. An unanswered command may have been carried out.
//!
//! Changes between up and down are logged; single failures are only counted.
//!
//! | file | does |
//! |---|---|
//! | `cluster` | finds the server of a key |
//! | `server` | sends commands to one server |
//! | `reconnect` | makes and probes a server's connection |
//! | `connection` | the state of a connection, and how many servers are down |

mod cluster;
mod connection;
mod reconnect;
mod server;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, FromRedisValue, Pipeline, RedisError, ScriptInvocation};
use redis::{ServerErrorKind, Value};
use tokio::task::JoinSet;

use crate::config::Servers;
use crate::metrics::Metrics;
use cluster::Cluster;
use connection::Health;
use server::Server;

/// How long a command may take, its answer included.
pub const DEADLINE: Duration = Duration::from_millis(250);
/// The beginning of every key, so that other programs can share the server and its access rules can
/// be strict.
pub const PREFIX: &str = "sluicegate:";

/// The connections to the shared state. Dropping it closes them.
pub struct Store(Layout);

enum Layout {
    One(Server),
    Cluster(Cluster),
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
    pub fn new(servers: impl Into<Servers>, metrics: Arc<Metrics>) -> Self {
        let health = Arc::new(Health::new(metrics));
        Self(match servers.into() {
            Servers::Cluster(seed) => Layout::Cluster(Cluster::new(seed, health)),
            servers => Layout::One(Server::new(servers, format!("{PREFIX}probe"), health)),
        })
    }

    /// Whether keys that are used together must have one hash tag.
    pub fn is_cluster(&self) -> bool {
        matches!(self.0, Layout::Cluster(_))
    }

    /// Whether there is a connection now, to every server. The next command may fail all the same.
    pub fn is_up(&self) -> bool {
        match &self.0 {
            Layout::One(server) => server.is_up(),
            Layout::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Whether there is a connection to the server of a key.
    pub fn is_up_for(&self, key: impl FnOnce() -> String) -> bool {
        match &self.0 {
            Layout::One(server) => server.is_up(),
            Layout::Cluster(cluster) => cluster.is_up_for(key().as_bytes()),
        }
    }

    /// Waits until there is a connection to every server.
    pub async fn wait_until_up(&self) {
        match &self.0 {
            Layout::One(server) => server.wait_until_up().await,
            Layout::Cluster(cluster) => cluster.wait_until_up().await,
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// See [`StoreError`]. Not for commands that block: all others would wait for them.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.run(key_of(command), async |mut connection| {
            command.query_async(&mut connection).await
        })
        .await
    }

    /// Sends several commands in one round trip. Their keys must have one hash tag.
    ///
    /// # Errors
    /// As [`Store::query`]; a refusal of one of the commands is a refusal of all of them, although
    /// the others were carried out unless the pipeline is atomic.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let key = pipeline.cmd_iter().next().and_then(key_of);
        self.run(key, async |mut connection| {
            pipeline.query_async(&mut connection).await
        })
        .await
    }

    /// Sends commands of any keys, in one round trip to each server. Each has its own reply, which may be
    /// an error of the server; `None` where a server did not answer.
    ///
    /// # Errors
    /// No server answered.
    pub async fn batch(&self, commands: Vec<Cmd>) -> Result<Vec<Option<Value>>, StoreError> {
        match &self.0 {
            Layout::One(server) => {
                let pipeline = pipeline_of(commands);
                let answered = server.run(async |mut connection| {
                    pipeline.query_async::<Vec<Value>>(&mut connection).await
                });
                Ok(answered.await?.into_iter().map(Some).collect())
            }
            Layout::Cluster(cluster) => batch_in_cluster(cluster, commands).await,
        }
    }

    /// Runs a script by its hash, and loads it into a server that does not have it. `key` is one of its keys.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub async fn script<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run(Some(key.as_bytes()), async |mut connection| {
            script.invoke_async(&mut connection).await
        })
        .await
    }

    /// A connection for one caller to the server of a key, for commands that block or take long. It is
    /// closed when its last clone is dropped. The caller sets deadlines, and opens another one when it breaks.
    ///
    /// # Errors
    /// As [`Store::query`]; at once if the store is down.
    pub async fn dedicated(&self, key: &str) -> Result<MultiplexedConnection, StoreError> {
        match &self.0 {
            Layout::One(server) => server.dedicated().await,
            Layout::Cluster(cluster) => cluster.server_for(key.as_bytes()).await?.dedicated().await,
        }
    }

    async fn run<T, F>(
        &self,
        key: Option<&[u8]>,
        command: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let cluster = match &self.0 {
            Layout::One(server) => return server.run(command).await,
            Layout::Cluster(cluster) => cluster,
        };
        let server = cluster.server_for(key.unwrap_or_default()).await?;
        match server.run(command).await {
            Err(StoreError::Refused(error)) if reconnect::is_redirect(&error) => {
                cluster.refresh();
                Err(StoreError::Unavailable)
            }
            answer => answer,
        }
    }
}

/// The commands of each server in a pipeline of its own, and the replies in the commands' order.
async fn batch_in_cluster(
    cluster: &Cluster,
    commands: Vec<Cmd>,
) -> Result<Vec<Option<Value>>, StoreError> {
    let mut parts: Vec<(Arc<Server>, Vec<usize>, Vec<Cmd>)> = Vec::new();
    let mut replies: Vec<Option<Value>> = commands.iter().map(|_| None).collect();
    for (index, command) in commands.into_iter().enumerate() {
        let Ok(server) = cluster
            .server_for(key_of(&command).unwrap_or_default())
            .await
        else {
            continue;
        };
        match parts
            .iter_mut()
            .find(|(other, ..)| Arc::ptr_eq(other, &server))
        {
            Some((_, indices, commands)) => {
                indices.push(index);
                commands.push(command);
            }
            None => parts.push((server, vec![index], vec![command])),
        }
    }
    let mut sent = JoinSet::new();
    for (server, indices, commands) in parts {
        let pipeline = pipeline_of(commands);
        sent.spawn(async move {
            let answered = server.run(async |mut connection| {
                pipeline.query_async::<Vec<Value>>(&mut connection).await
            });
            (indices, answered.await)
        });
    }
    let mut answered = false;
    while let Some(part) = sent.join_next().await {
        let Ok((indices, Ok(values))) = part else {
            continue;
        };
        answered = true;
        for (index, value) in indices.into_iter().zip(values) {
            let redirected = matches!(&value, Value::ServerError(error)
                if matches!(error.kind(), Some(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain)));
            if redirected {
                cluster.refresh();
            } else if let Some(reply) = replies.get_mut(index) {
                *reply = Some(value);
            }
        }
    }
    match answered {
        true => Ok(replies),
        false => Err(StoreError::Unavailable),
    }
}

fn pipeline_of(commands: Vec<Cmd>) -> Pipeline {
    let mut pipeline = redis::pipe();
    // A failed command must not hide the replies to the others.
    pipeline.ignore_errors();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

/// The key of a command that has its key first.
fn key_of(command: &Cmd) -> Option<&[u8]> {
    match command.args_iter().nth(1)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A connection's client holds the password.
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
