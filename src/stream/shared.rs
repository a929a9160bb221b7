//! One stream: its pump, its log, and those who wait for more of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::log::{Dropped, Log, Place};
use super::pump::Pump;
use super::registry::Registry;
use super::replicas::Replicas;
use crate::dialect::native::last_told;
use crate::model::{Error, StreamId};

/// What it takes to come back to a stream.
#[derive(Clone)]
pub struct Keeping {
    pub stream: StreamId,
    /// The name of the key that made it.
    pub owner: String,
    /// How long it goes on without a viewer, and stays readable after its end; zero keeps nothing.
    pub window: Duration,
    /// How much of it is kept, in bytes.
    pub buffer: usize,
    pub registry: Arc<Registry>,
    /// Where other replicas can read it.
    pub replicas: Option<Arc<Replicas>>,
}

/// One stream. Nobody runs it: every viewer that has read all there is drives it on, and wakes the
/// others when it finds more. So one viewer alone costs no task and no channel; where it does not
/// read, nobody reads the upstream; and among several, one that does not read slows nobody.
pub struct Stream {
    /// `None` where another replica makes the stream, and it is only followed here.
    pump: Option<Mutex<Pump>>,
    shared: Arc<Shared>,
    /// Wakes everybody who waits for more.
    waker: Waker,
    keeping: Option<Keeping>,
    id: Option<StreamId>,
    /// The name of the key that made it.
    owner: String,
}

/// What viewers and whoever drives have in common.
struct Shared {
    state: Mutex<State>,
}

struct State {
    log: Log,
    ended: bool,
    waiting: VecDeque<(ViewerId, Waker)>,
    viewers: usize,
    /// How many viewers there have been.
    visits: u64,
    /// Up to where the stream is where other replicas can read it.
    stored: u64,
    /// Whether it is known that there is more to be stored.
    queued: bool,
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
pub(super) struct ViewerId(u64);

/// What a viewer finds.
#[derive(Debug)]
pub(super) enum Found {
    Bytes(Bytes),
    /// Nothing follows.
    End,
    Dropped,
}

/// Who is no viewer but drives: the task of a stream that nobody views.
pub(super) const NOBODY: ViewerId = ViewerId(0);

impl Stream {
    pub(super) fn new(pump: Pump, keeping: Option<Keeping>) -> Self {
        let buffer = keeping
            .as_ref()
            .filter(|keeping| !keeping.window.is_zero())
            .map(|keeping| keeping.buffer);
        let known = keeping.as_ref();
        let owner = known.map_or_else(String::new, |keeping| keeping.owner.clone());
        let id = known.map(|keeping| keeping.stream);
        Self::built(Some(Mutex::new(pump)), buffer, id, owner, keeping)
    }

    /// A stream that another replica makes, and that is told here with [`Stream::follow`].
    pub(super) fn followed(id: StreamId, owner: String, buffer: usize) -> Self {
        Self::built(None, Some(buffer), Some(id), owner, None)
    }

    fn built(
        pump: Option<Mutex<Pump>>,
        buffer: Option<usize>,
        id: Option<StreamId>,
        owner: String,
        keeping: Option<Keeping>,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                log: Log::new(buffer),
                ended: false,
                waiting: VecDeque::new(),
                viewers: 0,
                visits: 0,
                stored: 0,
                queued: false,
            }),
        });
        Self {
            pump,
            waker: Waker::from(Arc::clone(&shared)),
            shared,
            keeping,
            id,
            owner,
        }
    }

    /// `None` where nobody can come back to it.
    pub(super) fn id(&self) -> Option<StreamId> {
        self.id
    }

    pub(super) fn keeping(&self) -> Option<&Keeping> {
        self.keeping.as_ref()
    }

    /// How long it goes on without a viewer; `None` where it does not.
    pub(super) fn window(&self) -> Option<Duration> {
        let keeping = self.keeping.as_ref()?;
        (!keeping.window.is_zero()).then_some(keeping.window)
    }

    /// Whether the key of this name may cancel it.
    pub fn belongs_to(&self, owner: &str) -> bool {
        self.owner == owner
    }

    /// Whether others than its first client can read it.
    pub fn can_be_read(&self) -> bool {
        self.pump.is_none() || self.window().is_some()
    }

    /// Whether another replica makes it.
    pub fn is_followed(&self) -> bool {
        self.pump.is_none()
    }

    /// Whether the terminal event was written.
    pub fn ended(&self) -> bool {
        self.shared.lock().ended
    }

    /// The number of the last event.
    pub fn last(&self) -> Option<u64> {
        self.shared.lock().log.last()
    }

    /// All its bytes so far; `None` where some are not kept.
    pub fn whole(&self) -> Option<Vec<Bytes>> {
        self.shared.lock().log.whole()
    }

    /// The last bytes.
    pub fn newest(&self) -> Option<Bytes> {
        self.shared.lock().log.newest()
    }

    /// How much memory its log holds, in bytes.
    pub(super) fn held(&self) -> usize {
        self.shared.lock().log.held()
    }

    pub(super) fn find(&self, seen: Option<u64>) -> Place {
        self.shared.lock().log.find(seen)
    }

    /// Why it ended without its finish.
    pub(super) fn failure(&self) -> Option<Error> {
        self.pump()?.failure().cloned()
    }

    /// Why it ended before it said anything.
    pub(super) fn refusal(&self) -> Option<Error> {
        let silent = {
            let state = self.shared.lock();
            state.ended && state.log.end() == 0
        };
        silent.then(|| self.failure()).flatten()
    }

    /// From here on a failure is an event, for the client has its 200.
    pub(super) fn answered(&self) {
        if let Some(mut pump) = self.pump() {
            pump.answered();
        }
    }

    /// Ends the stream as cancelled, closes the upstream's connection, and tells its viewers.
    /// Nothing happens to a stream that another replica makes.
    pub fn cancel(&self) {
        if let Some(mut pump) = self.pump() {
            pump.cancel();
            self.poll(&mut pump, NOBODY);
        }
    }

    /// What the replica that makes it has said; with `ended`, its terminal event is in it.
    pub(super) fn follow(&self, bytes: Bytes, ended: bool) {
        let mut state = self.shared.lock();
        state.log.push(bytes);
        state.ended |= ended;
        drop(state);
        self.waker.wake_by_ref();
    }

    /// What is to be stored, of at most about `room` bytes; `None` where that is nothing.
    pub(super) fn unstored(&self, room: usize) -> Option<Unstored> {
        let mut state = self.shared.lock();
        let State {
            log, stored, ended, ..
        } = &mut *state;
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
        state.queued = false;
        (!unstored.writes.is_empty()).then_some(unstored)
    }

    /// Other replicas can read it up to `position`. Says whether there is more to be stored.
    pub(super) fn stored(&self, position: u64) -> bool {
        let mut state = self.shared.lock();
        state.stored = state.stored.max(position);
        state.stored < state.log.end()
    }

    /// Waits until the terminal event was written.
    pub(super) fn poll_ended(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.ended {
            return Poll::Ready(());
        }
        state.waiting.push_back((NOBODY, context.waker().clone()));
        Poll::Pending
    }

    /// Whether somebody reads it here.
    pub(super) fn is_viewed(&self) -> bool {
        self.shared.lock().viewers > 0
    }

    pub(super) fn enter(&self) -> ViewerId {
        let mut state = self.shared.lock();
        state.viewers += 1;
        state.visits += 1;
        ViewerId(state.visits)
    }

    /// How many viewers there have been.
    pub(super) fn visits(&self) -> u64 {
        self.shared.lock().visits
    }

    /// A viewer leaves. Says whether it was the last one of a stream that has not ended.
    pub(super) fn leave(&self, viewer: ViewerId) -> bool {
        let mut state = self.shared.lock();
        state.viewers -= 1;
        state.waiting.retain(|(waiting, _)| *waiting != viewer);
        let alone = state.viewers == 0 && !state.ended;
        drop(state);
        // It may have been the one that drives.
        self.waker.wake_by_ref();
        alone
    }

    /// Ends a stream that nobody views, unless somebody came since there had been so many `visits`.
    pub(super) fn abandon(&self, visits: u64) {
        let Some(mut pump) = self.pump() else {
            return;
        };
        let mut state = self.shared.lock();
        if state.viewers > 0 || state.visits != visits || state.ended {
            return;
        }
        state.ended = true;
        drop(state);
        pump.abandon();
        drop(pump);
        if let Some(keeping) = &self.keeping {
            keeping.registry.abandoned(keeping.stream);
            if let Some(replicas) = keeping.shared() {
                replicas.abandoned(keeping);
            }
        }
    }

    /// What there is behind `position`; drives the stream where that is nothing. The task is woken
    /// when there is more.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        position: u64,
    ) -> Poll<Found> {
        loop {
            {
                let mut state = self.shared.lock();
                match state.log.read(position) {
                    Ok(Some(bytes)) => return Poll::Ready(Found::Bytes(bytes)),
                    Err(Dropped) => return Poll::Ready(Found::Dropped),
                    Ok(None) if state.ended => return Poll::Ready(Found::End),
                    Ok(None) => state.wait(viewer, context.waker()),
                }
            }
            if !self.drive(viewer) {
                return Poll::Pending;
            }
        }
    }

    /// Waits until there is something behind `position`, or never will be.
    pub(super) fn poll_ready(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        position: u64,
    ) -> Poll<()> {
        loop {
            {
                let mut state = self.shared.lock();
                if state.ended || state.log.end() > position {
                    return Poll::Ready(());
                }
                state.wait(viewer, context.waker());
            }
            if !self.drive(viewer) {
                return Poll::Pending;
            }
        }
    }

    /// Waits until it ends or somebody comes after so many `visits`, and drives it meanwhile.
    pub(super) fn poll_alone(&self, context: &mut Context<'_>, visits: u64) -> Poll<()> {
        loop {
            {
                let mut state = self.shared.lock();
                if state.ended || state.visits != visits {
                    return Poll::Ready(());
                }
                state.wait(NOBODY, context.waker());
            }
            if !self.drive(NOBODY) {
                return Poll::Pending;
            }
        }
    }

    /// Drives the stream on; says whether that brought anything. Where somebody else does so right
    /// now, they will wake those who wait.
    fn drive(&self, driver: ViewerId) -> bool {
        let Some(pump) = &self.pump else {
            return false;
        };
        let mut pump = match pump.try_lock() {
            Ok(pump) => pump,
            Err(TryLockError::WouldBlock) => return false,
            Err(TryLockError::Poisoned(poisoned)) => {
                let mut pump = poisoned.into_inner();
                pump.break_down();
                pump
            }
        };
        self.poll(&mut pump, driver)
    }

    fn poll(&self, pump: &mut Pump, driver: ViewerId) -> bool {
        let before = pump.ended();
        let mut context = Context::from_waker(&self.waker);
        let Poll::Ready(bytes) = pump.poll_bytes(&mut context) else {
            return false;
        };
        let ended = pump.ended() && !before;
        let last = match &bytes {
            Some(bytes) if ended => last_told(bytes).map(|told| told.number),
            _ => None,
        };
        let mut state = self.shared.lock();
        if let Some(bytes) = bytes {
            state.log.push(bytes);
        }
        state.ended |= ended;
        let unqueued = !std::mem::replace(&mut state.queued, true);
        state.waiting.retain(|(waiting, _)| *waiting != driver);
        drop(state);
        self.waker.wake_by_ref();
        if let Some(keeping) = &self.keeping {
            if ended {
                keeping.registry.ended(self, keeping, last);
            }
            if unqueued && let Some(replicas) = keeping.shared() {
                replicas.wrote(keeping.stream);
            }
        }
        true
    }

    /// Never locked by someone who holds the state.
    fn pump(&self) -> Option<MutexGuard<'_, Pump>> {
        let pump = self.pump.as_ref()?;
        Some(pump.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keeping {
    /// Where other replicas can read it, if they may.
    fn shared(&self) -> Option<&Replicas> {
        self.replicas.as_deref().filter(|_| !self.window.is_zero())
    }
}

impl State {
    fn wait(&mut self, viewer: ViewerId, waker: &Waker) {
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
    fn lock(&self) -> MutexGuard<'_, State> {
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
        stream: Arc<Stream>,
        viewer: ViewerId,
        woken: Mutex<usize>,
    }

    impl Hasty {
        fn wait(self: &Arc<Self>) {
            let waker = Waker::from(Arc::clone(self));
            let mut context = Context::from_waker(&waker);
            let end = self.stream.shared.lock().log.end();
            let waiting = self.stream.poll_read(&mut context, self.viewer, end);
            assert!(waiting.is_pending());
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
        let stream = Arc::new(Stream::followed(StreamId::fixed(0), String::new(), 1024));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let hasty = Arc::new(Hasty {
                    viewer: stream.enter(),
                    stream: Arc::clone(&stream),
                    woken: Mutex::default(),
                });
                hasty.wait();
                hasty
            })
            .collect();
        stream.follow(Bytes::from_static(b"id: 0\n\n"), false);
        for hasty in &waiting {
            assert_eq!(*hasty.woken.lock().unwrap(), 1);
        }
    }
}
