//! Publishes notifications to the listeners of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::cursor::{Cursor, SharedId};
use super::log::{Log, now};
use super::notification::Notification;
use crate::metrics::Metrics;

/// The notifications of one process, and those who listen. Listeners share one log: one that waits
/// costs a waker.
pub struct Notifications {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    log: Log,
    listeners: HashMap<u64, Registration>,
    /// The number of the next listener.
    next: u64,
    /// Whether listeners end once they have everything.
    closed: bool,
}

struct Registration {
    /// Set while the listener has read everything and waits.
    waker: Option<Waker>,
    /// The position up to which it has read.
    position: u64,
    /// Cancelled when events that it lacks were dropped.
    dropped: CancellationToken,
}

/// Reads the notifications from one position on.
pub struct Listener {
    hub: Arc<Notifications>,
    number: u64,
    /// The events that its client has.
    seen: Seen,
    dropped: CancellationToken,
}

enum Seen {
    /// All up to this one.
    UpTo(Cursor),
    /// A new client, which gets what was published since this time, in milliseconds since 1970.
    Since(u64),
}

/// The listener did not read for so long that events which it lacks were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped;

impl Notifications {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::default(),
            metrics,
        }
    }

    /// Sends an event to every listener of this process. Returns its id.
    pub fn publish(&self, notification: &Notification) -> String {
        self.append(notification.name(), &notification.data(), None, false)
    }

    /// Adds an event; `is_old` if only clients that come back may lack it.
    pub(super) fn append(
        &self,
        name: &'static str,
        data: &str,
        shared: Option<SharedId>,
        is_old: bool,
    ) -> String {
        let mut wakers = Vec::new();
        let id = {
            let mut state = self.lock();
            let id = state.log.push(name, data, shared, is_old);
            let start = state.log.start();
            for listener in state.listeners.values_mut() {
                match listener.waker.take() {
                    Some(waker) => wakers.push(waker),
                    None if listener.position < start => listener.dropped.cancel(),
                    None => {}
                }
            }
            id
        };
        wakers.into_iter().for_each(Waker::wake);
        if !is_old {
            self.metrics.record_notification(name);
        }
        id
    }

    /// Ends every listener once it has read everything. No listener is admitted any more.
    pub fn close(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.closed = true;
            let listeners = state.listeners.values_mut();
            listeners
                .filter_map(|listener| listener.waker.take())
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many listeners there are.
    pub fn listeners(&self) -> usize {
        self.lock().listeners.len()
    }

    /// Admits a listener; `None` if there are `limit` of them. A client that names the last event
    /// that it has gets those after it, and everything that is kept if the gateway does not know
    /// that id.
    pub fn listen(
        self: &Arc<Self>,
        last_event_id: Option<&[u8]>,
        limit: usize,
    ) -> Option<Listener> {
        let everything = Cursor {
            time: 0,
            shared: None,
        };
        let seen = last_event_id.map(|id| Cursor::parse(id).unwrap_or(everything));
        let mut state = self.lock();
        if state.listeners.len() >= limit {
            return None;
        }
        let number = state.next;
        state.next += 1;
        let (seen, position) = match seen {
            Some(seen) => (Seen::UpTo(seen), state.log.replay_start()),
            None => (Seen::Since(now()), state.log.end()),
        };
        let dropped = CancellationToken::new();
        let registration = Registration {
            waker: None,
            position,
            dropped: dropped.clone(),
        };
        state.listeners.insert(number, registration);
        self.metrics.set_listeners(state.listeners.len());
        drop(state);
        Some(Listener {
            hub: Arc::clone(self),
            number,
            seen,
            dropped,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Cancelled when the listener is dropped because it does not read.
    pub fn dropped(&self) -> &CancellationToken {
        &self.dropped
    }

    /// The next event; `None` after the last one of a gateway that drains.
    pub fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Dropped>>> {
        let mut state = self.hub.lock();
        let State {
            log,
            listeners,
            closed,
            ..
        } = &mut *state;
        let Some(listener) = listeners.get_mut(&self.number) else {
            return Poll::Ready(None); // It is removed only when it is dropped.
        };
        if listener.position < log.start() {
            return Poll::Ready(Some(Err(Dropped)));
        }
        while let Some(entry) = log.get(listener.position) {
            listener.position += 1;
            let lacked = match &self.seen {
                Seen::UpTo(seen) => entry.is_after(seen),
                // Announced after the client came, although before this replica knew the store.
                Seen::Since(begun) => !entry.is_old || entry.is_announced_since(*begun),
            };
            if lacked {
                return Poll::Ready(Some(Ok(entry.bytes.clone())));
            }
        }
        if *closed {
            return Poll::Ready(None);
        }
        let registered = listener.waker.as_ref();
        if !registered.is_some_and(|waker| waker.will_wake(context.waker())) {
            listener.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.listeners.remove(&self.number);
        self.hub.metrics.set_listeners(state.listeners.len());
        drop(state);
        if self.dropped.is_cancelled() {
            self.hub.metrics.record_dropped_listener();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Arc<Notifications> {
        Arc::new(Notifications::new(Arc::default()))
    }

    /// Everything that the listener can read now.
    fn read(listener: &mut Listener) -> Vec<String> {
        let mut context = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        while let Poll::Ready(Some(Ok(event))) = listener.poll_event(&mut context) {
            events.push(String::from_utf8(event.to_vec()).unwrap());
        }
        events
    }

    #[test]
    fn what_was_published_before_the_shared_state_was_known_is_old() {
        let hub = hub();
        let mut new = hub.listen(None, 10).unwrap();
        let mut back = hub.listen(Some(b"nt_5-7.0"), 10).unwrap();
        let shared = |time| Some(SharedId { time, number: 0 });
        hub.append("announcement", "{\"n\":1}", shared(7), true);
        hub.append("announcement", "{\"n\":2}", shared(8), true);
        hub.append("announcement", "{\"n\":3}", shared(9), false);
        let ends = |events: Vec<String>| -> Vec<char> {
            let number = |event: &String| event.trim_end().chars().rev().nth(1).unwrap();
            events.iter().map(number).collect()
        };
        assert_eq!(ends(read(&mut new)), ['3']);
        assert_eq!(ends(read(&mut back)), ['2', '3']);
    }

    #[test]
    fn a_listener_that_does_not_read_is_dropped() {
        let hub = hub();
        let mut stalled = hub.listen(None, 10).unwrap();
        let mut waiting = hub.listen(None, 10).unwrap();
        for _ in 0..3000 {
            hub.publish(&Notification::ConfigReloaded);
            assert_eq!(read(&mut waiting).len(), 1);
        }
        assert!(stalled.dropped().is_cancelled() && !waiting.dropped().is_cancelled());
        let mut context = Context::from_waker(Waker::noop());
        let polled = stalled.poll_event(&mut context);
        assert_eq!(polled, Poll::Ready(Some(Err(Dropped))));
        drop(stalled);
        assert_eq!(hub.listeners(), 1);
    }
}
