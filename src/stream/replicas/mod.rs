//! Streams that other replicas can read: each replica writes its streams to the shared store, and
//! follows those that its clients read and another one makes.
//!
//! One task does all of it, in one round trip a turn, however many streams there are: it appends
//! what its own streams have said since, fetches what followed streams have said, renews the sign
//! that this replica lives, and takes what others have asked of it. So a store costs a process some
//! twenty round trips a second at most and no token waits for it. What a replica says in the last
//! turn before it is killed is not in the store; nobody ever reads a stream past what is there.
//!
//! | key behind `sluicegate:` | holds |
//! |---|---|
//! | `stream:{id}` | a Redis stream of entries: what one replica has said, as whole events |
//! | `stream:{id}:past` | the terminal event's place, or `-`; outlives the stream |
//! | `stream:{id}:viewed` | that somebody reads it on another replica, or did within its window |
//! | `replica:{name}` | that the replica lives |
//! | `replica:{name}:commands` | ids of streams that it is to cancel |
//!
//! An entry's id is `{epoch}-{number + 2}`, by its last event. The first one of an epoch is
//! `{epoch}-1`, has no events, and says who makes the stream from there on.
//!
//! A turn whose answer is lost may be carried out late, and what it wrote is written once more, with
//! what came since: so entries may overlap, and readers take each event once.
//!
//! **Taking over.** A replica that gives no sign of life has its streams taken over by whoever follows
//! them: by the next epoch's first entry. Ids only grow, so one of those who try is the first; and
//! nothing that the replica before may still write, whenever that reaches the store, gets in behind
//! it. Whoever takes over goes on with the answer, where the model's `continue` is on and what was
//! asked is in the log, or ends it with an error. A replica that finds its stream taken over although
//! it lives lets go of it, where its readers can go on elsewhere, and else tells them its own.
//!
//! Readers of the replica that is gone may have more than the store: every event's id tells its epoch,
//! so nobody takes what one replica said for what another said under the same number. Streams that
//! can be gone on with, every stream's beginning and its end are shown to readers only once they are
//! stored, for as long as the store answers.
//!
//! Where the store is gone, streams go on without it; what was not stored then is, once it is back.

mod batch;
mod followed;
mod keys;
mod orphan;
mod sync_loop;
mod writer;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::background;
use super::client_sink::ClientSink;
use super::pump::{Pump, StreamSettings};
use super::registry::{Lookup, Registry};
use super::stream::{Retention, Stream};
use crate::metrics::{Metrics, Takeover};
use crate::model::{Error, ErrorCode, Ordinal, Request, StreamId};
use crate::store::{Store, StoreError};

use followed::FollowedStream;
use keys::Keys;
use sync_loop::FOLLOW_INTERVAL;
use writer::{NewStream, OrphanEnding};

pub use orphan::Orphan;

/// How long what a stream says may be on its way to the store, where that is well.
const STORE_DELAY: Duration = Duration::from_millis(400);
/// How long the sign of life holds, and how often it is renewed.
const LEASE: Duration = Duration::from_secs(3);
const LEASE_RENEWAL: Duration = Duration::from_secs(1);
/// How long a cancelled stream's replica may take to say so.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last words of a replica may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// What a client waits for that asks again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the store may be gone before those who read another replica's stream are told.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// By when whoever reads a stream on another replica has said so to a store that is back.
pub(super) const RENEWAL_GRACE: Duration = Duration::from_secs(2);

/// This replica's part in the streams that replicas share.
pub struct Replicas {
    inner: Arc<Inner>,
    _task: AbortOnDropHandle<()>,
}

struct Inner {
    store: Arc<Store>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    keys: Keys,
    /// How much of a followed stream is kept here, in bytes.
    buffer: usize,
    /// How long the stream of a reader who leaves goes on.
    window: Duration,
    work: Mutex<Work>,
    /// Somebody waits for the next turn.
    sync_requested: Notify,
}

/// What the next turn has to do.
#[derive(Default)]
struct Work {
    unstored: HashSet<StreamId>,
    /// Up to where streams were refused to be stored, because the store has something newer.
    unconfirmed: HashMap<StreamId, u64>,
    new_streams: Vec<NewStream>,
    /// Streams that were refused before they said anything.
    unstarted: Vec<StreamId>,
    abandoned: Vec<(StreamId, Duration)>,
    endings: Vec<OrphanEnding>,
    followed: HashMap<StreamId, FollowedStream>,
    /// Takes nothing over any more.
    takeovers_stopped: bool,
    /// Gives no sign of life any more.
    has_left: bool,
}

impl Replicas {
    /// Begins to share streams through `store`. Needs a Tokio runtime.
    pub fn new(
        store: Arc<Store>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        buffer: usize,
        window: Duration,
    ) -> Self {
        let inner = Arc::new(Inner {
            store,
            registry,
            metrics,
            keys: Keys::new(),
            buffer,
            window,
            work: Mutex::default(),
            sync_requested: Notify::new(),
        });
        let syncing = Arc::clone(&inner);
        Self {
            inner,
            _task: AbortOnDropHandle::new(tokio::spawn(async move { syncing.run().await })),
        }
    }

    /// A stream that another replica makes or made. One that is not there may be on its way: a
    /// client that lost its connection early can be faster. So `None` is said for the first time
    /// some turns after it `asked`.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where the store does not answer: the stream may be there.
    pub async fn find(&self, id: StreamId, asked: Instant) -> Result<Option<Lookup>, Error> {
        loop {
            let found = self.find_once(id).await?;
            if found.is_some() || asked.elapsed() >= STORE_DELAY {
                return Ok(found);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    async fn find_once(&self, id: StreamId) -> Result<Option<Lookup>, Error> {
        if let Some(stream) = self.inner.work().find_followed(id) {
            return Ok(Some(Lookup::Stream(stream)));
        }
        let keys = &self.inner.keys;
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
                // Somebody else was faster.
                Some(known) => stream = known,
                None => drop(work.followed.insert(id, followed)),
            }
        }
        Ok(Some(Lookup::Stream(stream)))
    }

    /// Asks the replica that makes the stream to cancel it, and waits until it has.
    ///
    /// # Errors
    /// As [`Replicas::find`]; nothing is known of the stream then.
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
            let error = "the replica that makes the stream has not answered yet";
            Error::new(ErrorCode::Overloaded, error).with_retry_after(Some(RETRY_AFTER))
        })
    }

    /// Goes on with a stream that this replica has taken over. The outlet knows what was said.
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
            // The store was gone meanwhile, and its readers with it.
            return self.end_orphan(orphan);
        }
        self.inner.metrics.record_takeover(Takeover::Continued);
        let pump = Pump::for_takeover(request, sink, settings, producer_gone());
        self.inner.registry.register(&stream, &retention);
        stream.take_over(pump, retention);
        if !stream.is_viewed() {
            background::last_viewer_left(&stream);
        }
    }

    /// Ends a stream that this replica has taken over and cannot go on with.
    pub fn end_orphan(&self, orphan: Orphan) {
        self.inner.queue_ending(OrphanEnding::of(orphan));
    }

    /// Takes nothing over from here on.
    pub fn stop_takeovers(&self) {
        self.inner.work().takeovers_stopped = true;
    }

    /// Writes what is left to be written, for as long as that may take, and leaves: whoever can go on
    /// with a stream of this replica's need not wait.
    pub async fn leave(&self) {
        let flushing = async {
            while !self.inner.work().unstored.is_empty() && self.inner.sync_once(None).await.is_ok()
            {
            }
        };
        if timeout(FLUSH_TIMEOUT, flushing).await.is_err() {
            tracing::warn!("the last words of some streams are not in the shared state");
        }
        self.inner.work().has_left = true;
        let mut command = redis::cmd("DEL");
        command.arg(self.inner.keys.own_alive());
        if let Err(error) = self.inner.store.query::<Value>(&command).await {
            tracing::debug!(%error, "nobody was told that this replica leaves");
        }
    }

    /// Whether what is written is stored soon.
    pub(super) fn is_store_up(&self) -> bool {
        self.inner.store.is_up()
    }

    /// The stream has more to be stored; with `soon`, somebody waits for it.
    pub(super) fn queue_write(&self, id: StreamId, sync_now: bool) {
        self.inner.work().unstored.insert(id);
        if sync_now {
            self.inner.sync_requested.notify_one();
        }
    }

    /// The stream begins.
    pub(super) fn register(&self, retention: &Retention) {
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

    /// The stream was refused before it said anything.
    pub(super) fn remove_unstarted(&self, id: StreamId) {
        let mut work = self.inner.work();
        work.new_streams.retain(|new_stream| new_stream.id != id);
        work.unstarted.push(id);
    }

    /// Nobody came back to the stream in time.
    pub(super) fn record_abandoned(&self, retention: &Retention) {
        let mut work = self.inner.work();
        work.abandoned.push((retention.stream, retention.window));
    }

    /// How long the stream goes on for those who read it on another replica, or did until lately;
    /// `None` where nobody does.
    ///
    /// # Errors
    /// Where the store does not say.
    pub(super) async fn remote_readers_left(
        &self,
        id: StreamId,
    ) -> Result<Option<Duration>, StoreError> {
        let mut command = redis::cmd("PTTL");
        command.arg(self.inner.keys.viewed(id));
        let left: i64 = self.inner.store.query(&command).await?;
        // Negative where nobody does.
        Ok(u64::try_from(left).ok().map(Duration::from_millis))
    }
}

impl Work {
    /// A stream that is followed. One that broke off here may have more in the store by now, and its
    /// last event is none of the stream's own: nobody may take it for the end.
    fn find_followed(&self, id: StreamId) -> Option<Arc<Stream>> {
        let stream = self.followed.get(&id)?.stream();
        (!stream.is_ended()).then(|| Arc::clone(stream))
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        // Nobody follows anything any more, and whoever reads must not wait for it.
        self.inner.disconnect_all_readers();
    }
}

impl Inner {
    fn work(&self) -> MutexGuard<'_, Work> {
        // Whole after every statement, so a panic elsewhere leaves nothing half done.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ends a stream whose maker is gone.
fn producer_gone() -> Error {
    Error::interrupted("the replica that made this stream is gone")
}

fn store_unreachable(error: StoreError) -> Error {
    tracing::debug!(%error, "a stream could not be looked for");
    Error::new(
        ErrorCode::Overloaded,
        "the state that replicas share cannot be reached, and the stream may be there",
    )
    .with_retry_after(Some(RETRY_AFTER))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
