//! Writes this replica's own streams to the store.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;

use super::batch::{Batch, LogEntry, PendingReply};
use super::keys::Keys;
use super::{Inner, millis, producer_gone};
use crate::dialect::native::log_codec::{self, last_event, parse_events};
use crate::model::{EventId, Ordinal, StreamId};
use crate::stream::orphans::Orphan;
use crate::stream::registry::Lookup;
use crate::stream::stream::Stream;

/// How much one round trip writes, in bytes and in streams.
const MAX_BYTES: usize = 1 << 20;
const MAX_STREAMS: usize = 512;
/// How long the store keeps a silent stream beyond its window, in case its producer is killed.
const IDLE_TIME: Duration = Duration::from_secs(60 * 60);
/// How long the store remembers that a stream existed.
const MEMORY_TIME: Duration = Duration::from_secs(10 * 60);

/// What one round trip writes.
#[derive(Default)]
pub(super) struct TakenWrites {
    streams: Vec<StreamId>,
    new_streams: Vec<NewStream>,
    unstarted: Vec<StreamId>,
    abandoned: Vec<(StreamId, Duration)>,
    endings: Vec<OrphanEnding>,
}

/// A stream that begins.
pub(super) struct NewStream {
    pub(super) id: StreamId,
    pub(super) owner: String,
    pub(super) model: String,
    pub(super) window: Duration,
    pub(super) request: Option<Bytes>,
}

/// The terminal events of a stream whose producer is gone.
pub(super) struct OrphanEnding {
    id: StreamId,
    owner: String,
    /// The ordinal of the error.
    at: Ordinal,
    /// Whole events.
    events: Bytes,
}

impl OrphanEnding {
    /// An error, after a start event if the stream has none.
    pub(super) fn of(orphan: Orphan) -> Self {
        let Orphan {
            id,
            owner,
            model,
            next,
            ..
        } = orphan;
        let (events, at) = match next.number {
            0 => (
                log_codec::failed_stream(id, next, model, &producer_gone()),
                next.next(),
            ),
            _ => {
                let (stream, ordinal) = (id, next);
                let id = Some(EventId { stream, ordinal });
                (log_codec::error_event(id, &producer_gone()), next)
            }
        };
        Self {
            id,
            owner,
            at,
            events,
        }
    }
}

impl Inner {
    /// Adds what is to be written. Returns what that is, and whether there is more.
    pub(super) fn add_writes(&self, batch: &mut Batch) -> (TakenWrites, bool) {
        let (mut taken, more) = {
            let mut work = self.work();
            let streams: Vec<_> = work.unstored.iter().take(MAX_STREAMS).copied().collect();
            for id in &streams {
                work.unstored.remove(id);
            }
            let taken = TakenWrites {
                streams,
                new_streams: std::mem::take(&mut work.new_streams),
                unstarted: std::mem::take(&mut work.unstarted),
                abandoned: std::mem::take(&mut work.abandoned),
                endings: std::mem::take(&mut work.endings),
            };
            (taken, !work.unstored.is_empty())
        };
        for new_stream in &taken.new_streams {
            self.add_registration(new_stream, batch);
        }
        for id in &taken.unstarted {
            let mut command = redis::cmd("DEL");
            command.arg(self.keys.log(*id));
            batch.add(command, PendingReply::Ignored);
        }
        for &(id, window) in &taken.abandoned {
            batch.add(
                self.expire_command(id, Duration::ZERO),
                PendingReply::Ignored,
            );
            batch.add(
                self.remember_command(id, "-", window),
                PendingReply::Ignored,
            );
        }
        for ending in &taken.endings {
            self.add_ending(ending, batch);
        }
        let mut room = MAX_BYTES;
        let mut later = Vec::new();
        for &id in &taken.streams {
            if room == 0 {
                later.push(id);
            } else if let Some(Lookup::Stream(stream)) = self.registry.find(id) {
                room = room.saturating_sub(self.add_append(id, &stream, room, batch));
            }
        }
        let more = more || !later.is_empty();
        taken.streams.retain(|id| !later.contains(id));
        self.requeue(later);
        (taken, more)
    }

    /// The reply was lost, so these writes may or may not be stored. Viewers do not wait for them.
    pub(super) fn requeue_all(&self, taken: TakenWrites) {
        let new_streams = taken.new_streams.iter().map(|new_stream| new_stream.id);
        for id in taken.streams.iter().copied().chain(new_streams) {
            self.release_held_back(id);
        }
        let mut work = self.work();
        work.unstored.extend(taken.streams);
        work.new_streams.extend(taken.new_streams);
        work.unstarted.extend(taken.unstarted);
        work.abandoned.extend(taken.abandoned);
        work.endings.extend(taken.endings);
    }

    /// The server that should have the beginning of this stream did not answer.
    pub(super) fn requeue_registration(&self, taken: &mut TakenWrites, id: StreamId) {
        self.release_held_back(id);
        let mut taken = taken
            .new_streams
            .extract_if(.., |new_stream| new_stream.id == id);
        self.work().new_streams.extend(taken.by_ref());
    }

    /// The server that should have the end of this stream did not answer.
    pub(super) fn requeue_ending(&self, taken: &mut TakenWrites, id: StreamId) {
        let mut taken = taken.endings.extract_if(.., |ending| ending.id == id);
        self.work().endings.extend(taken.by_ref());
    }

    /// Lets viewers read what is not stored.
    pub(super) fn release_held_back(&self, id: StreamId) {
        if let Some(Lookup::Stream(stream)) = self.registry.find(id) {
            stream.release_held_back();
        }
    }

    /// Asks which replica wrote the newest entry of streams whose last write was refused as outdated.
    pub(super) fn add_ownership_checks(&self, batch: &mut Batch) -> HashMap<StreamId, u64> {
        let unconfirmed = std::mem::take(&mut self.work().unconfirmed);
        for (&stream, &position) in &unconfirmed {
            let mut command = redis::cmd("XREVRANGE");
            command.arg(self.keys.log(stream)).arg("+").arg("-");
            command.arg("COUNT").arg(1);
            batch.add(command, PendingReply::Newest { stream, position });
        }
        unconfirmed
    }

    /// A round trip whose reply was lost is repeated, and the store refuses what it has already. It also
    /// refuses an entry if another replica has taken the stream over.
    pub(super) fn resolve_ownership(&self, id: StreamId, position: u64, newest: &[LogEntry]) {
        match newest.first() {
            Some(newest) if newest.producer == self.keys.replica_name() => {
                self.mark_stored(id, position)
            }
            Some(_) => {
                if let Some(Lookup::Stream(stream)) = self.registry.find(id) {
                    tracing::warn!(
                        stream = id.hint(),
                        "another replica has taken over a stream of this replica"
                    );
                    stream.handle_superseded();
                }
            }
            None => self.requeue(vec![id]),
        }
    }

    /// The store has the stream's first entry.
    pub(super) fn mark_registered(&self, id: StreamId) {
        if let Some(Lookup::Stream(stream)) = self.registry.find(id) {
            stream.mark_registered();
        }
    }

    /// The store has the stream up to this position.
    pub(super) fn mark_stored(&self, id: StreamId, position: u64) {
        if let Some(Lookup::Stream(stream)) = self.registry.find(id)
            && stream.mark_stored(position)
        {
            self.requeue(vec![id]);
        }
    }

    /// Queues these streams for another write.
    pub(super) fn requeue(&self, streams: Vec<StreamId>) {
        self.work().unstored.extend(streams);
    }

    /// Adds the stream's new events; returns their bytes.
    fn add_append(&self, id: StreamId, stream: &Stream, room: usize, batch: &mut Batch) -> usize {
        let (Some(unstored), Some(retention)) = (stream.unstored(room), stream.retention()) else {
            return 0;
        };
        let first = unstored
            .writes
            .first()
            .and_then(|bytes| parse_events(bytes).next());
        if let Some(first) = first.filter(|_| unstored.gap) {
            // The store's events end before the first one that is kept here. Trimming them keeps a reader from
            // reading over the gap.
            let mut trim = redis::cmd("XTRIM");
            trim.arg(self.keys.log(id))
                .arg("MINID")
                .arg(Keys::event_entry(first.ordinal));
            batch.add(trim, PendingReply::Ignored);
        }
        let mut position = unstored.position;
        let mut last = None;
        for bytes in &unstored.writes {
            let Some(ordinal) = last_event(bytes).map(|event| event.ordinal) else {
                continue;
            };
            position += bytes.len() as u64;
            last = Some(ordinal);
            let mut command = redis::cmd("XADD");
            command.arg(self.keys.log(id));
            if unstored.oldest.number > 0 {
                let oldest = Keys::event_entry(unstored.oldest);
                command.arg("MINID").arg("~").arg(oldest);
            }
            command.arg(Keys::event_entry(ordinal));
            command.arg("events").arg(bytes.as_ref());
            command.arg("owner").arg(&retention.owner);
            command.arg("replica").arg(self.keys.replica_name());
            let stream = id;
            batch.add(command, PendingReply::Append { stream, position });
        }
        match last {
            Some(last) if unstored.ended => {
                batch.add(
                    self.expire_command(id, retention.window),
                    PendingReply::Ignored,
                );
                let last = last.to_string();
                batch.add(
                    self.remember_command(id, &last, retention.window),
                    PendingReply::Ignored,
                );
            }
            _ => batch.add(
                self.expire_command(id, retention.window + IDLE_TIME),
                PendingReply::Ignored,
            ),
        }
        (position - unstored.position) as usize
    }

    fn add_registration(&self, new_stream: &NewStream, batch: &mut Batch) {
        let mut command = redis::cmd("XADD");
        command
            .arg(self.keys.log(new_stream.id))
            .arg(Keys::FIRST_ENTRY);
        command
            .arg("events")
            .arg("")
            .arg("owner")
            .arg(&new_stream.owner);
        command.arg("replica").arg(self.keys.replica_name());
        command.arg("model").arg(&new_stream.model);
        if let Some(request) = &new_stream.request {
            command.arg("request").arg(request.as_ref());
        }
        batch.add(command, PendingReply::Registered(new_stream.id));
        batch.add(
            self.expire_command(new_stream.id, new_stream.window + IDLE_TIME),
            PendingReply::Ignored,
        );
    }

    /// Adds the terminal events of a stream whose producer is gone.
    fn add_ending(&self, ending: &OrphanEnding, batch: &mut Batch) {
        let &OrphanEnding { id, at, .. } = ending;
        let mut command = redis::cmd("XADD");
        // Writes nothing if the log has expired meanwhile.
        command.arg(self.keys.log(id)).arg("NOMKSTREAM");
        command
            .arg(Keys::event_entry(at))
            .arg("events")
            .arg(ending.events.as_ref());
        command.arg("owner").arg(&ending.owner);
        command.arg("replica").arg(self.keys.replica_name());
        batch.add(command, PendingReply::Ending(id));
        batch.add(self.expire_command(id, self.window), PendingReply::Ignored);
        let last = at.to_string();
        batch.add(
            self.remember_command(id, &last, self.window),
            PendingReply::Ignored,
        );
    }

    fn expire_command(&self, id: StreamId, after: Duration) -> Cmd {
        let mut command = redis::cmd("PEXPIRE");
        command.arg(self.keys.log(id)).arg(millis(after));
        command
    }

    /// Remembers how the stream ended.
    fn remember_command(&self, id: StreamId, how: &str, window: Duration) -> Cmd {
        let mut command = redis::cmd("SET");
        let time = millis(window + MEMORY_TIME);
        command
            .arg(self.keys.ended(id))
            .arg(how)
            .arg("PX")
            .arg(time);
        command
    }
}
