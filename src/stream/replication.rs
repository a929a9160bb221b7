//! What replicas do to one another's streams: follow them, store them, take them over.

use std::sync::Mutex;

use bytes::Bytes;

use super::pump::Pump;
use super::replicas::Replicas;
use super::state::{State, Unstored};
use super::stream::{Keeping, Stream};
use crate::model::{Error, StreamId};

impl Stream {
    /// A stream that another replica makes, and that is told here with [`Stream::follow`].
    pub(super) fn followed(id: StreamId, owner: String, buffer: usize) -> Self {
        Self::followed_as(Some(id), owner, Some(buffer))
    }

    /// What the replica that makes it has said; with `ended`, its terminal event is in it.
    pub(super) fn follow(&self, bytes: Bytes, ended: bool) {
        let mut state = self.shared.lock();
        state.log.push(bytes);
        state.ended |= ended;
        drop(state);
        self.shared.tell();
    }

    /// Somebody else makes the stream from here on.
    pub(super) fn fork(&self, epoch: u8) {
        self.shared.lock().fork(epoch);
    }

    /// Tells its readers that nothing more comes here. It is no end of the stream's: they may find
    /// the rest where they come back to.
    pub(super) fn cut_off(&self, why: Error) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.cut_off = Some(why);
        drop(state);
        self.shared.tell();
    }

    /// This replica makes it from here on: the next who reads drives it.
    pub(super) fn take_over(&self, pump: Pump, keeping: Keeping) {
        let mut state = self.shared.lock();
        (state.stored, state.known) = (state.log.end(), true);
        drop(state);
        // Nobody takes over twice what is followed no more.
        let _ = self.keeping.set(keeping);
        let _ = self.pump.set(Mutex::new(pump));
        self.shared.tell();
    }

    /// Whether another replica may take it over.
    pub(super) fn can_be_taken_over(&self) -> bool {
        let keeping = self.keeping().filter(|keeping| keeping.request.is_some());
        keeping.and_then(Keeping::shared).is_some()
    }

    /// Gives it up for another replica to take over. Readers find it there.
    pub(super) fn hand_over(&self, why: &Error) {
        // Those who still read one that is superseded could not go on elsewhere.
        if !self.is_superseded() {
            self.give_away(why);
        }
    }

    /// Another replica has taken it over, although this one lives: the others had not heard of it
    /// for too long. Where they go on with it, it ends here, unless readers here were told what the
    /// others never heard: nobody there can go on behind that. Then, and where the others ended it,
    /// it goes on for those who read it here.
    pub(super) fn superseded(&self) {
        let told_more = {
            let mut state = self.shared.lock();
            state.superseded = true;
            state.visible() > state.stored
        };
        if self.can_be_taken_over() && !told_more {
            let why = "another replica has taken this stream over";
            self.give_away(&Error::interrupted(why));
        } else {
            self.show();
        }
    }

    /// Whether another replica has taken it over from this one.
    pub(super) fn is_superseded(&self) -> bool {
        self.shared.lock().superseded
    }

    fn give_away(&self, why: &Error) {
        let Some(mut pump) = self.pump() else {
            return;
        };
        if self.shared.lock().is_over() {
            return;
        }
        pump.give_up(why);
        drop(pump);
        self.shared.lock().superseded = true;
        if let Some(keeping) = self.keeping() {
            keeping.registry.forget(keeping.stream);
        }
        self.cut_off(why.clone());
    }

    /// What is to be stored, of at most about `room` bytes; `None` where that is nothing.
    pub(super) fn unstored(&self, room: usize) -> Option<Unstored> {
        self.shared.lock().unstored(room)
    }

    /// Other replicas can read it up to `position`. Says whether there is more to be stored.
    pub(super) fn stored(&self, position: u64) -> bool {
        let mut state = self.shared.lock();
        let (before, more) = (state.visible(), state.stored(position));
        let shows = state.visible() > before;
        drop(state);
        if shows {
            self.shared.tell();
        }
        more
    }

    /// Other replicas know of it.
    pub(super) fn known(&self) {
        let mut state = self.shared.lock();
        state.known = true;
        let shows = !state.ended && !self.can_be_taken_over();
        drop(state);
        if shows {
            self.show();
        }
    }

    /// Shows its viewers all there is, stored or not: they do not wait for a store that is gone.
    pub(super) fn show(&self) {
        let held = self.shared.lock().held_at.take();
        if held.is_some() {
            self.shared.tell();
        }
    }

    /// Whether what is new must be stored before viewers read it: nobody is to have what a replica
    /// could take with it, where that is the way back to the stream, its end, or what another one
    /// would say anew.
    pub(super) fn holds(&self, state: &State, replicas: &Replicas) -> bool {
        let needed = !state.known || state.ended || self.can_be_taken_over();
        needed && !state.superseded && replicas.stores()
    }
}
