//! What this replica's own streams have said, on its way to the store.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;

use super::batch::{Ask, Batch, Entry};
use super::keys::Keys;
use super::orphan::Orphan;
use super::{Inner, gone, millis};
use crate::dialect::native::{self, last_told, told};
use crate::model::{EventId, Ordinal, StreamId};
use crate::stream::registry::Found;
use crate::stream::stream::Stream;

/// How much one turn writes, in bytes and in streams.
const BYTES: usize = 1 << 20;
const STREAMS: usize = 512;
/// How long a stream that says nothing is kept beside its window, in case its replica is killed.
const SILENCE: Duration = Duration::from_secs(60 * 60);
/// How long it is known that there was a stream.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// What one turn writes.
#[derive(Default)]
pub(super) struct Taken {
    streams: Vec<StreamId>,
    begun: Vec<Begun>,
    refused: Vec<StreamId>,
    abandoned: Vec<(StreamId, Duration)>,
    endings: Vec<Ending>,
}

/// A stream that begins.
pub(super) struct Begun {
    pub(super) id: StreamId,
    pub(super) owner: String,
    pub(super) model: String,
    pub(super) window: Duration,
    pub(super) request: Option<Bytes>,
}

/// The end of a stream whose maker is gone.
pub(super) struct Ending {
    id: StreamId,
    owner: String,
    /// The place of the error.
    at: Ordinal,
    /// Whole events.
    events: Bytes,
}

impl Ending {
    /// An error, behind the stream's start if that is not there.
    pub(super) fn of(orphan: Orphan) -> Self {
        let Orphan {
            id,
            owner,
            model,
            next,
            ..
        } = orphan;
        let (events, at) = match next.number {
            0 => (native::broken(id, next, model, &gone()), next.next()),
            _ => {
                let (stream, ordinal) = (id, next);
                let place = Some(EventId { stream, ordinal });
                (native::error(place, &gone()), next)
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
    /// Adds what is to be written. Says what that is, and whether there is more.
    pub(super) fn write(&self, batch: &mut Batch) -> (Taken, bool) {
        let (mut taken, more) = {
            let mut work = self.work();
            let streams: Vec<_> = work.unstored.iter().take(STREAMS).copied().collect();
            for id in &streams {
                work.unstored.remove(id);
            }
            let taken = Taken {
                streams,
                begun: std::mem::take(&mut work.begun),
                refused: std::mem::take(&mut work.refused),
                abandoned: std::mem::take(&mut work.abandoned),
                endings: std::mem::take(&mut work.endings),
            };
            (taken, !work.unstored.is_empty())
        };
        for begun in &taken.begun {
            self.begin(begun, batch);
        }
        for id in &taken.refused {
            let mut command = redis::cmd("DEL");
            command.arg(self.keys.log(*id));
            batch.add(command, Ask::Nothing);
        }
        for &(id, window) in &taken.abandoned {
            batch.add(self.expire(id, Duration::ZERO), Ask::Nothing);
            batch.add(self.remember(id, "-", window), Ask::Nothing);
        }
        for ending in &taken.endings {
            self.finish(ending, batch);
        }
        let mut room = BYTES;
        let mut later = Vec::new();
        for &id in &taken.streams {
            if room == 0 {
                later.push(id);
            } else if let Some(Found::Stream(stream)) = self.registry.find(id) {
                room = room.saturating_sub(self.append(id, &stream, room, batch));
            }
        }
        let more = more || !later.is_empty();
        taken.streams.retain(|id| !later.contains(id));
        self.unwritten(later);
        (taken, more)
    }

    /// Nobody knows whether this was written. Nobody waits for it either.
    pub(super) fn put_back(&self, taken: Taken) {
        let begun = taken.begun.iter().map(|begun| begun.id);
        for id in taken.streams.iter().copied().chain(begun) {
            self.show(id);
        }
        let mut work = self.work();
        work.unstored.extend(taken.streams);
        work.begun.extend(taken.begun);
        work.refused.extend(taken.refused);
        work.abandoned.extend(taken.abandoned);
        work.endings.extend(taken.endings);
    }

    /// Lets viewers here read what is not stored.
    pub(super) fn show(&self, id: StreamId) {
        if let Some(Found::Stream(stream)) = self.registry.find(id) {
            stream.show();
        }
    }

    /// Asks who wrote what the store has of streams whose last words it refused as outdated.
    pub(super) fn ask_again(&self, batch: &mut Batch) -> HashMap<StreamId, u64> {
        let doubted = std::mem::take(&mut self.work().doubted);
        for (&stream, &position) in &doubted {
            let mut command = redis::cmd("XREVRANGE");
            command.arg(self.keys.log(stream)).arg("+").arg("-");
            command.arg("COUNT").arg(1);
            batch.add(command, Ask::Newest { stream, position });
        }
        doubted
    }

    /// A turn whose answer was lost is repeated, and what it has stored is refused then; but it is
    /// refused too where somebody else has taken the stream over.
    pub(super) fn settled(&self, id: StreamId, position: u64, newest: &[Entry]) {
        match newest.first() {
            Some(newest) if newest.producer == self.keys.name() => self.stored(id, position),
            Some(_) => {
                if let Some(Found::Stream(stream)) = self.registry.find(id) {
                    tracing::warn!(
                        stream = id.hint(),
                        "another replica has taken a stream over"
                    );
                    stream.superseded();
                }
            }
            None => self.unwritten(vec![id]),
        }
    }

    /// Others know the stream.
    pub(super) fn known(&self, id: StreamId) {
        if let Some(Found::Stream(stream)) = self.registry.find(id) {
            stream.known();
        }
    }

    /// The store has the stream up to this position.
    pub(super) fn stored(&self, id: StreamId, position: u64) {
        if let Some(Found::Stream(stream)) = self.registry.find(id)
            && stream.stored(position)
        {
            self.unwritten(vec![id]);
        }
    }

    /// These have to be written again.
    pub(super) fn unwritten(&self, streams: Vec<StreamId>) {
        self.work().unstored.extend(streams);
    }

    /// Adds what the stream has said since; says how many bytes that is.
    fn append(&self, id: StreamId, stream: &Stream, room: usize, batch: &mut Batch) -> usize {
        let (Some(unstored), Some(keeping)) = (stream.unstored(room), stream.keeping()) else {
            return 0;
        };
        let first = unstored.writes.first().and_then(|bytes| told(bytes).next());
        if let Some(first) = first.filter(|_| unstored.gap) {
            // What is there ends before what is kept here begins: nobody may join the two.
            let mut trim = redis::cmd("XTRIM");
            trim.arg(self.keys.log(id))
                .arg("MINID")
                .arg(Keys::entry(first.ordinal));
            batch.add(trim, Ask::Nothing);
        }
        let mut position = unstored.position;
        let mut last = None;
        for bytes in &unstored.writes {
            let Some(ordinal) = last_told(bytes).map(|told| told.ordinal) else {
                continue;
            };
            position += bytes.len() as u64;
            last = Some(ordinal);
            let mut command = redis::cmd("XADD");
            command.arg(self.keys.log(id));
            if unstored.oldest.number > 0 {
                let oldest = Keys::entry(unstored.oldest);
                command.arg("MINID").arg("~").arg(oldest);
            }
            command.arg(Keys::entry(ordinal));
            command.arg("events").arg(bytes.as_ref());
            command.arg("owner").arg(&keeping.owner);
            command.arg("replica").arg(self.keys.name());
            let stream = id;
            batch.add(command, Ask::Append { stream, position });
        }
        match last {
            Some(last) if unstored.ended => {
                batch.add(self.expire(id, keeping.window), Ask::Nothing);
                let last = last.to_string();
                batch.add(self.remember(id, &last, keeping.window), Ask::Nothing);
            }
            _ => batch.add(self.expire(id, keeping.window + SILENCE), Ask::Nothing),
        }
        (position - unstored.position) as usize
    }

    fn begin(&self, begun: &Begun, batch: &mut Batch) {
        let mut command = redis::cmd("XADD");
        command.arg(self.keys.log(begun.id)).arg(Keys::BEGINNING);
        command.arg("events").arg("").arg("owner").arg(&begun.owner);
        command.arg("replica").arg(self.keys.name());
        command.arg("model").arg(&begun.model);
        if let Some(request) = &begun.request {
            command.arg("request").arg(request.as_ref());
        }
        batch.add(command, Ask::Known(begun.id));
        batch.add(self.expire(begun.id, begun.window + SILENCE), Ask::Nothing);
    }

    /// Adds the end of a stream whose maker is gone.
    fn finish(&self, ending: &Ending, batch: &mut Batch) {
        let &Ending { id, at, .. } = ending;
        let mut command = redis::cmd("XADD");
        // Not where the log is gone meanwhile.
        command.arg(self.keys.log(id)).arg("NOMKSTREAM");
        command
            .arg(Keys::entry(at))
            .arg("events")
            .arg(ending.events.as_ref());
        command.arg("owner").arg(&ending.owner);
        command.arg("replica").arg(self.keys.name());
        batch.add(command, Ask::Nothing);
        batch.add(self.expire(id, self.window), Ask::Nothing);
        let last = at.to_string();
        batch.add(self.remember(id, &last, self.window), Ask::Nothing);
    }

    fn expire(&self, id: StreamId, after: Duration) -> Cmd {
        let mut command = redis::cmd("PEXPIRE");
        command.arg(self.keys.log(id)).arg(millis(after));
        command
    }

    /// How the stream ended, for as long as that is remembered.
    fn remember(&self, id: StreamId, how: &str, window: Duration) -> Cmd {
        let mut command = redis::cmd("SET");
        let time = millis(window + REMEMBERED);
        command.arg(self.keys.past(id)).arg(how).arg("PX").arg(time);
        command
    }
}
