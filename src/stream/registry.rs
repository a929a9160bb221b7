//! Which streams there are and were, so that a client that comes back gets a true answer and never
//! a new generation.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::replicas::Orphan;
use super::stream::{Retention, Stream};
use crate::metrics::Metrics;
use crate::model::{Error, Ordinal, StreamId};

/// How long a stream is remembered that cannot be read any more.
const MEMORY_TIME: Duration = Duration::from_secs(10 * 60);
/// How many of them are remembered at most, some 100 bytes each; beyond, the oldest are forgotten.
const MAX_REMEMBERED: usize = 500_000;
/// How much memory ended streams may hold together, in bytes; beyond, the oldest are dropped before
/// their time.
const MAX_HELD_BYTES: usize = 512 << 20;
/// What an ended stream holds beside its log, in bytes.
const STREAM_OVERHEAD: usize = 8 << 10;
/// How many entries one call tidies: more than it adds, and never so many that it is long.
const CLEANUP_BATCH: usize = 8;
/// How often a process that nobody calls is tidied.
const CLEANUP_PERIOD: Duration = Duration::from_secs(1);

/// How many streams of replicas that are gone may wait to be gone on with here.
const MAX_ORPHANS: usize = 256;

/// The streams of this process.
pub struct Registry {
    table: Mutex<Table>,
    tasks: TaskTracker,
    readers: AtomicU64,
    orphans: (
        mpsc::Sender<Orphan>,
        tokio::sync::Mutex<mpsc::Receiver<Orphan>>,
    ),
}

/// The place of one reader that came to a stream of somebody's making. While it is held, the
/// gateway does not end.
pub struct ReaderPermit {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    _open: TaskTrackerToken,
}

/// What is known of a stream.
pub enum Lookup {
    /// It runs, or has ended and can be read.
    Stream(Arc<Stream>),
    /// It ended, with an event at this place, and cannot be read any more.
    Ended { last: Option<Ordinal> },
    /// Its clients left before its end, and its upstream was cancelled.
    Abandoned,
}

#[derive(Default)]
struct Table {
    streams: HashMap<StreamId, RegistryEntry>,
    /// Ended streams that can be read, oldest first.
    readable: VecDeque<(Instant, StreamId)>,
    /// Streams that cannot be read any more, oldest first, with the time they are forgotten.
    unreadable: VecDeque<(Instant, StreamId)>,
    /// What the readable ones hold together, in bytes.
    held_bytes: usize,
}

enum RegistryEntry {
    /// Runs for its viewer only.
    Unretained(Weak<Stream>),
    Running(Arc<Stream>),
    Readable {
        stream: Arc<Stream>,
        until: Instant,
        held_bytes: usize,
        last: Option<Ordinal>,
    },
    Ended {
        last: Option<Ordinal>,
    },
    Abandoned,
}

impl Default for Registry {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_ORPHANS);
        Self {
            table: Mutex::default(),
            tasks: TaskTracker::new(),
            readers: AtomicU64::new(0),
            orphans: (sender, receiver.into()),
        }
    }
}

impl Registry {
    /// A place for one more reader, where fewer than `limit` have one.
    pub fn admit_reader(
        self: &Arc<Self>,
        limit: u64,
        metrics: &Arc<Metrics>,
        open: TaskTrackerToken,
    ) -> Option<ReaderPermit> {
        let room = |readers| (readers < limit).then_some(readers + 1);
        let order = Ordering::Relaxed;
        self.readers.fetch_update(order, order, room).ok()?;
        metrics.record_reader_opened();
        Some(ReaderPermit {
            registry: Arc::clone(self),
            metrics: Arc::clone(metrics),
            _open: open,
        })
    }

    pub fn find(&self, stream: StreamId) -> Option<Lookup> {
        let mut table = self.lock();
        table.remove_expired();
        Some(match table.streams.get(&stream)? {
            RegistryEntry::Unretained(weak) => match weak.upgrade() {
                Some(stream) => Lookup::Stream(stream),
                None => Lookup::Abandoned,
            },
            RegistryEntry::Running(stream) => Lookup::Stream(Arc::clone(stream)),
            RegistryEntry::Readable { until, last, .. } if *until <= Instant::now() => {
                Lookup::Ended { last: *last }
            }
            RegistryEntry::Readable { stream, .. } => Lookup::Stream(Arc::clone(stream)),
            RegistryEntry::Ended { last } => Lookup::Ended { last: *last },
            RegistryEntry::Abandoned => Lookup::Abandoned,
        })
    }

    /// What runs for streams that nobody views.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Lets go of what is past its time, until it is dropped.
    pub async fn run_cleanup(&self) {
        let mut every = tokio::time::interval(CLEANUP_PERIOD);
        loop {
            every.tick().await;
            while self.lock().remove_expired() {
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) fn register(&self, stream: &Arc<Stream>, retention: &Retention) {
        let entry = match retention.window.is_zero() {
            true => RegistryEntry::Unretained(Arc::downgrade(stream)),
            false => RegistryEntry::Running(Arc::clone(stream)),
        };
        let mut table = self.lock();
        table.remove_expired();
        table.streams.insert(retention.stream, entry);
    }

    /// The stream has written its terminal event, which is at `last`; none is that of a
    /// stream that was refused before it began, of which nobody knows.
    pub(super) fn mark_ended(&self, stream: &Stream, retention: &Retention, last: Option<Ordinal>) {
        let held_bytes = stream.held_bytes() + STREAM_OVERHEAD;
        let mut table = self.lock();
        let until = Instant::now() + retention.window;
        match table.streams.remove(&retention.stream) {
            _ if last.is_none() => {}
            Some(RegistryEntry::Running(stream)) => {
                table.held_bytes += held_bytes;
                table.readable.push_back((until, retention.stream));
                let entry = RegistryEntry::Readable {
                    stream,
                    until,
                    held_bytes,
                    last,
                };
                table.streams.insert(retention.stream, entry);
            }
            _ => table.mark_unreadable(retention.stream, RegistryEntry::Ended { last }),
        }
        table.remove_expired();
    }

    /// Another replica makes the stream from here on, and knows all of it.
    pub(super) fn remove(&self, stream: StreamId) {
        let mut table = self.lock();
        if let Some(RegistryEntry::Readable { held_bytes, .. }) = table.streams.remove(&stream) {
            table.held_bytes -= held_bytes;
        }
    }

    /// Gives up every stream that another replica may take over, for the reason `why`.
    pub fn hand_over(&self, why: &Error) {
        let running: Vec<_> = {
            let table = self.lock();
            let entries = table.streams.values();
            let running = entries.filter_map(|entry| match entry {
                RegistryEntry::Running(stream) => Some(Arc::clone(stream)),
                _ => None,
            });
            running
                .filter(|stream| stream.can_be_taken_over())
                .collect()
        };
        for stream in running {
            stream.hand_over(why);
        }
    }

    /// A stream whose replica is gone is to be gone on with here.
    ///
    /// # Errors
    /// The stream, where too many are.
    pub(super) fn queue_orphan(&self, orphan: Orphan) -> Result<(), Box<Orphan>> {
        let sent = self.orphans.0.try_send(orphan);
        sent.map_err(|error| Box::new(error.into_inner()))
    }

    /// The next stream that is to be gone on with here. For one task alone.
    pub async fn next_orphan(&self) -> Option<Orphan> {
        self.orphans.1.lock().await.recv().await
    }

    /// Nobody came back to the stream in time.
    pub(super) fn mark_abandoned(&self, stream: StreamId) {
        self.lock()
            .mark_unreadable(stream, RegistryEntry::Abandoned);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Whole after every statement but for counts, so a panic elsewhere does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReaderPermit {
    fn drop(&mut self) {
        self.registry.readers.fetch_sub(1, Ordering::Relaxed);
        self.metrics.record_reader_closed();
    }
}

impl Table {
    /// Remembers how a stream ended that cannot be read any more.
    fn mark_unreadable(&mut self, stream: StreamId, entry: RegistryEntry) {
        self.streams.insert(stream, entry);
        self.unreadable
            .push_back((Instant::now() + MEMORY_TIME, stream));
    }

    /// Lets go of some of what is past its time; says whether there may be more.
    fn remove_expired(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..CLEANUP_BATCH {
            let full = self.held_bytes > MAX_HELD_BYTES;
            let drops = self
                .readable
                .pop_front_if(|(until, _)| full || *until <= now);
            let full = self.unreadable.len() > MAX_REMEMBERED;
            let forgets = self
                .unreadable
                .pop_front_if(|(until, _)| full || *until <= now);
            if let Some((_, stream)) = forgets {
                self.streams.remove(&stream);
            }
            if let Some((_, stream)) = drops
                && let Some(&RegistryEntry::Readable {
                    held_bytes, last, ..
                }) = self.streams.get(&stream)
            {
                self.held_bytes -= held_bytes;
                self.mark_unreadable(stream, RegistryEntry::Ended { last });
            } else if forgets.is_none() {
                return false;
            }
        }
        true
    }
}
