//! What the viewers and the driver of a stream share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use bytes::Bytes;

use super::log::{Dropped, EventPosition, Log};
use crate::model::{Error, Ordinal};

/// The state of one stream, and whether its pump should be polled.
pub(super) struct StreamState {
    state: Mutex<State>,
    /// Whether polling the pump may bring something.
    due: AtomicBool,
}

/// The state of one stream behind its lock.
pub(super) struct State {
    pub(super) log: Log,
    pub(super) ended: bool,
    /// Why readers here get no more events, although the stream has not ended in this way for others.
    pub(super) disconnected: Option<Error>,
    /// Whether a client got the stream's id before the stream's first event.
    pub(super) id_disclosed: bool,
    pub(super) waiters: VecDeque<(ViewerId, Waker)>,
    pub(super) viewers: usize,
    /// How many viewers there have been in all.
    pub(super) total_viewers: u64,
    /// The furthest position of the viewers that have left.
    pub(super) received_until: u64,
    /// The position up to which other replicas can read the stream.
    pub(super) stored_until: u64,
    /// Whether the stream is queued for a write to the store.
    pub(super) queued_for_storage: bool,
    /// The position up to which viewers may read, while what follows must be stored first.
    pub(super) visible_limit: Option<u64>,
    /// Whether the store has the stream's first entry.
    pub(super) registered: bool,
    /// Whether another replica has taken the stream over, so that this one stores nothing more.
    pub(super) superseded: bool,
    /// The number of the first event of each epoch after epoch 0.
    pub(super) epoch_starts: Vec<u64>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartPosition {
    At(u64),
    /// The same, for a client that has more events than this replica, or events that were lost with
    /// their producer.
    Ahead(u64),
    /// The client has all events.
    Complete,
    /// The events that it lacks were dropped.
    Gone,
    /// It names an event that the stream has not sent.
    UnknownEvent,
}

/// The part of a stream that is not in the store yet.
pub(super) struct Unstored {
    /// The position of its first byte.
    pub(super) position: u64,
    /// Whole events.
    pub(super) writes: Vec<Bytes>,
    /// The store's part ends before `position`.
    pub(super) gap: bool,
    /// The ordinal of the oldest event in the log.
    pub(super) oldest: Ordinal,
    /// Whether the last write has the terminal event.
    pub(super) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ViewerId(pub(super) u64);

/// The background task that drives a stream without viewers.
pub(super) const BACKGROUND: ViewerId = ViewerId(0);

impl State {
    /// Where a reader begins that has the events up to `seen`.
    pub(super) fn start_position(&self, seen: Option<Ordinal>, remote: bool) -> StartPosition {
        let Some(seen) = seen else {
            return match self.log.find(None) {
                EventPosition::At(position) | EventPosition::Ahead(position) => {
                    StartPosition::At(position)
                }
                EventPosition::Gone => StartPosition::Gone,
            };
        };
        if let Some(&start) = self.epoch_starts.get(usize::from(seen.epoch))
            && start <= seen.number
        {
            // The producer died before other replicas had the events that this client has.
            return match self.log.find(start.checked_sub(1)) {
                EventPosition::At(position) | EventPosition::Ahead(position) => {
                    StartPosition::Ahead(position)
                }
                EventPosition::Gone => StartPosition::Gone,
            };
        }
        if seen.epoch > self.epoch() {
            return StartPosition::UnknownEvent;
        }
        let last = self.log.last_ordinal().map(|last| last.number);
        match self.log.find(Some(seen.number)) {
            EventPosition::Gone => StartPosition::Gone,
            EventPosition::At(_) if self.ended && last == Some(seen.number) => {
                StartPosition::Complete
            }
            EventPosition::At(position) => StartPosition::At(position),
            // The client read it on its producer; it arrives here a little later.
            EventPosition::Ahead(end) if remote && !self.ended => StartPosition::Ahead(end),
            // The last producer wrote only the end, and its number is not above the client's.
            EventPosition::Ahead(_) if self.ended && self.epoch() > 0 => StartPosition::Complete,
            EventPosition::Ahead(_) => StartPosition::UnknownEvent,
        }
    }

    /// How often the stream was taken over.
    pub(super) fn epoch(&self) -> u8 {
        u8::try_from(self.epoch_starts.len()).unwrap_or(u8::MAX)
    }

    /// Another replica produces the stream from here on.
    pub(super) fn start_epoch(&mut self, epoch: u8) {
        let next = self.log.last_ordinal().map_or(0, |last| last.next().number);
        while self.epoch() < epoch {
            self.epoch_starts.push(next);
        }
    }

    /// The position up to which viewers may read.
    pub(super) fn visible(&self) -> u64 {
        self.visible_limit.unwrap_or(self.log.end())
    }

    /// Whether the stream has ended and viewers may read all of it.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.visible() == self.log.end()
    }

    /// The next bytes for a viewer at `position`; `None` if it has read all that it may.
    ///
    /// # Errors
    /// [`Dropped`]: the bytes at `position` were dropped.
    pub(super) fn read(&mut self, position: u64) -> Result<Option<Bytes>, Dropped> {
        let visible = self.visible();
        if position >= visible {
            return Ok(None);
        }
        let bytes = self.log.read(position)?;
        Ok(bytes.map(|mut bytes| {
            bytes.truncate((visible - position) as usize);
            bytes
        }))
    }

    /// What is to be stored, about `room` bytes at most; `None` if that is nothing.
    pub(super) fn unstored(&mut self, room: usize) -> Option<Unstored> {
        let Self {
            log,
            stored_until,
            ended,
            ..
        } = self;
        if self.superseded {
            return None;
        }
        let begin = (*stored_until).max(log.start());
        let mut unstored = Unstored {
            position: begin,
            writes: Vec::new(),
            gap: begin > *stored_until,
            oldest: log.first_ordinal().unwrap_or_default(),
            ended: *ended,
        };
        let (mut position, mut taken) = (begin, 0);
        while taken < room
            && let Ok(Some(bytes)) = log.read(position)
        {
            position += bytes.len() as u64;
            taken += bytes.len();
            unstored.writes.push(bytes);
        }
        unstored.ended &= position == log.end();
        self.queued_for_storage = false;
        (!unstored.writes.is_empty()).then_some(unstored)
    }

    /// The store has the stream up to `position`. Returns whether there is more to be stored.
    pub(super) fn mark_stored(&mut self, position: u64) -> bool {
        self.stored_until = self.stored_until.max(position);
        let more = self.stored_until < self.log.end();
        if let Some(visible_limit) = self.visible_limit {
            self.visible_limit = more.then(|| visible_limit.max(self.stored_until));
        }
        more
    }

    pub(super) fn add_waiter(&mut self, viewer: ViewerId, waker: &Waker) {
        match self
            .waiters
            .iter_mut()
            .find(|(waiters, _)| *waiters == viewer)
        {
            Some((_, waiters)) => waiters.clone_from(waker),
            None => self.waiters.push_back((viewer, waker.clone())),
        }
    }
}

impl StreamState {
    /// `buffer` is how many bytes are kept for later readers; `None` keeps nothing.
    pub(super) fn new(buffer: Option<usize>) -> Self {
        Self {
            state: Mutex::new(State {
                log: Log::new(buffer),
                ended: false,
                disconnected: None,
                id_disclosed: false,
                waiters: VecDeque::new(),
                viewers: 0,
                total_viewers: 0,
                received_until: 0,
                stored_until: 0,
                queued_for_storage: false,
                visible_limit: None,
                registered: false,
                superseded: false,
                epoch_starts: Vec::new(),
            }),
            due: AtomicBool::new(true),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement, so a panic elsewhere does not break it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all viewers that wait.
    pub(super) fn wake_all(&self) {
        let mut state = self.lock();
        // A viewer that waits again meanwhile is behind all of these, and must not use up a wake of theirs.
        let mut left = state.waiters.len();
        while let Some((_, waker)) = state.waiters.pop_front() {
            drop(state);
            waker.wake();
            left -= 1;
            if left == 0 {
                return;
            }
            state = self.lock();
        }
    }

    /// Polling the pump may bring something.
    pub(super) fn set_due(&self) {
        self.due.store(true, Ordering::Release);
    }

    /// Whether [`Self::set_due`] was called since the last [`Self::take_due`].
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Resets the mark and returns what it was.
    pub(super) fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::AcqRel)
    }
}

/// The pump's waker.
impl Wake for StreamState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set_due();
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits again as soon as it is woken, as a task on another thread may.
    struct EagerWaiter {
        stream_state: Arc<StreamState>,
        viewer: ViewerId,
        woken: Mutex<usize>,
    }

    impl EagerWaiter {
        fn add(self: &Arc<Self>) {
            let waker = Waker::from(Arc::clone(self));
            self.stream_state.lock().add_waiter(self.viewer, &waker);
        }
    }

    impl Wake for EagerWaiter {
        fn wake(self: Arc<Self>) {
            *self.woken.lock().unwrap() += 1;
            self.add();
        }
    }

    #[test]
    fn a_waiter_that_registers_again_takes_no_wake_of_another() {
        let stream_state = Arc::new(StreamState::new(None));
        let waiters: Vec<_> = (1..=3)
            .map(|number| {
                let waiter = Arc::new(EagerWaiter {
                    stream_state: Arc::clone(&stream_state),
                    viewer: ViewerId(number),
                    woken: Mutex::default(),
                });
                waiter.add();
                waiter
            })
            .collect();
        stream_state.wake_all();
        for waiter in &waiters {
            assert_eq!(*waiter.woken.lock().unwrap(), 1);
        }
        stream_state.lock().waiters.clear();
    }

    #[test]
    fn unconfirmed_bytes_are_sent_again_with_newer_ones() {
        let stream_state = StreamState::new(Some(1 << 20));
        let mut state = stream_state.lock();
        let mut push = |text: &'static str| state.log.push(Bytes::from_static(text.as_bytes()));
        push("one");
        push("two");
        let first = state.unstored(100).unwrap();
        assert_eq!(first.writes, ["onetwo"]);
        state.log.push(Bytes::from_static(b"three"));
        // Until the store confirms the first piece, it may or may not be stored.
        let again = state.unstored(100).unwrap();
        assert_eq!(again.writes, ["onetwothree"]);
        assert!(state.mark_stored(6));
        assert_eq!(state.unstored(100).unwrap().writes, ["three"]);
        assert!(!state.mark_stored(11));
        assert!(state.unstored(100).is_none());
    }
}
