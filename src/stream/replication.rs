//! What replicas do to one another's streams: follow them, store them, take them over.

use std::sync::Mutex;

use bytes::Bytes;

use super::pump::Pump;
use super::replicas::Replicas;
use super::state::{State, Unstored};
use super::stream::{Retention, Stream};
use crate::model::{Error, StreamId};

impl Stream {
    /// A stream that another replica makes, and that is told here with [`Stream::follow`].
    pub(super) fn remote(id: StreamId, owner: String, buffer: usize) -> Self {
        Self::without_pump(Some(id), owner, Some(buffer))
    }

    /// What the replica that makes it has said; with `ended`, its terminal event is in it.
    pub(super) fn append_remote(&self, bytes: Bytes, ended: bool) {
        let mut state = self.state.lock();
        state.log.push(bytes);
        state.ended |= ended;
        drop(state);
        self.state.wake_all();
    }

    /// Somebody else makes the stream from here on.
    pub(super) fn start_epoch(&self, epoch: u8) {
        self.state.lock().start_epoch(epoch);
    }

    /// Tells its readers that nothing more comes here. It is no end of the stream's: they may find
    /// the rest where they come back to.
    pub(super) fn disconnect_readers(&self, why: Error) {
        let mut state = self.state.lock();
        state.ended = true;
        state.disconnected = Some(why);
        drop(state);
        self.state.wake_all();
    }

    /// This replica makes it from here on: the next who reads drives it.
    pub(super) fn take_over(&self, pump: Pump, retention: Retention) {
        let mut state = self.state.lock();
        (state.stored_until, state.registered) = (state.log.end(), true);
        drop(state);
        // Nobody takes over twice what is followed no more.
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

    /// Gives it up for another replica to take over. Readers find it there.
    pub(super) fn hand_over(&self, why: &Error) {
        // Those who still read one that is superseded could not go on elsewhere.
        if !self.is_superseded() {
            self.stop_producing(why);
        }
    }

    /// Another replica has taken it over, although this one lives: the others had not heard of it
    /// for too long. Where they go on with it, it ends here, unless readers here were told what the
    /// others never heard: nobody there can go on behind that. Then, and where the others ended it,
    /// it goes on for those who read it here.
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
            retention.registry.remove(retention.stream);
        }
        self.disconnect_readers(why.clone());
    }

    /// What is to be stored, of at most about `room` bytes; `None` where that is nothing.
    pub(super) fn unstored(&self, room: usize) -> Option<Unstored> {
        self.state.lock().unstored(room)
    }

    /// Other replicas can read it up to `position`. Says whether there is more to be stored.
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

    /// Other replicas know of it.
    pub(super) fn mark_registered(&self) {
        let mut state = self.state.lock();
        state.registered = true;
        let became_visible = !state.ended && !self.can_be_taken_over();
        drop(state);
        if became_visible {
            self.release_held_back();
        }
    }

    /// Shows its viewers all there is, stored or not: they do not wait for a store that is gone.
    pub(super) fn release_held_back(&self) {
        let held = self.state.lock().visible_limit.take();
        if held.is_some() {
            self.state.wake_all();
        }
    }

    /// Whether what is new must be stored before viewers read it: nobody is to have what a replica
    /// could take with it, where that is the way back to the stream, its end, or what another one
    /// would say anew.
    pub(super) fn must_hold_back(&self, state: &State, replicas: &Replicas) -> bool {
        let needed = !state.registered || state.ended || self.can_be_taken_over();
        needed && !state.superseded && replicas.is_store_up()
    }
}
