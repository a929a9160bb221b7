//! What another replica's stream says, on its way to readers here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Ask, Batch, Entry};
use super::keys::Keys;
use super::orphan::Orphan;
use super::writer::Ending;
use super::{GONE, Inner, LEASE, RENEWAL, millis};
use crate::dialect::native::{last_told, told};
use crate::metrics::Takeover;
use crate::model::{Error, Ordinal, StreamId};
use crate::stream::stream::Stream;

/// How long a replica's sign of life may be missing. With the time that the last sign holds, a
/// stream whose replica was killed ends within five seconds for everybody, on a busy machine too.
const MISSING: Duration = Duration::from_secs(1);
/// How long a stream that nobody reads is followed.
const UNREAD: Duration = Duration::from_secs(2);

/// How long it may take to take a stream over, once that is tried.
const CLAIMING: Duration = Duration::from_secs(2);

/// A stream of another replica, as far as it is known here.
pub(super) struct Follower {
    id: StreamId,
    stream: Arc<Stream>,
    owner: String,
    model: String,
    producer: String,
    /// What the client asked for, where it is to be gone on with.
    request: Option<Bytes>,
    /// The last entry's id.
    after: String,
    epoch: u8,
    last: Option<u64>,
    /// Since when its replica gives no sign of life.
    missing: Option<Instant>,
    /// Since when this replica tries to take it over.
    claiming: Option<Instant>,
    /// Whether this replica has taken it over.
    claimed: bool,
    /// Since when the store does not answer.
    gone: Option<Instant>,
    /// When somebody read it last.
    read: Instant,
    /// When its replica was told so last.
    said: Option<Instant>,
}

impl Follower {
    /// A stream of which these entries are known; at least one.
    pub(super) fn new(id: StreamId, buffer: usize, entries: Vec<Entry>, own: &str) -> Self {
        let owner = entries.first().map(|entry| entry.owner.clone());
        let owner = owner.unwrap_or_default();
        let mut follower = Self {
            id,
            stream: Arc::new(Stream::followed(id, owner.clone(), buffer)),
            owner,
            model: String::new(),
            producer: String::new(),
            request: None,
            after: "0".to_owned(),
            epoch: 0,
            last: None,
            missing: None,
            claiming: None,
            claimed: false,
            gone: None,
            read: Instant::now(),
            said: None,
        };
        follower.take(entries, own);
        follower
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The replica that makes the stream.
    pub(super) fn producer(&self) -> &str {
        &self.producer
    }

    /// Takes what is new; `own` is this replica's name.
    fn take(&mut self, entries: Vec<Entry>, own: &str) {
        for entry in entries {
            let epoch = entry.epoch();
            self.after = entry.id;
            self.producer = entry.producer;
            self.request = entry.request.or(self.request.take());
            self.model = entry.model.unwrap_or(std::mem::take(&mut self.model));
            if self.stream.ended() {
                continue;
            }
            if epoch > self.epoch {
                self.epoch = epoch;
                self.stream.fork(epoch);
                self.claiming = None;
                self.claimed = self.producer == own;
            }
            let bytes = unknown(entry.bytes, self.last);
            let Some(first) = told(&bytes).next() else {
                continue;
            };
            self.claimed = false;
            if self
                .last
                .is_some_and(|last| first.ordinal.number != last + 1)
            {
                return self.cut_off("some of the stream was lost on its way");
            }
            let last = last_told(&bytes);
            self.last = last.map(|last| last.ordinal.number);
            let terminal = last.is_some_and(|told| matches!(told.name, "complete" | "error"));
            self.stream.follow(bytes, terminal);
        }
    }

    /// The stream, if it was taken over by this replica, which has not said anything since.
    fn orphan(&mut self) -> Option<Orphan> {
        let claimed = std::mem::take(&mut self.claimed) && !self.stream.ended();
        claimed.then(|| Orphan {
            id: self.id,
            stream: Arc::clone(&self.stream),
            owner: self.owner.clone(),
            model: self.model.clone(),
            next: Ordinal {
                epoch: self.epoch,
                number: self.last.map_or(0, |last| last + 1),
            },
            request: self.request.clone(),
        })
    }

    /// Tells those who read it here that nothing more comes.
    fn cut_off(&mut self, why: &str) {
        if !self.stream.ended() {
            self.stream.cut_off(Error::interrupted(why));
        }
    }

    /// The entry that takes the stream over, where its replica has been missing for too long.
    fn claim(&mut self) -> Option<String> {
        let missing = self.missing?;
        if missing.elapsed() < MISSING || self.epoch == u8::MAX {
            return None;
        }
        let claiming = *self.claiming.get_or_insert_with(Instant::now);
        if claiming.elapsed() >= CLAIMING {
            // There is nothing left of it to be taken over.
            self.cut_off("the replica that made this stream is gone");
            return None;
        }
        Some(Keys::claim(self.epoch + 1))
    }
}

impl Inner {
    /// Asks for what followed streams have said; now and then, says that they are read. Takes over
    /// those whose replicas are gone.
    pub(super) fn follow(&self, batch: &mut Batch) {
        let mut work = self.work();
        let retired = work.retired;
        work.followed.retain(|_, follower| {
            if follower.stream.is_viewed() || follower.claiming.is_some() {
                follower.read = Instant::now();
            }
            !follower.stream.ended() && follower.read.elapsed() < UNREAD
        });
        for (&id, follower) in &mut work.followed {
            if !retired && let Some(claim) = follower.claim() {
                let mut command = redis::cmd("XADD");
                command.arg(self.keys.log(id)).arg("NOMKSTREAM");
                command.arg(claim).arg("events").arg("");
                command.arg("owner").arg(&follower.owner);
                command.arg("replica").arg(self.keys.name());
                // Whoever was first is in what comes next.
                batch.add(command, Ask::Nothing);
            }
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
        let orphan = {
            let mut work = self.work();
            let Some(follower) = work.followed.get_mut(&id) else {
                return;
            };
            follower.gone = None;
            if entries.is_empty() && !lives && !past {
                follower.missing.get_or_insert_with(Instant::now);
                return;
            }
            follower.missing = None;
            if entries.is_empty() && past {
                return follower.cut_off("the rest of the stream is not in the shared state");
            }
            follower.take(entries, self.keys.name());
            follower.orphan()
        };
        if let Some(orphan) = orphan {
            self.inherit(orphan);
        }
    }

    /// A stream was taken over: it is gone on with if that is possible, else it ends.
    pub(super) fn inherit(&self, orphan: Orphan) {
        let refused = match orphan.text() {
            Some(_) => self.registry.orphaned(orphan).err(),
            None => Some(Box::new(orphan)),
        };
        if let Some(orphan) = refused {
            self.end(Ending::of(*orphan));
        }
    }

    /// Ends a stream that this replica has taken over.
    pub(super) fn end(&self, ending: Ending) {
        self.metrics.record_takeover(Takeover::Ended);
        self.work().endings.push(ending);
        self.soon.notify_one();
    }

    /// Ends what is followed here, because this replica follows nothing any more.
    pub(super) fn let_go(&self) {
        for follower in self.work().followed.values_mut() {
            follower.cut_off("this replica shares no state with the others any more");
        }
    }

    /// The store did not answer.
    pub(super) fn unfollowed(&self) {
        for follower in self.work().followed.values_mut() {
            let gone = *follower.gone.get_or_insert_with(Instant::now);
            if gone.elapsed() >= GONE {
                follower.cut_off("the state that replicas share cannot be reached");
            }
        }
    }
}

/// What is behind the event with the number `last`: entries may overlap.
fn unknown(bytes: Bytes, last: Option<u64>) -> Bytes {
    let known =
        told(&bytes).take_while(|told| last.is_some_and(|last| told.ordinal.number <= last));
    let known: usize = known.map(|told| told.bytes.len()).sum();
    bytes.slice(known..)
}
