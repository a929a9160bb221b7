//! The part of a stream that replicas use: append, store, take over.

use std::sync::Mutex;

use bytes::Bytes;

use super::pump::Pump;
use super::state::{State, Unstored};
use super::stream::{Replication, Retention, Stream};
use crate::model::{Error, StreamId};

impl Stream {
    /// A stream that another replica produces; [`Stream::append_remote`] fills its log.
    pub(super) fn remote(id: StreamId, owner: String, buffer: usize) -> Self {
        Self::without_pump(Some(id), owner, Some(buffer))
    }

    /// Appends what its producer wrote. With `ended`, the terminal event is in it.
    pub(super) fn append_remote(&self, bytes: Bytes, ended: bool) {
        let mut state = self.state.lock();
        state.log.push(bytes);
        state.ended |= ended;
        drop(state);
        self.state.wake_all();
    }

    /// Another replica produces the stream from here on.
    pub(super) fn start_epoch(&self, epoch: u8) {
        self.state.lock().start_epoch(epoch);
    }

    /// Ends all reads here with an error. The stream itself has not ended: readers may find the rest when
    /// they come back.
    pub(super) fn disconnect_readers(&self, why: Error) {
        let mut state = self.state.lock();
        state.ended = true;
        state.disconnected = Some(why);
        drop(state);
        self.state.wake_all();
    }

    /// This replica produces it from here on; the next reader drives it.
    pub(super) fn take_over(&self, pump: Pump, retention: Retention) {
        let mut state = self.state.lock();
        (state.stored_until, state.registered) = (state.log.end(), true);
        drop(state);
        // A takeover removes the stream from the followed ones first, so it happens once.
        let _ = self.retention.set(retention);
        let _ = self.pump.set(Mutex::new(pump));
        self.state.wake_all();
    }

    /// Whether another replica may take it over.
    pub(super) fn can_be_taken_over(&self) -> bool {
        let retention = self
            .retention()
            .filter(|retention| retention.request.is_some());
        retention.and_then(Retention::replicated_to).is_some()
    }

    /// Stops producing it, so that another replica can take it over. Readers continue there.
    pub(super) fn hand_over(&self, why: &Error) {
        // Readers of a superseded stream could not continue elsewhere.
        if !self.is_superseded() {
            self.stop_producing(why);
        }
    }

    /// Another replica has taken the stream over although this one is alive, because this one's lease had
    /// run out. If the new producer continues the stream, it ends here. There are two exceptions, in which
    /// it continues for the readers that it has here: they have events that the store never got, so no other
    /// replica can continue from there; or the other replica only ended it.
    pub(super) fn handle_superseded(&self) {
        let readers_have_more = {
            let mut state = self.state.lock();
            state.superseded = true;
            state.visible() > state.stored_until
        };
        if self.can_be_taken_over() && !readers_have_more {
            let why = "another replica has taken this stream over";
            self.stop_producing(&Error::interrupted(why));
        } else {
            self.release_held_back();
        }
    }

    /// Whether another replica has taken it over from this one.
    pub(super) fn is_superseded(&self) -> bool {
        self.state.lock().superseded
    }

    fn stop_producing(&self, why: &Error) {
        let Some(mut pump) = self.pump() else {
            return;
        };
        if self.state.lock().is_over() {
            return;
        }
        pump.stop_for_takeover(why);
        drop(pump);
        self.state.lock().superseded = true;
        if let Some(retention) = self.retention() {
            retention.registry.release(retention);
        }
        self.disconnect_readers(why.clone());
    }

    /// What is to be stored, about `room` bytes at most; `None` if that is nothing.
    pub(super) fn unstored(&self, room: usize) -> Option<Unstored> {
        self.state.lock().unstored(room)
    }

    /// The store has it up to `position`. Returns whether there is more to be stored.
    pub(super) fn mark_stored(&self, position: u64) -> bool {
        let mut state = self.state.lock();
        let (before, more) = (state.visible(), state.mark_stored(position));
        let became_visible = state.visible() > before;
        drop(state);
        if became_visible {
            self.state.wake_all();
        }
        more
    }

    /// The store has its first entry.
    pub(super) fn mark_registered(&self) {
        let mut state = self.state.lock();
        state.registered = true;
        let became_visible = !state.ended && !self.can_be_taken_over();
        drop(state);
        if became_visible {
            self.release_held_back();
        }
    }

    /// Lets viewers read everything, stored or not: they do not wait for a store that is down.
    pub(super) fn release_held_back(&self) {
        let held = self.state.lock().visible_limit.take();
        if held.is_some() {
            self.state.wake_all();
        }
    }

    /// Whether new bytes must be stored before viewers read them. A client must not have something that is
    /// lost with this replica if that is the way back to the stream (its start), its end, or text that
    /// another producer would write differently.
    pub(super) fn must_hold_back(&self, state: &State, replicas: &dyn Replication) -> bool {
        let needed = !state.registered || state.ended || self.can_be_taken_over();
        let stream = self.retention().map(|retention| retention.stream);
        needed && !state.superseded && stream.is_some_and(|stream| replicas.is_store_up(stream))
    }
}
