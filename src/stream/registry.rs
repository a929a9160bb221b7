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
use super::stream::{Keeping, Stream};
use crate::metrics::Metrics;
use crate::model::{Error, Ordinal, StreamId};

/// How long a stream is remembered that cannot be read any more.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// How many of them are remembered at most, some 100 bytes each; beyond, the oldest are forgotten.
const MOST: usize = 500_000;
/// How much memory ended streams may hold together, in bytes; beyond, the oldest are dropped before
/// their time.
const HELD: usize = 512 << 20;
/// What an ended stream holds beside its log, in bytes.
const OVERHEAD: usize = 8 << 10;
/// How many entries one call tidies: more than it adds, and never so many that it is long.
const TIDIED: usize = 8;
/// How often a process that nobody calls is tidied.
const PERIOD: Duration = Duration::from_secs(1);

/// How many streams of replicas that are gone may wait to be gone on with here.
const ORPHANS: usize = 256;

/// The streams of this process.
pub struct Registry {
    known: Mutex<Known>,
    tasks: TaskTracker,
    seated: AtomicU64,
    orphans: (
        mpsc::Sender<Orphan>,
        tokio::sync::Mutex<mpsc::Receiver<Orphan>>,
    ),
}

/// The place of one reader that came to a stream of somebody's making. While it is held, the
/// gateway does not end.
pub struct Seat {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    _open: TaskTrackerToken,
}

/// What is known of a stream.
pub enum Found {
    /// It runs, or has ended and can be read.
    Stream(Arc<Stream>),
    /// It ended, with an event at this place, and cannot be read any more.
    Ended { last: Option<Ordinal> },
    /// Its clients left before its end, and its upstream was cancelled.
    Abandoned,
}

#[derive(Default)]
struct Known {
    streams: HashMap<StreamId, Entry>,
    /// Ended streams that can be read, oldest first.
    readable: VecDeque<(Instant, StreamId)>,
    /// Streams that cannot be read any more, oldest first, with the time they are forgotten.
    past: VecDeque<(Instant, StreamId)>,
    /// What the readable ones hold together, in bytes.
    held: usize,
}

enum Entry {
    /// Runs for its viewer only.
    Passing(Weak<Stream>),
    Running(Arc<Stream>),
    Readable {
        stream: Arc<Stream>,
        until: Instant,
        held: usize,
        last: Option<Ordinal>,
    },
    Ended {
        last: Option<Ordinal>,
    },
    Abandoned,
}

impl Default for Registry {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(ORPHANS);
        Self {
            known: Mutex::default(),
            tasks: TaskTracker::new(),
            seated: AtomicU64::new(0),
            orphans: (sender, receiver.into()),
        }
    }
}

impl Registry {
    /// A place for one more reader, where fewer than `limit` have one.
    pub fn seat(
        self: &Arc<Self>,
        limit: u64,
        metrics: &Arc<Metrics>,
        open: TaskTrackerToken,
    ) -> Option<Seat> {
        let room = |seated| (seated < limit).then_some(seated + 1);
        let order = Ordering::Relaxed;
        self.seated.fetch_update(order, order, room).ok()?;
        metrics.record_reader_opened();
        Some(Seat {
            registry: Arc::clone(self),
            metrics: Arc::clone(metrics),
            _open: open,
        })
    }

    pub fn find(&self, stream: StreamId) -> Option<Found> {
        let mut known = self.lock();
        known.tidy();
        Some(match known.streams.get(&stream)? {
            Entry::Passing(passing) => match passing.upgrade() {
                Some(stream) => Found::Stream(stream),
                None => Found::Abandoned,
            },
            Entry::Running(stream) => Found::Stream(Arc::clone(stream)),
            Entry::Readable { until, last, .. } if *until <= Instant::now() => {
                Found::Ended { last: *last }
            }
            Entry::Readable { stream, .. } => Found::Stream(Arc::clone(stream)),
            Entry::Ended { last } => Found::Ended { last: *last },
            Entry::Abandoned => Found::Abandoned,
        })
    }

    /// What runs for streams that nobody views.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Lets go of what is past its time, until it is dropped.
    pub async fn keep_tidy(&self) {
        let mut every = tokio::time::interval(PERIOD);
        loop {
            every.tick().await;
            while self.lock().tidy() {
                tokio::task::yield_now().await;
            }
        }
    }

    pub(super) fn began(&self, stream: &Arc<Stream>, keeping: &Keeping) {
        let entry = match keeping.window.is_zero() {
            true => Entry::Passing(Arc::downgrade(stream)),
            false => Entry::Running(Arc::clone(stream)),
        };
        let mut known = self.lock();
        known.tidy();
        known.streams.insert(keeping.stream, entry);
    }

    /// The stream has written its terminal event, which is at `last`; none is that of a
    /// stream that was refused before it began, of which nobody knows.
    pub(super) fn ended(&self, stream: &Stream, keeping: &Keeping, last: Option<Ordinal>) {
        let held = stream.held() + OVERHEAD;
        let mut known = self.lock();
        let until = Instant::now() + keeping.window;
        match known.streams.remove(&keeping.stream) {
            _ if last.is_none() => {}
            Some(Entry::Running(stream)) => {
                known.held += held;
                known.readable.push_back((until, keeping.stream));
                let entry = Entry::Readable {
                    stream,
                    until,
                    held,
                    last,
                };
                known.streams.insert(keeping.stream, entry);
            }
            _ => known.pass(keeping.stream, Entry::Ended { last }),
        }
        known.tidy();
    }

    /// Another replica makes the stream from here on, and knows all of it.
    pub(super) fn forget(&self, stream: StreamId) {
        let mut known = self.lock();
        if let Some(Entry::Readable { held, .. }) = known.streams.remove(&stream) {
            known.held -= held;
        }
    }

    /// Gives up every stream that another replica may take over, for the reason `why`.
    pub fn hand_over(&self, why: &Error) {
        let running: Vec<_> = {
            let known = self.lock();
            let entries = known.streams.values();
            let running = entries.filter_map(|entry| match entry {
                Entry::Running(stream) => Some(Arc::clone(stream)),
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
    pub(super) fn orphaned(&self, orphan: Orphan) -> Result<(), Box<Orphan>> {
        let sent = self.orphans.0.try_send(orphan);
        sent.map_err(|error| Box::new(error.into_inner()))
    }

    /// The next stream that is to be gone on with here. For one task alone.
    pub async fn orphan(&self) -> Option<Orphan> {
        self.orphans.1.lock().await.recv().await
    }

    /// Nobody came back to the stream in time.
    pub(super) fn abandoned(&self, stream: StreamId) {
        self.lock().pass(stream, Entry::Abandoned);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Whole after every statement but for counts, so a panic elsewhere does no harm.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.seated.fetch_sub(1, Ordering::Relaxed);
        self.metrics.record_reader_closed();
    }
}

impl Known {
    /// Remembers how a stream ended that cannot be read any more.
    fn pass(&mut self, stream: StreamId, entry: Entry) {
        self.streams.insert(stream, entry);
        self.past.push_back((Instant::now() + REMEMBERED, stream));
    }

    /// Lets go of some of what is past its time; says whether there may be more.
    fn tidy(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..TIDIED {
            let full = self.held > HELD;
            let drops = self
                .readable
                .pop_front_if(|(until, _)| full || *until <= now);
            let full = self.past.len() > MOST;
            let forgets = self.past.pop_front_if(|(until, _)| full || *until <= now);
            if let Some((_, stream)) = forgets {
                self.streams.remove(&stream);
            }
            if let Some((_, stream)) = drops
                && let Some(&Entry::Readable { held, last, .. }) = self.streams.get(&stream)
            {
                self.held -= held;
                self.pass(stream, Entry::Ended { last });
            } else if forgets.is_none() {
                return false;
            }
        }
        true
    }
}
