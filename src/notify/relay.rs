//! Carries announcements to the listeners of all replicas that share a state.
//!
//! Announcements are entries of one Redis stream. Every replica, also the one that wrote an entry,
//! publishes entries as it reads them, so each listener gets each of them once, and in one order.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError};
use serde_json::{Map, Value};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::cursor::SharedId;
use super::hub::Notifications;
use super::notification::Notification;
use crate::model::RequestId;
use crate::store::{DEADLINE, PREFIX, Store, StoreError};

/// How many announcements the shared state keeps, and for how long after the last one.
const KEPT: usize = 100;
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long one read waits for an announcement.
const BLOCK: Duration = Duration::from_secs(5);
/// The pause before a broken connection is replaced.
const RETRY: Duration = Duration::from_secs(1);
/// How many announcements this replica recognizes when it meets them again.
const RECOGNIZED: usize = 2 * KEPT;

/// The announcements of all replicas. Dropping it ends the reading.
pub struct Relay {
    inner: Arc<Inner>,
    _task: AbortOnDropHandle<()>,
}

struct Inner {
    store: Arc<Store>,
    hub: Arc<Notifications>,
    key: String,
    /// The tokens of announcements that this replica has published.
    published: Mutex<VecDeque<String>>,
}

/// An entry of the Redis stream: its id, its fields.
type Entry = (String, HashMap<String, String>);

impl Relay {
    /// Needs a Tokio runtime.
    pub fn new(store: Arc<Store>, hub: Arc<Notifications>) -> Self {
        let inner = Arc::new(Inner {
            store,
            hub,
            key: format!("{PREFIX}notifications"),
            published: Mutex::default(),
        });
        let reading = Arc::clone(&inner);
        Self {
            inner,
            _task: AbortOnDropHandle::new(tokio::spawn(async move { reading.run().await })),
        }
    }

    /// Announces to the listeners of all replicas; if the store does not answer, to those of this
    /// one. Returns whether the store has the announcement.
    pub async fn announce(&self, data: Map<String, Value>) -> bool {
        let Inner {
            store, hub, key, ..
        } = &*self.inner;
        // Recognizes it in case that the store carries out a command whose answer did not arrive.
        let token = RequestId::random();
        let text = Value::Object(data.clone()).to_string();
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("XADD")
            .arg(key)
            .arg("MAXLEN")
            .arg(KEPT)
            .arg("*")
            .arg("token")
            .arg(token.as_str())
            .arg("data")
            .arg(text);
        pipeline
            .cmd("EXPIRE")
            .arg(key)
            .arg(LIFETIME.as_secs())
            .ignore();
        match store.pipeline::<(String,)>(&pipeline).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "an announcement reaches only the listeners of this replica"
                );
                if self.inner.mark_published(token.as_str()) {
                    hub.publish(&Notification::Announcement(data));
                }
                false
            }
        }
    }
}

impl Inner {
    /// Publishes what the store has, until the relay is dropped.
    async fn run(&self) {
        let mut last = None;
        loop {
            self.store.wait_until_up().await;
            let Err(error) = self.follow(&mut last).await;
            match error {
                StoreError::Unavailable => {}
                StoreError::Refused(_) => tracing::warn!(
                    %error,
                    "announcements of other replicas cannot be read; trying again in a second"
                ),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Reads until the connection breaks. `last` is the last entry that was read.
    async fn follow(&self, last: &mut Option<SharedId>) -> Result<Infallible, StoreError> {
        let mut connection = self.store.dedicated(&self.key).await?;
        let mut after = match *last {
            Some(last) => last,
            None => self.read_old(&mut connection).await?,
        };
        loop {
            *last = Some(after);
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT")
                .arg(KEPT)
                .arg("BLOCK")
                .arg(BLOCK.as_millis() as u64);
            read.arg("STREAMS").arg(&self.key);
            read.arg(format!("{}-{}", after.time, after.number));
            let streams: Option<Vec<(String, Vec<Entry>)>> =
                run(&mut connection, &read, BLOCK + 4 * DEADLINE).await?;
            for (_, entries) in streams.into_iter().flatten() {
                for entry in entries {
                    after = self.publish(&entry, false).unwrap_or(after);
                }
            }
        }
    }

    /// Takes over what was announced before this replica knew the store. Returns the last entry.
    async fn read_old(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<SharedId, StoreError> {
        let mut read = redis::cmd("XREVRANGE");
        read.arg(&self.key).arg("+").arg("-").arg("COUNT").arg(KEPT);
        let entries: Vec<Entry> = run(connection, &read, 4 * DEADLINE).await?;
        let mut last = SharedId { time: 0, number: 0 };
        for entry in entries.iter().rev() {
            last = self.publish(entry, true).unwrap_or(last);
        }
        Ok(last)
    }

    /// Publishes an entry, unless this replica has. Returns its id, if it is one.
    fn publish(&self, (id, fields): &Entry, is_old: bool) -> Option<SharedId> {
        let id = SharedId::parse(id, '-')?;
        let field = |name| fields.get(name).map(String::as_str).unwrap_or_default();
        // Another program may write to the store.
        let data: Result<Map<String, Value>, _> = serde_json::from_str(field("data"));
        if let Ok(data) = data
            && self.mark_published(field("token"))
        {
            let data = Value::Object(data).to_string();
            self.hub.append("announcement", &data, Some(id), is_old);
        }
        Some(id)
    }

    /// Whether this is the first time that the announcement with this token is published here.
    fn mark_published(&self, token: &str) -> bool {
        let published = self.published.lock();
        let mut published = published.unwrap_or_else(PoisonError::into_inner);
        if published.iter().any(|known| known == token) {
            return false;
        }
        if published.len() == RECOGNIZED {
            published.pop_front();
        }
        published.push_back(token.to_owned());
        true
    }
}

async fn run<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
    deadline: Duration,
) -> Result<T, StoreError> {
    let answer = timeout(deadline, command.query_async(connection)).await;
    let answer = answer.map_err(|_| StoreError::Unavailable)?;
    answer.map_err(|error: RedisError| {
        let broken = error.is_io_error() || error.is_connection_dropped();
        match broken {
            true => StoreError::Unavailable,
            false => StoreError::Refused(error),
        }
    })
}
