//! How viewers drive a stream: who polls its pump, and who is woken.

use std::sync::TryLockError;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::log::Dropped;
use super::open_streams::ListedStream;
use super::pump::Pump;
use super::record::Progress;
use super::state::{BACKGROUND, State, ViewerId};
use super::stream::{ReadOutcome, Retention, Stream};
use crate::dialect::native::log_codec::last_event;

/// How many bytes of its log a stream may have for its upstream to be read although its client does not
/// read.
const MAX_UNREAD: usize = 256 * 1024;

impl ListedStream for Stream {
    fn is_open(&self) -> bool {
        !self.is_ended()
    }

    fn progress(&self) -> Option<Progress> {
        self.look(Pump::progress)
    }

    fn log_bytes(&self) -> usize {
        self.held_bytes()
    }

    fn cancel(&self) {
        Self::cancel(self);
    }

    fn enforce_deadlines(&self, now: Instant) {
        let Some(pump) = self.pump.get() else {
            return;
        };
        let mut pump = match pump.try_lock() {
            Ok(pump) => pump,
            // A viewer drives right now.
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => {
                let mut pump = poisoned.into_inner();
                pump.fail_after_panic();
                pump
            }
        };
        // What is read for a client that does not read stays in the log.
        let may_read = self.held_bytes() < MAX_UNREAD;
        if pump.may_be_overdue(now, may_read) {
            self.poll(&mut pump, BACKGROUND);
        }
        drop(pump);
        // A viewer that found the pump locked meanwhile waits to be woken by the holder of the lock.
        if self.state.is_due() {
            self.state.wake_all();
        }
    }
}

impl Stream {
    /// Ends the stream as cancelled, closes the upstream's connection, and wakes its viewers.
    /// Does nothing to a stream that another replica produces.
    pub fn cancel(&self) {
        if let Some(mut pump) = self.pump() {
            pump.cancel();
            self.poll(&mut pump, BACKGROUND);
        }
    }

    /// The heartbeat of the stream's protocol, for a viewer that has read the whole log. `None` if there is
    /// none, or if another viewer drives right now.
    pub(super) fn heartbeat(&self) -> Option<Bytes> {
        self.look(Pump::heartbeat)
    }

    /// Looks at the pump, unless a viewer drives right now.
    fn look<T>(&self, look: impl FnOnce(&Pump) -> Option<T>) -> Option<T> {
        let found = look(&*self.pump.get()?.try_lock().ok()?);
        // A viewer that found the pump locked meanwhile waits to be woken by the holder of the lock.
        if self.state.is_due() {
            self.state.wake_all();
        }
        found
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
            for observer in retention.observers() {
                observer.abandon(retention);
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
        if ended && let Some(retention) = self.retention() {
            for observer in retention.observers() {
                observer.end(self, retention, last);
            }
        }
        let refused = ended && last.is_none();
        if let Some((retention, replicas)) = self.retention().zip(replicas)
            && !refused
            && (held_back || newly_queued)
        {
            replicas.queue_write(retention.stream, held_back);
        }
        true
    }
}
