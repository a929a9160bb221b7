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
/// How many of them are remembered at most, some 150 bytes each; the oldest are forgotten first.
const MAX_REMEMBERED: usize = 500_000;
/// How much memory ended streams may hold together, in bytes; beyond it, the oldest are dropped before
/// their window has passed.
const MAX_HELD_BYTES: usize = 512 << 20;
/// The memory of an ended stream beside its log, in bytes.
const STREAM_OVERHEAD: usize = 8 << 10;
/// How many entries one call removes: more than it adds, and few enough to be quick.
const CLEANUP_BATCH: usize = 8;
/// A table gives its memory back when it has fewer entries than this part of its room. It has had more than
/// twice as many by then, so that this is rare.
const SPARSE: usize = 8;
/// The room that a table keeps.
const LEAST_ROOM: usize = 1024;
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
    /// How those ended that cannot be read any more. There are many more of them than of all others.
    ends: HashMap<StreamId, End>,
    /// The same, oldest first, with the time when they are forgotten.
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
}

/// How a stream ended that cannot be read any more.
#[derive(Clone, Copy)]
enum End {
    Ended { last: Option<Ordinal> },
    Abandoned,
}

impl From<End> for Lookup {
    fn from(end: End) -> Self {
        match end {
            End::Ended { last } => Self::Ended { last },
            End::Abandoned => Self::Abandoned,
        }
    }
}

impl Registry {
    pub fn find(&self, stream: StreamId) -> Option<Lookup> {
        let mut table = self.lock();
        table.remove_expired();
        let Some(entry) = table.streams.get(&stream) else {
            return table.ends.get(&stream).copied().map(Lookup::from);
        };
        Some(match entry {
            RegistryEntry::Unretained(weak) => match weak.upgrade() {
                Some(stream) => Lookup::Stream(stream),
                None => Lookup::Abandoned,
            },
            RegistryEntry::Running(stream) => Lookup::Stream(Arc::clone(stream)),
            RegistryEntry::Readable { until, last, .. } if *until <= Instant::now() => {
                Lookup::Ended { last: *last }
            }
            RegistryEntry::Readable { stream, .. } => Lookup::Stream(Arc::clone(stream)),
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
            _ => table.mark_unreadable(retention.stream, End::Ended { last }),
        }
        table.remove_expired();
    }

    fn abandon(&self, retention: &Retention) {
        self.lock()
            .mark_unreadable(retention.stream, End::Abandoned);
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
    fn mark_unreadable(&mut self, stream: StreamId, end: End) {
        self.streams.remove(&stream);
        self.ends.insert(stream, end);
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
                self.ends.remove(&stream);
            }
            if let Some((_, stream)) = drops
                && let Some(&RegistryEntry::Readable {
                    held_bytes, last, ..
                }) = self.streams.get(&stream)
            {
                self.held_bytes -= held_bytes;
                self.mark_unreadable(stream, End::Ended { last });
            } else if forgets.is_none() {
                self.shrink();
                return false;
            }
        }
        true
    }

    /// Gives back the memory of what was removed.
    fn shrink(&mut self) {
        if is_sparse(self.ends.len(), self.ends.capacity()) {
            self.ends.shrink_to(2 * self.ends.len());
            self.unreadable.shrink_to(2 * self.unreadable.len());
        }
        if is_sparse(self.streams.len(), self.streams.capacity()) {
            self.streams.shrink_to(2 * self.streams.len());
            self.readable.shrink_to(2 * self.readable.len());
        }
    }
}

fn is_sparse(entries: usize, room: usize) -> bool {
    room > LEAST_ROOM && entries < room / SPARSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_table_that_forgets_gives_its_memory_back() {
        let registry = Registry::default();
        let ids: Vec<_> = std::iter::repeat_with(StreamId::random)
            .take(20 * LEAST_ROOM)
            .collect();
        for (number, id) in ids.iter().enumerate() {
            let last = Some(Ordinal {
                epoch: 0,
                number: number as u64,
            });
            registry.lock().mark_unreadable(*id, End::Ended { last });
        }
        let is_known = |id: &StreamId| registry.find(*id).is_some();
        assert!(ids.iter().all(is_known));
        assert!(registry.lock().ends.capacity() >= ids.len());
        tokio::time::advance(MEMORY_TIME).await;
        while registry.lock().remove_expired() {}
        assert!(!ids.iter().any(is_known));
        let table = registry.lock();
        assert!(table.ends.capacity() <= LEAST_ROOM);
        assert!(table.unreadable.capacity() <= LEAST_ROOM);
    }
}
