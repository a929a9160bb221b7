//! One stream: its pump, its log, and those who wait for more of it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::log::Dropped;
use super::pump::Pump;
use super::registry::Registry;
use super::replicas::Replicas;
use super::state::{NOBODY, Shared, Start, State, ViewerId};
use crate::dialect::native::last_told;
use crate::model::{Error, Ordinal, StreamId};

/// What it takes to come back to a stream.
#[derive(Clone)]
pub struct Keeping {
    pub stream: StreamId,
    /// The name of the key that made it.
    pub owner: String,
    /// The model's name, as the client said it.
    pub model: String,
    /// How long it goes on without a viewer, and stays readable after its end; zero keeps nothing.
    pub window: Duration,
    /// How much of it is kept, in bytes.
    pub buffer: usize,
    pub registry: Arc<Registry>,
    /// Where other replicas can read it.
    pub replicas: Option<Arc<Replicas>>,
    /// The client's request in this dialect, where another replica may take the stream over.
    pub request: Option<Bytes>,
}

/// One stream. Nobody runs it: every viewer that has read all there is drives it on, and wakes the
/// others when it finds more. So one viewer alone costs no task and no channel; where it does not
/// read, nobody reads the upstream; and among several, one that does not read slows nobody.
pub struct Stream {
    /// None where another replica makes the stream, and it is only followed here; that may change.
    pub(super) pump: OnceLock<Mutex<Pump>>,
    pub(super) shared: Arc<Shared>,
    /// Wakes everybody who waits for more, to drive it.
    pub(super) waker: Waker,
    pub(super) keeping: OnceLock<Keeping>,
    id: Option<StreamId>,
    /// The name of the key that made it.
    owner: String,
}

/// What a viewer finds.
#[derive(Debug)]
pub(super) enum Found {
    Bytes(Bytes),
    /// Nothing follows.
    End,
    Dropped,
    /// Nothing follows here, although the stream has not ended.
    CutOff(Error),
}

impl Stream {
    pub(super) fn new(pump: Pump, keeping: Option<Keeping>) -> Self {
        let buffer = keeping
            .as_ref()
            .filter(|keeping| !keeping.window.is_zero())
            .map(|keeping| keeping.buffer);
        let known = keeping.as_ref();
        let owner = known.map_or_else(String::new, |keeping| keeping.owner.clone());
        let id = known.map(|keeping| keeping.stream);
        Self {
            pump: OnceLock::from(Mutex::new(pump)),
            keeping: keeping.map_or_else(OnceLock::new, OnceLock::from),
            ..Self::followed_as(id, owner, buffer)
        }
    }

    /// A stream that nobody makes here; its bytes come from elsewhere.
    pub(super) fn followed_as(id: Option<StreamId>, owner: String, buffer: Option<usize>) -> Self {
        let shared = Arc::new(Shared::new(buffer));
        Self {
            pump: OnceLock::new(),
            waker: Waker::from(Arc::clone(&shared)),
            shared,
            keeping: OnceLock::new(),
            id,
            owner,
        }
    }

    /// `None` where nobody can come back to it.
    pub(super) fn id(&self) -> Option<StreamId> {
        self.id
    }

    pub(super) fn keeping(&self) -> Option<&Keeping> {
        self.keeping.get()
    }

    /// How long it goes on without a viewer; `None` where it does not.
    pub(super) fn window(&self) -> Option<Duration> {
        let keeping = self.keeping()?;
        (!keeping.window.is_zero()).then_some(keeping.window)
    }

    /// Whether the key of this name may cancel it.
    pub fn belongs_to(&self, owner: &str) -> bool {
        self.owner == owner
    }

    /// Whether others than its first client can read it.
    pub fn can_be_read(&self) -> bool {
        self.is_followed() || self.window().is_some()
    }

    /// Whether another replica makes it.
    pub fn is_followed(&self) -> bool {
        self.pump.get().is_none()
    }

    /// Whether the terminal event was written.
    pub fn ended(&self) -> bool {
        self.shared.lock().ended
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

    /// How often it was taken over, as far as is known here.
    pub fn epoch(&self) -> u8 {
        self.shared.lock().epoch()
    }

    /// Where a reader begins that has `seen` so much.
    pub(super) fn start(&self, seen: Option<Ordinal>) -> Start {
        self.shared.lock().start(seen, self.is_followed())
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

    /// Its id is told to somebody before it says anything: then it can be come back to at once.
    pub(super) fn announce(&self) {
        self.shared.lock().announced = true;
    }

    /// Whether anybody can know its id.
    pub(super) fn is_known(&self) -> bool {
        let state = self.shared.lock();
        state.announced || state.log.last().is_some()
    }

    /// Ends the stream as cancelled, closes the upstream's connection, and tells its viewers.
    /// Nothing happens to a stream that another replica makes.
    pub fn cancel(&self) {
        if let Some(mut pump) = self.pump() {
            pump.cancel();
            self.poll(&mut pump, NOBODY);
        }
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
        if let Some(keeping) = self.keeping() {
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
        self.poll_until(context, viewer, |state| match state.read(position) {
            Ok(Some(bytes)) => Some(Found::Bytes(bytes)),
            Err(Dropped) => Some(Found::Dropped),
            Ok(None) => match &state.cut_off {
                Some(why) => Some(Found::CutOff(why.clone())),
                None => state.is_over().then_some(Found::End),
            },
        })
    }

    /// Waits until there is something behind `position`, or never will be.
    pub(super) fn poll_ready(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        position: u64,
    ) -> Poll<()> {
        self.poll_until(context, viewer, |state| {
            let over = state.is_over() || state.cut_off.is_some();
            (over || state.visible() > position).then_some(())
        })
    }

    /// Waits until it ends or somebody comes after so many `visits`, and drives it meanwhile.
    pub(super) fn poll_alone(&self, context: &mut Context<'_>, visits: u64) -> Poll<()> {
        self.poll_until(context, NOBODY, |state| {
            (state.ended || state.visits != visits).then_some(())
        })
    }

    /// Drives the stream on until `look` finds something.
    fn poll_until<T>(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let mut waits = false;
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(found) = look(&mut state) {
                    return Poll::Ready(found);
                }
                // Asked with the state locked: whoever says so from here on wakes who waits by then.
                let due = self.shared.is_due() && !state.ended;
                if waits || !due {
                    state.wait(viewer, context.waker());
                }
                if !due {
                    return Poll::Pending;
                }
            }
            if !self.drive(viewer) {
                if waits {
                    return Poll::Pending;
                }
                // Somebody else drives, and wakes who waits before they are done; or there is nothing.
                waits = true;
            }
        }
    }

    /// Drives the stream on where that is due; says whether that brought anything. Where somebody else
    /// does so right now, they will wake those who wait.
    fn drive(&self, driver: ViewerId) -> bool {
        let Some(pump) = self.pump.get() else {
            return false;
        };
        let mut pump = match pump.try_lock() {
            Ok(pump) if self.shared.take_due() => pump,
            Ok(_) | Err(TryLockError::WouldBlock) => return false,
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
        if !pump.waits() {
            self.shared.set_due();
        }
        let ended = pump.ended() && !before;
        let last = match &bytes {
            Some(bytes) if ended => last_told(bytes).map(|told| told.ordinal),
            _ => None,
        };
        let replicas = self.keeping().and_then(Keeping::shared);
        let mut state = self.shared.lock();
        let position = state.log.end();
        if let Some(bytes) = bytes {
            state.log.push(bytes);
        }
        state.ended |= ended;
        let holds = replicas.is_some_and(|replicas| self.holds(&state, replicas));
        state.held_at = holds.then(|| state.held_at.unwrap_or(position));
        if ended {
            state.log.compact();
        }
        let unqueued = !std::mem::replace(&mut state.queued, true);
        let waited_for = !state.waiting.is_empty();
        if waited_for {
            state.waiting.retain(|(waiting, _)| *waiting != driver);
        }
        drop(state);
        if waited_for {
            self.shared.tell();
        }
        if let Some(keeping) = self.keeping() {
            if ended {
                keeping.registry.ended(self, keeping, last);
            }
            match replicas {
                Some(replicas) if ended && last.is_none() => replicas.refused(keeping.stream),
                Some(replicas) if holds || unqueued => replicas.wrote(keeping.stream, holds),
                Some(_) | None => {}
            }
        }
        true
    }

    /// Never locked by someone who holds the state.
    pub(super) fn pump(&self) -> Option<MutexGuard<'_, Pump>> {
        let pump = self.pump.get()?;
        Some(pump.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keeping {
    /// Where other replicas can read it, if they may.
    pub(super) fn shared(&self) -> Option<&Replicas> {
        self.replicas.as_deref().filter(|_| !self.window.is_zero())
    }
}
