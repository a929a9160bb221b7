//! What the viewers of a stream and whoever drives it have in common.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use bytes::Bytes;

use super::log::{Dropped, Log, Place};
use crate::model::{Error, Ordinal};

/// What viewers and whoever drives have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Whether driving the stream may bring something.
    due: AtomicBool,
}

/// What of a stream is shared.
pub(super) struct State {
    pub(super) log: Log,
    pub(super) ended: bool,
    /// Why readers here are told nothing more, although the stream has not ended or not like this.
    pub(super) cut_off: Option<Error>,
    /// Whether its id was told to somebody beside the stream.
    pub(super) announced: bool,
    pub(super) waiting: VecDeque<(ViewerId, Waker)>,
    pub(super) viewers: usize,
    /// How many viewers there have been.
    pub(super) visits: u64,
    /// Up to where the stream is where other replicas can read it.
    pub(super) stored: u64,
    /// Whether it is known that there is more to be stored.
    pub(super) queued: bool,
    /// Up to where viewers may read, where what follows must be stored first.
    pub(super) held_at: Option<u64>,
    /// Whether other replicas know of the stream.
    pub(super) known: bool,
    /// Whether another maker has taken the stream over, so that nothing of it is stored from here.
    pub(super) superseded: bool,
    /// The number of the first event of each epoch behind the first.
    pub(super) forks: Vec<u64>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    At(u64),
    /// The same, for a client that has seen more than is known here, or what was lost with a maker.
    Ahead(u64),
    /// The client has everything.
    Complete,
    /// What it lacks is not kept any more.
    Gone,
    /// It names an event that the stream has not sent.
    Unsaid,
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
pub(super) const NOBODY: ViewerId = ViewerId(0);

impl State {
    /// Where a reader begins that has `seen` so much.
    pub(super) fn start(&self, seen: Option<Ordinal>, followed: bool) -> Start {
        let Some(seen) = seen else {
            return match self.log.find(None) {
                Place::At(position) | Place::Ahead(position) => Start::At(position),
                Place::Gone => Start::Gone,
            };
        };
        if let Some(&fork) = self.forks.get(usize::from(seen.epoch))
            && fork <= seen.number
        {
            // Its maker was gone before the others had what this client has.
            return match self.log.find(fork.checked_sub(1)) {
                Place::At(position) | Place::Ahead(position) => Start::Ahead(position),
                Place::Gone => Start::Gone,
            };
        }
        if seen.epoch > self.epoch() {
            return Start::Unsaid;
        }
        let last = self.log.last().map(|last| last.number);
        match self.log.find(Some(seen.number)) {
            Place::Gone => Start::Gone,
            Place::At(_) if self.ended && last == Some(seen.number) => Start::Complete,
            Place::At(position) => Start::At(position),
            // Said here, it comes a little later.
            Place::Ahead(end) if followed && !self.ended => Start::Ahead(end),
            // The last maker's only word was the end, and was told behind what the client had.
            Place::Ahead(_) if self.ended && self.epoch() > 0 => Start::Complete,
            Place::Ahead(_) => Start::Unsaid,
        }
    }

    /// How often the stream was taken over.
    pub(super) fn epoch(&self) -> u8 {
        u8::try_from(self.forks.len()).unwrap_or(u8::MAX)
    }

    /// Somebody else makes the stream from here on.
    pub(super) fn fork(&mut self, epoch: u8) {
        let next = self.log.last().map_or(0, |last| last.next().number);
        while self.epoch() < epoch {
            self.forks.push(next);
        }
    }

    /// Up to where viewers may read.
    pub(super) fn visible(&self) -> u64 {
        self.held_at.unwrap_or(self.log.end())
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
            log, stored, ended, ..
        } = self;
        if self.superseded {
            return None;
        }
        let begin = (*stored).max(log.start());
        let mut unstored = Unstored {
            position: begin,
            writes: Vec::new(),
            gap: begin > *stored,
            oldest: log.first().unwrap_or_default(),
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
        self.queued = false;
        (!unstored.writes.is_empty()).then_some(unstored)
    }

    /// Other replicas can read it up to `position`. Says whether there is more to be stored.
    pub(super) fn stored(&mut self, position: u64) -> bool {
        self.stored = self.stored.max(position);
        let more = self.stored < self.log.end();
        if let Some(held_at) = self.held_at {
            self.held_at = more.then(|| held_at.max(self.stored));
        }
        more
    }

    pub(super) fn wait(&mut self, viewer: ViewerId, waker: &Waker) {
        match self
            .waiting
            .iter_mut()
            .find(|(waiting, _)| *waiting == viewer)
        {
            Some((_, waiting)) => waiting.clone_from(waker),
            None => self.waiting.push_back((viewer, waker.clone())),
        }
    }
}

impl Shared {
    /// `buffer` is how many bytes are kept for those who come later; `None` keeps nothing.
    pub(super) fn new(buffer: Option<usize>) -> Self {
        Self {
            state: Mutex::new(State {
                log: Log::new(buffer),
                ended: false,
                cut_off: None,
                announced: false,
                waiting: VecDeque::new(),
                viewers: 0,
                visits: 0,
                stored: 0,
                queued: false,
                held_at: None,
                known: false,
                superseded: false,
                forks: Vec::new(),
            }),
            due: AtomicBool::new(true),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait.
    pub(super) fn tell(&self) {
        let mut state = self.lock();
        // Whoever waits again meanwhile stands behind all of them, and is not woken in their place.
        let mut left = state.waiting.len();
        while let Some((_, waker)) = state.waiting.pop_front() {
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
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set_due();
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits again as soon as it is woken, as a task on another thread may.
    struct Hasty {
        shared: Arc<Shared>,
        viewer: ViewerId,
        woken: Mutex<usize>,
    }

    impl Hasty {
        fn wait(self: &Arc<Self>) {
            let waker = Waker::from(Arc::clone(self));
            self.shared.lock().wait(self.viewer, &waker);
        }
    }

    impl Wake for Hasty {
        fn wake(self: Arc<Self>) {
            *self.woken.lock().unwrap() += 1;
            self.wait();
        }
    }

    #[test]
    fn who_waits_again_at_once_takes_nobody_s_turn() {
        let shared = Arc::new(Shared::new(None));
        let waiting: Vec<_> = (1..=3)
            .map(|number| {
                let hasty = Arc::new(Hasty {
                    shared: Arc::clone(&shared),
                    viewer: ViewerId(number),
                    woken: Mutex::default(),
                });
                hasty.wait();
                hasty
            })
            .collect();
        shared.tell();
        for hasty in &waiting {
            assert_eq!(*hasty.woken.lock().unwrap(), 1);
        }
        shared.lock().waiting.clear();
    }

    #[test]
    fn what_may_be_stored_is_sent_again_with_what_came_since() {
        let shared = Shared::new(Some(1 << 20));
        let mut state = shared.lock();
        let mut said = |text: &'static str| state.log.push(Bytes::from_static(text.as_bytes()));
        said("one");
        said("two");
        let first = state.unstored(100).unwrap();
        assert_eq!(first.writes, ["onetwo"]);
        state.log.push(Bytes::from_static(b"three"));
        // Nobody knows whether the first piece is stored.
        let again = state.unstored(100).unwrap();
        assert_eq!(again.writes, ["onetwothree"]);
        assert!(state.stored(6));
        assert_eq!(state.unstored(100).unwrap().writes, ["three"]);
        assert!(!state.stored(11));
        assert!(state.unstored(100).is_none());
    }
}
