//! What the viewers of a stream and whoever drives it have in common.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use bytes::Bytes;

use super::log::{Dropped, EventPosition, Log};
use crate::model::{Error, Ordinal};

/// What viewers and whoever drives have in common.
pub(super) struct StreamState {
    state: Mutex<State>,
    /// Whether driving the stream may bring something.
    due: AtomicBool,
}

/// What of a stream is shared.
pub(super) struct State {
    pub(super) log: Log,
    pub(super) ended: bool,
    /// Why readers here are told nothing more, although the stream has not ended or not like this.
    pub(super) disconnected: Option<Error>,
    /// Whether its id was told to somebody beside the stream.
    pub(super) id_disclosed: bool,
    pub(super) waiters: VecDeque<(ViewerId, Waker)>,
    pub(super) viewers: usize,
    /// How many viewers there have been.
    pub(super) total_viewers: u64,
    /// Up to where the stream is where other replicas can read it.
    pub(super) stored_until: u64,
    /// Whether it is known that there is more to be stored.
    pub(super) queued_for_storage: bool,
    /// Up to where viewers may read, where what follows must be stored first.
    pub(super) visible_limit: Option<u64>,
    /// Whether other replicas know of the stream.
    pub(super) registered: bool,
    /// Whether another maker has taken the stream over, so that nothing of it is stored from here.
    pub(super) superseded: bool,
    /// The number of the first event of each epoch behind the first.
    pub(super) epoch_starts: Vec<u64>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartPosition {
    At(u64),
    /// The same, for a client that has seen more than is known here, or what was lost with a maker.
    Ahead(u64),
    /// The client has everything.
    Complete,
    /// What it lacks is not kept any more.
    Gone,
    /// It names an event that the stream has not sent.
    NotSent,
}

/// What other replicas cannot read yet.
pub(super) struct Unstored {
    /// Where it begins.
    pub(super) position: u64,
    /// Whole events.
    pub(super) writes: Vec<Bytes>,
    /// What they can read ends before `position`.
    pub(super) gap: bool,
    /// The place of the oldest event that is kept.
    pub(super) oldest: Ordinal,
    /// Whether the last write has the terminal event.
    pub(super) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ViewerId(pub(super) u64);

/// Who is no viewer but drives: the task of a stream that nobody views.
pub(super) const BACKGROUND: ViewerId = ViewerId(0);

impl State {
    /// Where a reader begins that has `seen` so much.
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
            // Its maker was gone before the others had what this client has.
            return match self.log.find(start.checked_sub(1)) {
                EventPosition::At(position) | EventPosition::Ahead(position) => {
                    StartPosition::Ahead(position)
                }
                EventPosition::Gone => StartPosition::Gone,
            };
        }
        if seen.epoch > self.epoch() {
            return StartPosition::NotSent;
        }
        let last = self.log.last_ordinal().map(|last| last.number);
        match self.log.find(Some(seen.number)) {
            EventPosition::Gone => StartPosition::Gone,
            EventPosition::At(_) if self.ended && last == Some(seen.number) => {
                StartPosition::Complete
            }
            EventPosition::At(position) => StartPosition::At(position),
            // Said here, it comes a little later.
            EventPosition::Ahead(end) if remote && !self.ended => StartPosition::Ahead(end),
            // The last maker's only word was the end, and was told behind what the client had.
            EventPosition::Ahead(_) if self.ended && self.epoch() > 0 => StartPosition::Complete,
            EventPosition::Ahead(_) => StartPosition::NotSent,
        }
    }

    /// How often the stream was taken over.
    pub(super) fn epoch(&self) -> u8 {
        u8::try_from(self.epoch_starts.len()).unwrap_or(u8::MAX)
    }

    /// Somebody else makes the stream from here on.
    pub(super) fn start_epoch(&mut self, epoch: u8) {
        let next = self.log.last_ordinal().map_or(0, |last| last.next().number);
        while self.epoch() < epoch {
            self.epoch_starts.push(next);
        }
    }

    /// Up to where viewers may read.
    pub(super) fn visible(&self) -> u64 {
        self.visible_limit.unwrap_or(self.log.end())
    }

    /// Whether viewers may read all of a stream that has ended.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.visible() == self.log.end()
    }

    /// The next bytes for a viewer at `position`; `None` where it has what it may have.
    ///
    /// # Errors
    /// [`Dropped`]: the viewer fell behind what is kept.
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

    /// What is to be stored, of at most about `room` bytes; `None` where that is nothing.
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

    /// Other replicas can read it up to `position`. Says whether there is more to be stored.
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
    /// `buffer` is how many bytes are kept for those who come later; `None` keeps nothing.
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
        // Whole after every statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait.
    pub(super) fn wake_all(&self) {
        let mut state = self.lock();
        // Whoever waits again meanwhile stands behind all of them, and is not woken in their place.
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

    /// Driving the stream may bring something.
    pub(super) fn set_due(&self) {
        self.due.store(true, Ordering::Release);
    }

    /// Whether that was said since it was last [taken](Self::take_due).
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Whether that was said since this was last asked.
    pub(super) fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::AcqRel)
    }
}

/// What the pump waits for wakes through this.
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
    fn who_waits_again_at_once_takes_nobody_s_turn() {
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
    fn what_may_be_stored_is_sent_again_with_what_came_since() {
        let stream_state = StreamState::new(Some(1 << 20));
        let mut state = stream_state.lock();
        let mut push = |text: &'static str| state.log.push(Bytes::from_static(text.as_bytes()));
        push("one");
        push("two");
        let first = state.unstored(100).unwrap();
        assert_eq!(first.writes, ["onetwo"]);
        state.log.push(Bytes::from_static(b"three"));
        // Nobody knows whether the first piece is stored.
        let again = state.unstored(100).unwrap();
        assert_eq!(again.writes, ["onetwothree"]);
        assert!(state.mark_stored(6));
        assert_eq!(state.unstored(100).unwrap().writes, ["three"]);
        assert!(!state.mark_stored(11));
        assert!(state.unstored(100).is_none());
    }
}
