//! Streams that other replicas can read: each replica writes its own streams to the shared store, and
//! follows the streams of others that its clients read.
//!
//! One task does this for the whole process, in one round trip at a time, however many streams there
//! are. Each round trip appends what its own streams have written since, fetches what followed streams
//! have, renews the key that says that this replica is alive, and takes commands from other replicas.
//! So a process makes some twenty round trips a second at most, and no token waits for the store. What
//! a replica writes after its last round trip before it is killed is lost; readers elsewhere never read
//! past what the store has.
//!
//! | key after `sluicegate:` | holds |
//! |---|---|
//! | `stream:{id}` | a Redis stream of entries: what one replica wrote, as whole events |
//! | `stream:{id}:past` | the ordinal of the terminal event, or `-`; outlives the stream |
//! | `stream:{id}:viewed` | exists while the stream has readers on another replica, and for its window after that |
//! | `replica:{name}` | exists while the replica is alive |
//! | `replica:{name}:commands` | ids of streams that it is to cancel |
//!
//! An entry's id is `{epoch}-{number + 2}`, by its last event. The first entry of an epoch is
//! `{epoch}-1`, has no events, and names the replica that produces the stream from there on.
//!
//! A round trip whose reply is lost may still be carried out later, and its events are written again
//! together with newer ones. So entries may overlap, and followers take each event once.
//!
//! **Taking over.** If a replica's key is missing, its followers take its streams over, by writing the
//! first entry of the next epoch. Ids only grow, so exactly one of them succeeds, and nothing that the
//! old producer still writes can come after that entry. The new producer continues the answer if the
//! model's `continue` is on and the log has the client's request; otherwise it ends the stream with an
//! error. A replica that is alive and finds its stream taken over stops producing it if its readers can
//! continue elsewhere, and otherwise continues for the readers that it has.
//!
//! Clients of the old producer may have more events than the store. Every event's id names its epoch,
//! so an event is never mistaken for another producer's event with the same number. While the store
//! answers, three things are shown to readers only once they are stored: streams that can be continued,
//! every stream's first events, and its end.
//!
//! If the store is down, streams run on without it. What was not stored is stored once it is back.

mod batch;
mod followed;
mod keys;
mod sync_loop;
mod writer;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::background;
use super::client_sink::ClientSink;
use super::orphans::{Orphan, OrphanQueue};
use super::pump::{Pump, StreamSettings};
use super::registry::{Lookup, Registry};
use super::stream::{Lifecycle, RemoteReadersLeft, Replication, Retention, Stream};
use crate::metrics::{Metrics, Takeover};
use crate::model::{Error, ErrorCode, Ordinal, Request, StreamId};
use crate::store::{Store, StoreError};

use followed::FollowedStream;
use keys::Keys;
use sync_loop::{FAILURE_DELAY, FOLLOW_INTERVAL};
use writer::{NewStream, OrphanEnding};

/// How long a new event may take to reach a healthy store.
const STORE_DELAY: Duration = Duration::from_millis(400);
/// How long a replica's key lives, and how often it is renewed.
const LEASE: Duration = Duration::from_secs(3);
const LEASE_RENEWAL: Duration = Duration::from_secs(1);
/// How long a producer may take to end a stream that was cancelled elsewhere.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last writes of a replica may take when it leaves.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How many streams are looked up at once. When a replica leaves, all of its readers come back together, and their
/// whole streams must not keep other commands from being answered in time.
const MAX_LOOKUPS: usize = 16;
/// When a client should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// This replica's part of the shared streams.
pub struct Replicas {
    inner: Arc<Inner>,
    lookups: Semaphore,
    _task: AbortOnDropHandle<()>,
}

struct Inner {
    store: Arc<Store>,
    registry: Arc<Registry>,
    orphans: Arc<OrphanQueue>,
    metrics: Arc<Metrics>,
    keys: Keys,
    /// How many bytes of a followed stream are kept here.
    buffer: usize,
    /// How long a stream runs on after its last reader left.
    window: Duration,
    work: Mutex<Work>,
    /// Held during a round trip, so that a leaving replica waits for the one that is under way.
    round_trip: tokio::sync::Mutex<()>,
    /// Wakes the loop before its interval has passed.
    sync_requested: Notify,
}

/// What the next round trip has to do.
#[derive(Default)]
struct Work {
    unstored: HashSet<StreamId>,
    /// The positions up to which the store refused streams, because it has newer entries of them.
    unconfirmed: HashMap<StreamId, u64>,
    new_streams: Vec<NewStream>,
    /// Streams that were refused before their first event.
    unstarted: Vec<StreamId>,
    abandoned: Vec<(StreamId, Duration)>,
    endings: Vec<OrphanEnding>,
    followed: HashMap<StreamId, FollowedStream>,
    /// Whether this replica takes over no streams any more.
    takeovers_stopped: bool,
    /// Whether this replica's key is not renewed any more.
    has_left: bool,
}

impl Replicas {
    /// Begins to share streams through `store`. Needs a Tokio runtime.
    pub fn new(
        store: Arc<Store>,
        registry: Arc<Registry>,
        orphans: Arc<OrphanQueue>,
        metrics: Arc<Metrics>,
        buffer: usize,
        window: Duration,
    ) -> Self {
        let keys = Keys::new(store.is_cluster());
        let inner = Arc::new(Inner {
            store,
            registry,
            orphans,
            metrics,
            keys,
            buffer,
            window,
            work: Mutex::default(),
            round_trip: tokio::sync::Mutex::default(),
            sync_requested: Notify::new(),
        });
        let syncing = Arc::clone(&inner);
        Self {
            inner,
            lookups: Semaphore::new(MAX_LOOKUPS),
            _task: AbortOnDropHandle::new(tokio::spawn(async move { syncing.run().await })),
        }
    }

    /// Looks for a stream of another replica. A client that lost its connection early can be faster than
    /// the store, so `None` is returned only some time after the request arrived at `asked`.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] if the store does not answer: the stream may exist.
    pub async fn find(&self, id: StreamId, asked: Instant) -> Result<Option<Lookup>, Error> {
        loop {
            let found = self.find_once(id).await?;
            if found.is_some() || asked.elapsed() >= STORE_DELAY {
                return Ok(found);
            }
            sleep(FOLLOW_INTERVAL).await;
        }
    }

    async fn find_once(&self, id: StreamId) -> Result<Option<Lookup>, Error> {
        if let Some(stream) = self.inner.work().find_followed(id) {
            return Ok(Some(Lookup::Stream(stream)));
        }
        let keys = &self.inner.keys;
        // The semaphore is never closed.
        let _lookup = self.lookups.acquire().await;
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(keys.ended(id));
        pipeline.cmd("XRANGE").arg(keys.log(id)).arg("-").arg("+");
        let (ended, entries): (Option<String>, Value) = self
            .inner
            .store
            .pipeline(&pipeline)
            .await
            .map_err(store_unreachable)?;
        let entries = batch::parse_entries(entries);
        if entries.is_empty() {
            return Ok(ended.map(|ended| match Ordinal::parse(&ended) {
                Some(last) => Lookup::Ended { last: Some(last) },
                None => Lookup::Abandoned,
            }));
        }
        let followed = FollowedStream::new(id, self.inner.buffer, entries, keys.replica_name());
        let mut stream = Arc::clone(followed.stream());
        if !stream.is_ended() {
            let mut work = self.inner.work();
            match work.find_followed(id) {
                // Another request has added it meanwhile.
                Some(known) => stream = known,
                None => drop(work.followed.insert(id, followed)),
            }
        }
        Ok(Some(Lookup::Stream(stream)))
    }

    /// Asks the replica that produces the stream to cancel it, and waits until it has.
    ///
    /// # Errors
    /// As [`Replicas::find`]; it is unknown then whether the stream was cancelled.
    pub async fn cancel(&self, id: StreamId, stream: &Stream) -> Result<(), Error> {
        let producer = match self.inner.work().followed.get(&id) {
            Some(followed) => followed.producer().to_owned(),
            None => return Ok(()),
        };
        let commands = self.inner.keys.commands(&producer);
        let mut pipeline = redis::pipe();
        pipeline.cmd("RPUSH").arg(&commands).arg(id.to_string());
        pipeline
            .cmd("PEXPIRE")
            .arg(&commands)
            .arg(millis(10 * LEASE));
        let _: Value = self
            .inner
            .store
            .pipeline(&pipeline)
            .await
            .map_err(store_unreachable)?;
        let ended = std::future::poll_fn(|context| stream.poll_ended(context));
        timeout(CANCEL_TIMEOUT, ended).await.map_err(|_| {
            let error = "the replica that produces this stream has not confirmed the cancellation yet: try again";
            Error::new(ErrorCode::Overloaded, error).with_retry_after(Some(RETRY_AFTER))
        })
    }

    /// Continues a stream that this replica has taken over. The sink has the text so far.
    pub fn continue_stream(
        &self,
        orphan: Orphan,
        request: Request,
        sink: ClientSink,
        settings: StreamSettings,
        retention: Retention,
    ) {
        let stream = Arc::clone(&orphan.stream);
        self.inner.work().followed.remove(&orphan.id);
        if stream.is_ended() {
            // The store was down meanwhile, which ended all reads here.
            return self.end_orphan(orphan);
        }
        self.inner.metrics.record_takeover(Takeover::Continued);
        let labels = sink.record().labels();
        let (model, key) = (labels.model.clone(), labels.key.clone());
        let (open_streams, dialect) = (Arc::clone(&settings.open_streams), labels.dialect);
        open_streams.add(&stream, orphan.id, dialect, model, key);
        let pump = Pump::for_takeover(request, sink, settings, producer_gone());
        self.inner.registry.begin(&stream, &retention);
        stream.take_over(pump, retention);
        if !stream.is_viewed() {
            background::last_viewer_left(&stream);
        }
    }

    /// Ends a stream that this replica has taken over and cannot continue.
    pub fn end_orphan(&self, orphan: Orphan) {
        self.inner.queue_ending(OrphanEnding::of(orphan));
    }

    /// Takes over no streams from here on.
    pub fn stop_takeovers(&self) {
        self.inner.work().takeovers_stopped = true;
    }

    /// Writes what is not stored yet, within a bounded time, and deletes this replica's key, so that others
    /// take its streams over at once. Every stream must have ended or been handed over.
    pub async fn leave(&self) {
        let inner = &self.inner;
        let flushing = async {
            // A stream without viewers is settled before its end is queued for the store.
            inner.registry.tasks().close();
            inner.registry.tasks().wait().await;
            loop {
                match inner.sync_once(None).await {
                    Ok(_) if inner.work().is_all_written() => return,
                    Ok(_) => {}
                    Err(_) => sleep(FAILURE_DELAY).await,
                }
            }
        };
        if timeout(FLUSH_TIMEOUT, flushing).await.is_err() {
            tracing::warn!(
                "the last events of some streams could not be stored in the shared state before this replica left"
            );
        }
        self.inner.work().has_left = true;
        let mut command = redis::cmd("DEL");
        command.arg(self.inner.keys.own_alive());
        if let Err(error) = self.inner.store.query::<Value>(&command).await {
            tracing::debug!(%error, "the key that says that this replica is alive could not be deleted");
        }
    }
}

impl Lifecycle for Replicas {
    fn begin(&self, _: &Arc<Stream>, retention: &Retention) {
        let new_stream = NewStream {
            id: retention.stream,
            owner: retention.owner.clone(),
            model: retention.model.clone(),
            window: retention.window,
            request: retention.request.clone(),
        };
        self.inner.work().new_streams.push(new_stream);
        self.inner.sync_requested.notify_one();
    }

    /// What the stream wrote is queued; only a stream that was refused has to be removed.
    fn end(&self, _: &Stream, retention: &Retention, last: Option<Ordinal>) {
        if last.is_none() {
            let mut work = self.inner.work();
            work.new_streams
                .retain(|new_stream| new_stream.id != retention.stream);
            work.unstarted.push(retention.stream);
        }
    }

    fn abandon(&self, retention: &Retention) {
        let mut work = self.inner.work();
        work.abandoned.push((retention.stream, retention.window));
    }

    fn release(&self, _: &Retention) {}
}

impl Replication for Replicas {
    fn is_store_up(&self, stream: StreamId) -> bool {
        let inner = &self.inner;
        inner.store.is_up_for(|| inner.keys.log(stream))
    }

    fn queue_write(&self, stream: StreamId, sync_now: bool) {
        self.inner.work().unstored.insert(stream);
        if sync_now {
            self.inner.sync_requested.notify_one();
        }
    }

    fn remote_readers_left(&self, stream: StreamId) -> RemoteReadersLeft<'_> {
        Box::pin(async move {
            let mut command = redis::cmd("PTTL");
            command.arg(self.inner.keys.viewed(stream));
            let left: i64 = self.inner.store.query(&command).await?;
            // Negative if the key does not exist.
            Ok(u64::try_from(left).ok().map(Duration::from_millis))
        })
    }
}

impl Work {
    /// Whether the store has everything that this replica has to write.
    fn is_all_written(&self) -> bool {
        self.unstored.is_empty()
            && self.unconfirmed.is_empty()
            && self.new_streams.is_empty()
            && self.endings.is_empty()
    }

    /// A stream that is followed. One whose reads were ended with an error here may have more in the store
    /// by now, and its log here ends in an error that is not the stream's own.
    fn find_followed(&self, id: StreamId) -> Option<Arc<Stream>> {
        let stream = self.followed.get(&id)?.stream();
        (!stream.is_ended()).then(|| Arc::clone(stream))
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        // Followed streams get no more events; their readers must not wait for them.
        self.inner.disconnect_all_readers();
    }
}

impl Inner {
    fn work(&self) -> MutexGuard<'_, Work> {
        // The work is consistent after every statement, so a panic elsewhere does not break it.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error that ends a stream whose producer is gone.
fn producer_gone() -> Error {
    Error::interrupted("the replica that produced this stream is gone")
}

fn store_unreachable(error: StoreError) -> Error {
    tracing::debug!(%error, "a stream could not be looked up in the shared state");
    Error::new(
        ErrorCode::Overloaded,
        "the shared state cannot be reached, so this stream cannot be looked up now: try again",
    )
    .with_retry_after(Some(RETRY_AFTER))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
