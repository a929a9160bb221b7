//! Which streams exist and existed, so that a client that comes back gets a true answer and never a
//! new generation.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::stream::{Lifecycle, Retention, Stream};
use crate::model::{Error, Ordinal, StreamId};

/// How long a stream is remembered after it became unreadable.
const MEMORY_TIME: Duration = Duration::from_secs(10 * 60);
/// How many of them are remembered at most, some 100 bytes each; the oldest are forgotten first.
const MAX_REMEMBERED: usize = 500_000;
/// How much memory ended streams may hold together, in bytes; beyond it, the oldest are dropped before
/// their window has passed.
const MAX_HELD_BYTES: usize = 512 << 20;
/// The memory of an ended stream beside its log, in bytes.
const STREAM_OVERHEAD: usize = 8 << 10;
/// How many entries one call removes: more than it adds, and few enough to be quick.
const CLEANUP_BATCH: usize = 8;
/// How often expired entries are removed while no request does it.
const CLEANUP_PERIOD: Duration = Duration::from_secs(1);

/// The streams of this process.
#[derive(Default)]
pub struct Registry {
    table: Mutex<Table>,
    tasks: TaskTracker,
}

/// What the registry has of a stream.
pub enum Lookup {
    /// It runs, or has ended and can be read.
    Stream(Arc<Stream>),
    /// It ended with the event at `last`, and cannot be read any more.
    Ended { last: Option<Ordinal> },
    /// Its clients left before its end, and its upstream was cancelled.
    Abandoned,
}

#[derive(Default)]
struct Table {
    streams: HashMap<StreamId, RegistryEntry>,
    /// Ended streams that can be read, oldest first.
    readable: VecDeque<(Instant, StreamId)>,
    /// Streams that cannot be read any more, oldest first, with the time when they are forgotten.
    unreadable: VecDeque<(Instant, StreamId)>,
    /// The memory of the readable ones together, in bytes.
    held_bytes: usize,
}

enum RegistryEntry {
    /// Runs for its first client only.
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

impl Registry {
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

    /// The tasks that drive streams without viewers.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// The memory of the streams that have ended and can be read, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.lock().held_bytes
    }

    /// Removes expired entries, until it is dropped.
    pub async fn run_cleanup(&self) {
        let mut every = tokio::time::interval(CLEANUP_PERIOD);
        loop {
            every.tick().await;
            while self.lock().remove_expired() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Stops producing every stream that another replica may take over, for the reason `why`.
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

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Only the counts can be wrong after a panic elsewhere, which does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifecycle for Registry {
    fn begin(&self, stream: &Arc<Stream>, retention: &Retention) {
        let entry = match retention.window.is_zero() {
            true => RegistryEntry::Unretained(Arc::downgrade(stream)),
            false => RegistryEntry::Running(Arc::clone(stream)),
        };
        let mut table = self.lock();
        table.remove_expired();
        table.streams.insert(retention.stream, entry);
    }

    fn end(&self, stream: &Stream, retention: &Retention, last: Option<Ordinal>) {
        let held_bytes = stream.held_bytes() + STREAM_OVERHEAD;
        let mut table = self.lock();
        let until = Instant::now() + retention.window;
        match table.streams.remove(&retention.stream) {
            // No client has the id of a stream that was refused.
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

    fn abandon(&self, retention: &Retention) {
        self.lock()
            .mark_unreadable(retention.stream, RegistryEntry::Abandoned);
    }

    fn release(&self, retention: &Retention) {
        let mut table = self.lock();
        if let Some(RegistryEntry::Readable { held_bytes, .. }) =
            table.streams.remove(&retention.stream)
        {
            table.held_bytes -= held_bytes;
        }
    }
}

impl Table {
    /// Keeps only how the stream ended.
    fn mark_unreadable(&mut self, stream: StreamId, entry: RegistryEntry) {
        self.streams.insert(stream, entry);
        self.unreadable
            .push_back((Instant::now() + MEMORY_TIME, stream));
    }

    /// Removes some expired entries; returns whether there may be more.
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
