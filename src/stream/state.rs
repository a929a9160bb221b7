//! What the viewers of a stream and whoever drives it have in common.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use bytes::Bytes;

use super::log::{Log, Place};
use crate::dialect::native::last_told;

/// What viewers and whoever drives have in common.
pub(super) struct Shared {
    state: Mutex<State>,
}

/// What of a stream is shared.
pub(super) struct State {
    pub(super) log: Log,
    pub(super) ended: bool,
    /// Its end was made up here, because the replica that makes it is gone.
    pub(super) broken_off: bool,
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
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    At(u64),
    /// The same, for a client that has seen more than is known here.
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
    /// The number of the oldest event that is kept.
    pub(super) oldest: u64,
    /// Whether the last write has the terminal event.
    pub(super) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ViewerId(pub(super) u64);

/// Who is no viewer but drives: the task of a stream that nobody views.
pub(super) const NOBODY: ViewerId = ViewerId(0);

impl State {
    /// Where a reader begins that has `seen` so much. What another replica says comes here a little
    /// later, or never, where it died: then the error that ended the stream here is news to a client
    /// that has seen more.
    pub(super) fn start(&self, seen: Option<u64>, followed: bool) -> Start {
        match self.log.find(seen) {
            Place::Gone => Start::Gone,
            // Its replica may have said something else under that number before it died.
            Place::At(_) if self.broken_off && seen == self.log.last() => self.last_words(),
            Place::At(_) if self.ended && seen.is_some() && seen == self.log.last() => {
                Start::Complete
            }
            Place::At(position) => Start::At(position),
            Place::Ahead(end) if followed && !self.ended => Start::Ahead(end),
            Place::Ahead(_) if followed => self.last_words(),
            Place::Ahead(_) => Start::Unsaid,
        }
    }

    /// The error that ended the stream.
    fn last_words(&self) -> Start {
        let Some(newest) = self.log.newest() else {
            return Start::Unsaid;
        };
        match last_told(&newest) {
            Some(told) if told.name == "error" => {
                Start::Ahead(self.log.end() - newest.len() as u64)
            }
            _ => Start::Unsaid,
        }
    }

    /// What is to be stored, of at most about `room` bytes; `None` where that is nothing.
    pub(super) fn unstored(&mut self, room: usize) -> Option<Unstored> {
        let Self {
            log, stored, ended, ..
        } = self;
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
        self.stored < self.log.end()
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
                broken_off: false,
                announced: false,
                waiting: VecDeque::new(),
                viewers: 0,
                visits: 0,
                stored: 0,
                queued: false,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever waits again meanwhile stands behind all of them, and is not woken in their place.
        let count = self.lock().waiting.len();
        for _ in 0..count {
            let woken = self.lock().waiting.pop_front();
            if let Some((_, waker)) = woken {
                waker.wake();
            }
        }
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
        shared.wake_by_ref();
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
