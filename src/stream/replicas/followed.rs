//! Streams of other replicas that clients read here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Batch, LogEntry, PendingReply};
use super::keys::Keys;
use super::writer::OrphanEnding;
use super::{Inner, LEASE, LEASE_RENEWAL, millis};
use crate::dialect::native::log_codec::{last_event, parse_events};
use crate::metrics::Takeover;
use crate::model::{Error, Ordinal, StreamId};
use crate::stream::background::STORE_TIMEOUT;
use crate::stream::orphans::Orphan;
use crate::stream::stream::Stream;

/// How long a producer's key may be missing before its streams are taken over. Together with the
/// lease, a stream whose replica was killed ends within five seconds, on a busy machine too.
const MAX_SILENCE: Duration = Duration::from_secs(1);
/// How long a stream without readers is still followed.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a takeover may be tried.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream of another replica, up to what this replica has fetched.
pub(super) struct FollowedStream {
    id: StreamId,
    stream: Arc<Stream>,
    owner: String,
    model: String,
    producer: String,
    /// The client's request, if the stream may be continued.
    request: Option<Bytes>,
    /// The id of the last entry.
    last_entry: String,
    epoch: u8,
    last_number: Option<u64>,
    /// Since when its producer's key has been missing.
    producer_missing_since: Option<Instant>,
    /// Since when this replica has tried to take it over.
    claiming_since: Option<Instant>,
    /// Whether this replica has taken it over and has not written to it since.
    claimed: bool,
    /// Since when the store has not answered.
    store_down_since: Option<Instant>,
    /// When it last had a reader.
    last_viewed: Instant,
    /// When its `viewed` key was last set.
    reported_viewed: Option<Instant>,
}

impl FollowedStream {
    /// A stream with these entries, at least one. `own` is this replica's name.
    pub(super) fn new(id: StreamId, buffer: usize, entries: Vec<LogEntry>, own: &str) -> Self {
        let owner = entries.first().map(|entry| entry.owner.clone());
        let owner = owner.unwrap_or_default();
        let mut followed = Self {
            id,
            stream: Arc::new(Stream::remote(id, owner.clone(), buffer)),
            owner,
            model: String::new(),
            producer: String::new(),
            request: None,
            last_entry: "0".to_owned(),
            epoch: 0,
            last_number: None,
            producer_missing_since: None,
            claiming_since: None,
            claimed: false,
            store_down_since: None,
            last_viewed: Instant::now(),
            reported_viewed: None,
        };
        followed.apply(entries, own);
        followed
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The replica that produces the stream.
    pub(super) fn producer(&self) -> &str {
        &self.producer
    }

    /// Applies new entries; `own` is this replica's name.
    ///
    /// Invariant: readers get every event once and without gaps. A gap disconnects them.
    fn apply(&mut self, entries: Vec<LogEntry>, own: &str) {
        for entry in entries {
            let epoch = entry.epoch();
            self.last_entry = entry.id;
            self.producer = entry.producer;
            self.request = entry.request.or(self.request.take());
            self.model = entry.model.unwrap_or(std::mem::take(&mut self.model));
            if self.stream.is_ended() {
                continue;
            }
            if epoch > self.epoch {
                self.epoch = epoch;
                self.stream.start_epoch(epoch);
                self.claiming_since = None;
                self.claimed = self.producer == own;
            }
            let bytes = skip_known(entry.bytes, self.last_number);
            let Some(first) = parse_events(&bytes).next() else {
                continue;
            };
            self.claimed = false;
            if self
                .last_number
                .is_some_and(|last| first.ordinal.number != last + 1)
            {
                return self.disconnect_readers(
                    "some events of this stream are missing in the shared state",
                );
            }
            let last = last_event(&bytes);
            self.last_number = last.map(|last| last.ordinal.number);
            let terminal = last.is_some_and(|event| matches!(event.name, "complete" | "error"));
            self.stream.append_remote(bytes, terminal);
        }
    }

    /// The stream, if this replica has taken it over and has not written to it since.
    fn take_orphan(&mut self) -> Option<Orphan> {
        let claimed = std::mem::take(&mut self.claimed) && !self.stream.is_ended();
        claimed.then(|| Orphan {
            id: self.id,
            stream: Arc::clone(&self.stream),
            owner: self.owner.clone(),
            model: self.model.clone(),
            next: Ordinal {
                epoch: self.epoch,
                number: self.last_number.map_or(0, |last| last + 1),
            },
            request: self.request.clone(),
        })
    }

    /// Ends all reads here with an error.
    fn disconnect_readers(&mut self, why: &str) {
        if !self.stream.is_ended() {
            self.stream.disconnect_readers(Error::interrupted(why));
        }
    }

    /// The store did not answer. Readers wait for it for a bounded time.
    fn handle_store_failure(&mut self) {
        let since = *self.store_down_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= STORE_TIMEOUT {
            self.disconnect_readers("the shared state cannot be reached");
        }
    }

    /// The entry that takes the stream over, once its producer has been missing for too long.
    fn next_claim(&mut self) -> Option<String> {
        let producer_missing_since = self.producer_missing_since?;
        if producer_missing_since.elapsed() < MAX_SILENCE || self.epoch == u8::MAX {
            return None;
        }
        let claiming_since = *self.claiming_since.get_or_insert_with(Instant::now);
        if claiming_since.elapsed() >= CLAIM_TIMEOUT {
            // The log is gone from the store too, so there is nothing to take over.
            self.disconnect_readers("the replica that produced this stream is gone");
            return None;
        }
        Some(Keys::claim_entry(self.epoch + 1))
    }
}

impl Inner {
    /// Fetches new entries of followed streams, renews their `viewed` keys, and takes over the streams
    /// whose producers are gone.
    pub(super) fn add_follow_reads(&self, batch: &mut Batch) {
        let mut work = self.work();
        let takeovers_stopped = work.takeovers_stopped;
        work.followed.retain(|_, followed| {
            if followed.stream.is_viewed() || followed.claiming_since.is_some() {
                followed.last_viewed = Instant::now();
            }
            !followed.stream.is_ended() && followed.last_viewed.elapsed() < UNREAD_TIMEOUT
        });
        for (&id, followed) in &mut work.followed {
            if !takeovers_stopped && let Some(claim) = followed.next_claim() {
                let mut command = redis::cmd("XADD");
                command.arg(self.keys.log(id)).arg("NOMKSTREAM");
                command.arg(claim).arg("events").arg("");
                command.arg("owner").arg(&followed.owner);
                command.arg("replica").arg(self.keys.replica_name());
                // The first replica that claims the stream wins. The next fetch shows which one that is.
                batch.add(command, PendingReply::Ignored);
            }
            // Fetched before the log: once a stream has ended, its log is complete.
            for (key, reply) in [
                (
                    self.keys.alive(&followed.producer),
                    PendingReply::Liveness(id),
                ),
                (self.keys.ended(id), PendingReply::Ended(id)),
            ] {
                let mut status = redis::cmd("GET");
                status.arg(key);
                batch.add(status, reply);
            }
            batch.add_log_fetch(id, self.keys.log(id), &followed.last_entry);
            let due = followed
                .reported_viewed
                .is_none_or(|at| at.elapsed() >= LEASE_RENEWAL);
            if due && followed.stream.is_viewed() {
                followed.reported_viewed = Some(Instant::now());
                let mut viewed = redis::cmd("SET");
                viewed.arg(self.keys.viewed(id)).arg(1);
                let time = LEASE.max(self.window + LEASE_RENEWAL);
                viewed.arg("PX").arg(millis(time));
                batch.add(viewed, PendingReply::Ignored);
            }
        }
    }

    /// Applies new entries of a followed stream. `alive` is about its producer, `ended` about the stream.
    pub(super) fn apply_followed(
        &self,
        id: StreamId,
        entries: Vec<LogEntry>,
        alive: bool,
        ended: bool,
    ) {
        let orphan = {
            let mut work = self.work();
            let Some(followed) = work.followed.get_mut(&id) else {
                return;
            };
            followed.store_down_since = None;
            if entries.is_empty() && !alive && !ended {
                followed
                    .producer_missing_since
                    .get_or_insert_with(Instant::now);
                return;
            }
            followed.producer_missing_since = None;
            if entries.is_empty() && ended {
                return followed
                    .disconnect_readers("the rest of this stream is not in the shared state");
            }
            followed.apply(entries, self.keys.replica_name());
            followed.take_orphan()
        };
        if let Some(orphan) = orphan {
            self.accept_takeover(orphan);
        }
    }

    /// This replica has taken the stream over: continues it if that is possible, and ends it otherwise.
    pub(super) fn accept_takeover(&self, orphan: Orphan) {
        let unclaimed = match orphan.text() {
            Some(_) => self.orphans.push(orphan).err(),
            None => Some(Box::new(orphan)),
        };
        if let Some(orphan) = unclaimed {
            self.queue_ending(OrphanEnding::of(*orphan));
        }
    }

    /// Ends a stream that this replica has taken over.
    pub(super) fn queue_ending(&self, ending: OrphanEnding) {
        self.metrics.record_takeover(Takeover::Ended);
        self.work().endings.push(ending);
        self.sync_requested.notify_one();
    }

    /// Ends all reads of followed streams, because this replica stops following.
    pub(super) fn disconnect_all_readers(&self) {
        for followed in self.work().followed.values_mut() {
            followed.disconnect_readers("this replica no longer shares its state with the others");
        }
    }

    /// The store did not answer.
    pub(super) fn handle_store_failure(&self) {
        for followed in self.work().followed.values_mut() {
            followed.handle_store_failure();
        }
    }

    /// The server that has this stream did not answer.
    pub(super) fn handle_unreachable(&self, id: StreamId) {
        if let Some(followed) = self.work().followed.get_mut(&id) {
            followed.handle_store_failure();
        }
    }
}

/// The part after the event with the number `last_number`: entries may overlap.
fn skip_known(bytes: Bytes, last_number: Option<u64>) -> Bytes {
    let known = parse_events(&bytes)
        .take_while(|event| last_number.is_some_and(|last| event.ordinal.number <= last));
    let known: usize = known.map(|event| event.bytes.len()).sum();
    bytes.slice(known..)
}
