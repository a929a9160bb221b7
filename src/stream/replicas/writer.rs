//! What this replica's own streams have said, on its way to the store.

use std::time::Duration;

use redis::Cmd;

use super::batch::{Ask, Batch};
use super::{Inner, last_number, millis};
use crate::dialect::native::told;
use crate::model::StreamId;
use crate::stream::registry::Found;
use crate::stream::shared::Stream;

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
    announced: Vec<(StreamId, String, Duration)>,
    abandoned: Vec<(StreamId, Duration)>,
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
                announced: std::mem::take(&mut work.announced),
                abandoned: std::mem::take(&mut work.abandoned),
            };
            (taken, !work.unstored.is_empty())
        };
        for (id, owner, window) in &taken.announced {
            let mut command = redis::cmd("XADD");
            // Before every event's.
            command.arg(self.keys.log(*id)).arg("0-1");
            command.arg("events").arg("").arg("owner").arg(owner);
            command.arg("replica").arg(self.keys.name());
            batch.add(command, Ask::Nothing);
            batch.add(self.expire(*id, *window + SILENCE), Ask::Nothing);
        }
        for &(id, window) in &taken.abandoned {
            batch.add(self.expire(id, Duration::ZERO), Ask::Nothing);
            batch.add(self.remember(id, "-", window), Ask::Nothing);
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

    /// Nobody knows whether this was written.
    pub(super) fn put_back(&self, taken: Taken) {
        let mut work = self.work();
        work.unstored.extend(taken.streams);
        work.announced.extend(taken.announced);
        work.abandoned.extend(taken.abandoned);
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
                .arg(first.number + 1);
            batch.add(trim, Ask::Nothing);
        }
        let mut position = unstored.position;
        let mut last = None;
        for bytes in &unstored.writes {
            let Some(number) = last_number(bytes) else {
                continue;
            };
            position += bytes.len() as u64;
            last = Some(number);
            let mut command = redis::cmd("XADD");
            command.arg(self.keys.log(id));
            if unstored.oldest > 0 {
                command.arg("MINID").arg("~").arg(unstored.oldest + 1);
            }
            command.arg(number + 1);
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
