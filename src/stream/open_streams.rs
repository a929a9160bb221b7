//! The streams that are open on this replica, for its operator. A stream does nothing for this list
//! while it runs: the list looks into the streams when the operator asks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::record::Progress;
use crate::model::StreamId;

/// How many entries there are before ended ones are removed for the first time.
const SWEEP_AT_LEAST: usize = 64;

/// How often deadlines are enforced.
const DEADLINE_INTERVAL: Duration = Duration::from_secs(1);
/// How many streams are looked at before other tasks get their turn: of ten thousand at once, a new
/// stream would see it.
const STREAMS_PER_TURN: usize = 64;

/// What the list needs of a stream.
pub(super) trait ListedStream: Send + Sync {
    fn is_open(&self) -> bool;

    /// What it has sent so far. `None` if that is not known, or if a viewer drives right now.
    fn progress(&self) -> Option<Progress>;

    /// The memory of its log, in bytes.
    fn log_bytes(&self) -> usize;

    fn cancel(&self);

    /// Ends the stream if a deadline has passed at `now`.
    fn enforce_deadlines(&self, now: Instant);
}

/// Every stream of a dialect that this replica produces.
#[derive(Default)]
pub struct OpenStreams {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// In the order in which they began.
    entries: Vec<Arc<OpenStream>>,
    /// The number of entries at which ended ones are removed.
    sweep_at: usize,
}

/// One of them, as its list shows it.
pub struct OpenStream {
    pub id: StreamId,
    pub dialect: &'static str,
    /// The model's name in the configuration.
    pub model: String,
    /// The name of the caller's key.
    pub key: String,
    begun: Instant,
    stream: Weak<dyn ListedStream>,
}

/// The result of looking for a stream by the beginning of its id.
pub enum PrefixMatch {
    None,
    One(Arc<OpenStream>),
    Several,
}

impl OpenStreams {
    pub(super) fn add(
        &self,
        stream: &Arc<impl ListedStream + 'static>,
        id: StreamId,
        dialect: &'static str,
        model: String,
        key: String,
    ) {
        let entry = OpenStream {
            id,
            dialect,
            model,
            key,
            begun: Instant::now(),
            stream: Arc::downgrade(stream) as _,
        };
        let mut table = self.lock();
        if table.entries.len() >= table.sweep_at {
            table.entries.retain(|entry| entry.is_open());
            // Each entry is looked at about once while it is in the list, however long that is.
            table.sweep_at = (2 * table.entries.len()).max(SWEEP_AT_LEAST);
        }
        table.entries.push(Arc::new(entry));
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<OpenStream>> {
        let mut open = self.lock().entries.clone();
        open.retain(|entry| entry.is_open());
        open
    }

    /// Ends streams whose deadlines have passed. A stream is driven by its readers, so one whose client
    /// stopped reading does not look at its deadlines itself. Runs until it is dropped.
    pub async fn run_deadlines(&self) {
        let mut interval = tokio::time::interval(DEADLINE_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = interval.tick().await;
            let mut begin = 0;
            loop {
                let turn = self.turn(begin);
                if turn.is_empty() {
                    break;
                }
                begin += turn.len();
                for entry in turn {
                    if let Some(stream) = entry.stream.upgrade() {
                        // A panic in one stream must not end the deadlines of all others.
                        let enforce = AssertUnwindSafe(|| stream.enforce_deadlines(now));
                        let _ = catch_unwind(enforce);
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Some entries, from a place in the list on. An entry that moves between two turns because ended ones
    /// are removed may be missed; its next turn is a second later.
    fn turn(&self, begin: usize) -> Vec<Arc<OpenStream>> {
        let table = self.lock();
        let rest = table.entries.get(begin..).unwrap_or_default();
        rest.iter().take(STREAMS_PER_TURN).cloned().collect()
    }

    /// The stream whose id begins with `prefix`.
    pub fn find(&self, prefix: &str) -> PrefixMatch {
        let mut all = self.all();
        all.retain(|entry| entry.id.to_string().starts_with(prefix));
        match all.len() {
            0 => PrefixMatch::None,
            1 => all.pop().map_or(PrefixMatch::None, PrefixMatch::One),
            _ => PrefixMatch::Several,
        }
    }

    /// The memory of the logs of the streams that are open, in bytes.
    pub fn log_bytes(&self) -> usize {
        let streams = self.all();
        let streams = streams.iter().filter_map(|entry| entry.stream.upgrade());
        streams.map(|stream| stream.log_bytes()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenStream {
    fn is_open(&self) -> bool {
        let stream = self.stream.upgrade();
        stream.is_some_and(|stream| stream.is_open())
    }

    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// `None` while the stream is read, because that is no reason to hold it up, and after its end.
    pub fn progress(&self) -> Option<Progress> {
        self.stream.upgrade()?.progress()
    }

    /// Ends it for all its clients, and closes the upstream's connection.
    pub fn cancel(&self) {
        if let Some(stream) = self.stream.upgrade() {
            stream.cancel();
        }
    }
}
