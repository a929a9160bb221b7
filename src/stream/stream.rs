//! One stream: its pump, its log, and the wakers of its viewers.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::log::Dropped;
use super::pump::Pump;
use super::registry::Registry;
use super::replicas::Replicas;
use super::state::{BACKGROUND, StartPosition, State, StreamState, ViewerId};
use crate::dialect::native::log_codec::last_event;
use crate::model::{Error, Ordinal, StreamId};

/// How and where a stream is kept for clients that come back.
#[derive(Clone)]
pub struct Retention {
    pub stream: StreamId,
    /// The name of the key that made it.
    pub owner: String,
    /// The model's name as the client sent it.
    pub model: String,
    /// How long it runs without a viewer, and stays readable after its end; zero keeps nothing.
    pub window: Duration,
    /// How many bytes of it are kept.
    pub buffer: usize,
    pub registry: Arc<Registry>,
    /// The store through which other replicas can read it.
    pub replicas: Option<Arc<Replicas>>,
    /// The client's request in this dialect, if another replica may take the stream over.
    pub request: Option<Bytes>,
}

/// One stream. It has no task: a viewer that has read the whole log drives it, and wakes the others
/// when it finds more. So a stream with one viewer needs no task and no channel. If that viewer does
/// not read, the upstream is not read either. Among several viewers, one that does not read slows none
/// of the others.
///
/// Invariant: the pump's lock is taken before the state's. Code that holds the state's lock never takes
/// the pump's, wakes nobody, and calls neither the registry nor the replicas.
pub struct Stream {
    /// Empty while another replica produces the stream; a takeover sets it.
    pub(super) pump: OnceLock<Mutex<Pump>>,
    pub(super) state: Arc<StreamState>,
    /// Marks the pump as due and wakes all viewers that wait.
    pub(super) waker: Waker,
    pub(super) retention: OnceLock<Retention>,
    id: Option<StreamId>,
    /// The name of the key that made it.
    owner: String,
}

/// What a viewer reads.
#[derive(Debug)]
pub(super) enum ReadOutcome {
    Bytes(Bytes),
    /// The stream has ended and the viewer has all of it.
    End,
    Dropped,
    /// This replica gets no more events, although the stream has not ended.
    Disconnected(Error),
}

impl Stream {
    pub(super) fn new(pump: Pump, retention: Option<Retention>) -> Self {
        let buffer = retention
            .as_ref()
            .filter(|retention| !retention.window.is_zero())
            .map(|retention| retention.buffer);
        let retained = retention.as_ref();
        let owner = retained.map_or_else(String::new, |retention| retention.owner.clone());
        let id = retained.map(|retention| retention.stream);
        Self {
            pump: OnceLock::from(Mutex::new(pump)),
            retention: retention.map_or_else(OnceLock::new, OnceLock::from),
            ..Self::without_pump(id, owner, buffer)
        }
    }

    /// A stream that this replica does not produce; its bytes come from the store.
    pub(super) fn without_pump(id: Option<StreamId>, owner: String, buffer: Option<usize>) -> Self {
        let state = Arc::new(StreamState::new(buffer));
        Self {
            pump: OnceLock::new(),
            waker: Waker::from(Arc::clone(&state)),
            state,
            retention: OnceLock::new(),
            id,
            owner,
        }
    }

    /// `None` if no client can come back to it.
    pub(super) fn id(&self) -> Option<StreamId> {
        self.id
    }

    pub(super) fn retention(&self) -> Option<&Retention> {
        self.retention.get()
    }

    /// How long it runs without a viewer; `None` if it does not.
    pub(super) fn window(&self) -> Option<Duration> {
        let retention = self.retention()?;
        (!retention.window.is_zero()).then_some(retention.window)
    }

    /// Whether the key of this name may cancel it.
    pub fn is_owned_by(&self, owner: &str) -> bool {
        self.owner == owner
    }

    /// Whether clients other than the first can read it.
    pub fn is_readable(&self) -> bool {
        self.is_remote() || self.window().is_some()
    }

    /// Whether another replica produces it.
    pub fn is_remote(&self) -> bool {
        self.pump.get().is_none()
    }

    /// Whether the terminal event was written.
    pub fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// All its bytes so far; `None` if some were dropped.
    pub fn all_writes(&self) -> Option<Vec<Bytes>> {
        self.state.lock().log.all_writes()
    }

    /// The last write.
    pub fn last_write(&self) -> Option<Bytes> {
        self.state.lock().log.last_write()
    }

    /// The memory of its log, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.state.lock().log.held_bytes()
    }

    /// How often it was taken over, as far as this replica knows.
    pub fn epoch(&self) -> u8 {
        self.state.lock().epoch()
    }

    /// Where a reader begins that has the events up to `seen`.
    pub(super) fn start_position(&self, seen: Option<Ordinal>) -> StartPosition {
        self.state.lock().start_position(seen, self.is_remote())
    }

    /// Why it ended without its finish.
    pub(super) fn failure(&self) -> Option<Error> {
        self.pump()?.failure().cloned()
    }

    /// Why it ended before its first event.
    pub(super) fn failure_before_start(&self) -> Option<Error> {
        let before_start = {
            let state = self.state.lock();
            state.ended && state.log.end() == 0
        };
        before_start.then(|| self.failure()).flatten()
    }

    /// The client has its 200: from here on a failure is an event.
    pub(super) fn mark_response_started(&self) {
        if let Some(mut pump) = self.pump() {
            pump.mark_response_started();
        }
    }

    /// A client has the stream's id before its first event, and can come back to it at once.
    pub(super) fn disclose_id(&self) {
        self.state.lock().id_disclosed = true;
    }

    /// Whether a client can know its id.
    pub(super) fn is_id_disclosed(&self) -> bool {
        let state = self.state.lock();
        state.id_disclosed || state.log.last_ordinal().is_some()
    }

    /// Ends the stream as cancelled, closes the upstream's connection, and wakes its viewers.
    /// Does nothing to a stream that another replica produces.
    pub fn cancel(&self) {
        if let Some(mut pump) = self.pump() {
            pump.cancel();
            self.poll(&mut pump, BACKGROUND);
        }
    }

    /// Waits until the terminal event was written.
    pub(super) fn poll_ended(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.ended {
            return Poll::Ready(());
        }
        state
            .waiters
            .push_back((BACKGROUND, context.waker().clone()));
        Poll::Pending
    }

    /// Whether it has a viewer on this replica.
    pub(super) fn is_viewed(&self) -> bool {
        self.state.lock().viewers > 0
    }

    pub(super) fn add_viewer(&self) -> ViewerId {
        let mut state = self.state.lock();
        state.viewers += 1;
        state.total_viewers += 1;
        ViewerId(state.total_viewers)
    }

    /// How many viewers there have been in all.
    pub(super) fn total_viewers(&self) -> u64 {
        self.state.lock().total_viewers
    }

    /// Removes a viewer. Returns whether it was the last one of a stream that has not ended.
    pub(super) fn remove_viewer(&self, viewer: ViewerId) -> bool {
        let mut state = self.state.lock();
        state.viewers -= 1;
        state.waiters.retain(|(waiting, _)| *waiting != viewer);
        let unviewed = state.viewers == 0 && !state.ended;
        drop(state);
        // The viewer that left may have been the driver.
        self.waker.wake_by_ref();
        unviewed
    }

    /// Ends a stream without viewers, unless one came since the count was `total_viewers`.
    pub(super) fn abandon(&self, total_viewers: u64) {
        let Some(mut pump) = self.pump() else {
            return;
        };
        let mut state = self.state.lock();
        if state.viewers > 0 || state.total_viewers != total_viewers || state.ended {
            return;
        }
        state.ended = true;
        drop(state);
        pump.abandon();
        drop(pump);
        if let Some(retention) = self.retention() {
            retention.registry.mark_abandoned(retention.stream);
            if let Some(replicas) = retention.replicated_to() {
                replicas.record_abandoned(retention);
            }
        }
    }

    /// Reads at `position`, and drives the stream if the log has nothing there. The task is woken when
    /// there is more.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        position: u64,
    ) -> Poll<ReadOutcome> {
        self.poll_until(context, viewer, |state| match state.read(position) {
            Ok(Some(bytes)) => Some(ReadOutcome::Bytes(bytes)),
            Err(Dropped) => Some(ReadOutcome::Dropped),
            Ok(None) => match &state.disconnected {
                Some(why) => Some(ReadOutcome::Disconnected(why.clone())),
                None => state.is_over().then_some(ReadOutcome::End),
            },
        })
    }

    /// Waits until there is something at `position`, or never will be.
    pub(super) fn poll_ready(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        position: u64,
    ) -> Poll<()> {
        self.poll_until(context, viewer, |state| {
            let over = state.is_over() || state.disconnected.is_some();
            (over || state.visible() > position).then_some(())
        })
    }

    /// Drives the stream until it ends or a viewer comes after `total_viewers`.
    pub(super) fn poll_in_background(
        &self,
        context: &mut Context<'_>,
        total_viewers: u64,
    ) -> Poll<()> {
        self.poll_until(context, BACKGROUND, |state| {
            (state.ended || state.total_viewers != total_viewers).then_some(())
        })
    }

    /// Drives the stream until `look` finds something.
    fn poll_until<T>(
        &self,
        context: &mut Context<'_>,
        viewer: ViewerId,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let mut is_registered = false;
        loop {
            {
                let mut state = self.state.lock();
                if let Some(found) = look(&mut state) {
                    return Poll::Ready(found);
                }
                // Read under the state's lock: a later `set_due` wakes a waiter that is registered by then.
                let due = self.state.is_due() && !state.ended;
                if is_registered || !due {
                    state.add_waiter(viewer, context.waker());
                }
                if !due {
                    return Poll::Pending;
                }
            }
            if !self.drive(viewer) {
                if is_registered {
                    return Poll::Pending;
                }
                // Another viewer drives and wakes all waiters when it is done, or there is nothing to read.
                is_registered = true;
            }
        }
    }

    /// Polls the pump if it is due. Returns whether that brought anything. If another viewer drives right
    /// now, that one wakes the waiters.
    fn drive(&self, driver: ViewerId) -> bool {
        let Some(pump) = self.pump.get() else {
            return false;
        };
        let mut pump = match pump.try_lock() {
            Ok(pump) if self.state.take_due() => pump,
            Ok(_) | Err(TryLockError::WouldBlock) => return false,
            Err(TryLockError::Poisoned(poisoned)) => {
                let mut pump = poisoned.into_inner();
                pump.fail_after_panic();
                pump
            }
        };
        self.poll(&mut pump, driver)
    }

    fn poll(&self, pump: &mut Pump, driver: ViewerId) -> bool {
        let before = pump.is_ended();
        let mut context = Context::from_waker(&self.waker);
        let Poll::Ready(bytes) = pump.poll_bytes(&mut context) else {
            return false;
        };
        if !pump.is_waiting() {
            self.state.set_due();
        }
        let ended = pump.is_ended() && !before;
        let last = match &bytes {
            Some(bytes) if ended => last_event(bytes).map(|event| event.ordinal),
            _ => None,
        };
        let replicas = self.retention().and_then(Retention::replicated_to);
        let mut state = self.state.lock();
        let position = state.log.end();
        if let Some(bytes) = bytes {
            state.log.push(bytes);
        }
        state.ended |= ended;
        let held_back = replicas.is_some_and(|replicas| self.must_hold_back(&state, replicas));
        state.visible_limit = held_back.then(|| state.visible_limit.unwrap_or(position));
        if ended {
            state.log.compact();
        }
        let newly_queued = !std::mem::replace(&mut state.queued_for_storage, true);
        let has_waiters = !state.waiters.is_empty();
        if has_waiters {
            state.waiters.retain(|(waiting, _)| *waiting != driver);
        }
        drop(state);
        if has_waiters {
            self.state.wake_all();
        }
        if let Some(retention) = self.retention() {
            if ended {
                retention.registry.mark_ended(self, retention, last);
            }
            match replicas {
                Some(replicas) if ended && last.is_none() => {
                    replicas.remove_unstarted(retention.stream)
                }
                Some(replicas) if held_back || newly_queued => {
                    replicas.queue_write(retention.stream, held_back)
                }
                Some(_) | None => {}
            }
        }
        true
    }

    /// Must not be called while holding the state's lock.
    pub(super) fn pump(&self) -> Option<MutexGuard<'_, Pump>> {
        let pump = self.pump.get()?;
        Some(pump.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Retention {
    /// The replicas that store the stream, if it is kept at all.
    pub(super) fn replicated_to(&self) -> Option<&Replicas> {
        self.replicas.as_deref().filter(|_| !self.window.is_zero())
    }
}
