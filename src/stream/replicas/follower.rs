//! What another replica's stream says, on its way to readers here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Ask, Batch, Entry};
use super::{Inner, LEASE, RENEWAL, last_number, millis};
use crate::dialect::native::{error, last_told, told};
use crate::model::{Error, ErrorCode, EventId, StreamId};
use crate::stream::shared::Stream;

/// How long a replica's sign of life may be missing. With the time that the last sign holds, a
/// stream whose replica was killed ends within five seconds for everybody, on a busy machine too.
const MISSING: Duration = Duration::from_secs(1);
/// How long the store may be gone before those who read another replica's stream are told.
const GONE: Duration = Duration::from_secs(5);
/// How long a stream that nobody reads is followed.
const UNREAD: Duration = Duration::from_secs(2);

/// A stream of another replica, as far as it is known here.
pub(super) struct Follower {
    id: StreamId,
    stream: Arc<Stream>,
    producer: String,
    /// The last entry's id.
    after: String,
    last: Option<u64>,
    /// Since when its replica gives no sign of life.
    missing: Option<Instant>,
    /// Since when the store does not answer.
    gone: Option<Instant>,
    /// When somebody read it last.
    read: Instant,
    /// When its replica was told so last.
    said: Option<Instant>,
}

impl Follower {
    /// A stream of which these entries are known; at least one.
    pub(super) fn new(id: StreamId, buffer: usize, entries: Vec<Entry>) -> Self {
        let owner = entries.first().map(|entry| entry.owner.clone());
        let mut follower = Self {
            id,
            stream: Arc::new(Stream::followed(id, owner.unwrap_or_default(), buffer)),
            producer: String::new(),
            after: "0".to_owned(),
            last: None,
            missing: None,
            gone: None,
            read: Instant::now(),
            said: None,
        };
        follower.take(entries);
        follower
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The replica that makes the stream.
    pub(super) fn producer(&self) -> &str {
        &self.producer
    }

    fn take(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.after = entry.id;
            self.producer = entry.producer;
            if self.stream.ended() {
                continue;
            }
            let bytes = unknown(entry.bytes, self.last);
            let Some(first) = told(&bytes).next() else {
                continue;
            };
            if self.last.is_some_and(|last| first.number != last + 1) {
                return self.break_off("some of the stream was lost on its way");
            }
            self.last = last_number(&bytes);
            let terminal =
                last_told(&bytes).is_some_and(|told| matches!(told.name, "complete" | "error"));
            self.stream.follow(bytes, terminal);
        }
    }

    /// Ends the stream for those who read it here.
    fn break_off(&mut self, why: &str) {
        if self.stream.ended() {
            return;
        }
        let missed = EventId {
            stream: self.id,
            number: self.last.map_or(0, |last| last + 1),
        };
        let why = Error::new(ErrorCode::StreamInterrupted, why);
        self.stream.break_off(error(Some(missed), &why));
    }
}

impl Inner {
    /// Asks for what followed streams have said; now and then, says that they are read.
    pub(super) fn follow(&self, batch: &mut Batch) {
        let mut work = self.work();
        work.followed.retain(|_, follower| {
            if follower.stream.is_viewed() {
                follower.read = Instant::now();
            }
            !follower.stream.ended() && follower.read.elapsed() < UNREAD
        });
        for (&id, follower) in &mut work.followed {
            // In this order: who has ended has written everything before.
            let mut life = redis::cmd("MGET");
            life.arg(self.keys.life(&follower.producer))
                .arg(self.keys.past(id));
            batch.add(life, Ask::Life(id));
            batch.fetch(id, self.keys.log(id), &follower.after);
            let silent = follower.said.is_none_or(|said| said.elapsed() >= RENEWAL);
            if silent && follower.stream.is_viewed() {
                follower.said = Some(Instant::now());
                let mut viewed = redis::cmd("SET");
                viewed.arg(self.keys.viewed(id)).arg(1);
                let time = LEASE.max(self.window + RENEWAL);
                viewed.arg("PX").arg(millis(time));
                batch.add(viewed, Ask::Nothing);
            }
        }
    }

    /// What a followed stream has said, whether its replica `lives`, and whether it is `past`.
    pub(super) fn followed(&self, id: StreamId, entries: Vec<Entry>, lives: bool, past: bool) {
        let mut work = self.work();
        let Some(follower) = work.followed.get_mut(&id) else {
            return;
        };
        follower.gone = None;
        if !entries.is_empty() {
            follower.missing = None;
            return follower.take(entries);
        }
        if past {
            return follower.break_off("the rest of the stream is not in the shared state");
        }
        if lives {
            follower.missing = None;
            return;
        }
        let missing = *follower.missing.get_or_insert_with(Instant::now);
        if missing.elapsed() >= MISSING {
            follower.break_off("the replica that made this stream is gone");
        }
    }

    /// Ends what is followed here, because this replica follows nothing any more.
    pub(super) fn let_go(&self) {
        for follower in self.work().followed.values_mut() {
            follower.break_off("this replica shares no state with the others any more");
        }
    }

    /// The store did not answer.
    pub(super) fn unfollowed(&self) {
        for follower in self.work().followed.values_mut() {
            let gone = *follower.gone.get_or_insert_with(Instant::now);
            if gone.elapsed() >= GONE {
                follower.break_off("the state that replicas share cannot be reached");
            }
        }
    }
}

/// What is behind the event with the number `last`: entries may overlap.
fn unknown(bytes: Bytes, last: Option<u64>) -> Bytes {
    let known = told(&bytes).take_while(|told| last.is_some_and(|last| told.number <= last));
    let known: usize = known.map(|told| told.bytes.len()).sum();
    bytes.slice(known..)
}
