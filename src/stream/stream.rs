//! One stream: its pump, its log, and the wakers of its viewers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use super::pump::Pump;
use super::state::{BACKGROUND, StartPosition, StreamState, ViewerId};
use crate::model::{Error, Ordinal, StreamId};
use crate::store::StoreError;

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
    pub registry: Arc<dyn Lifecycle>,
    /// The store through which other replicas can read it.
    pub replicas: Option<Arc<dyn Replication>>,
    /// The tasks that drive streams without viewers.
    pub tasks: TaskTracker,
    /// The client's request in this dialect, if another replica may take the stream over.
    pub request: Option<Bytes>,
}

/// Those that a stream informs of its life. No lock of the stream is held meanwhile.
pub trait Lifecycle: Send + Sync {
    /// The stream begins.
    fn begin(&self, stream: &Arc<Stream>, retention: &Retention);

    /// The stream has ended with the event at `last`; `None` if it was refused before its first event.
    fn end(&self, stream: &Stream, retention: &Retention, last: Option<Ordinal>);

    /// The stream was abandoned: no client came back in time.
    fn abandon(&self, retention: &Retention);

    /// Another replica produces the stream from here on, and has all of it.
    fn release(&self, retention: &Retention);
}

/// The store through which other replicas can read streams.
pub trait Replication: Lifecycle {
    /// Whether the store answers, so that writes are stored soon.
    fn is_store_up(&self, stream: StreamId) -> bool;

    /// The stream has new bytes for the store; with `sync_now`, a viewer waits for them.
    fn queue_write(&self, stream: StreamId, sync_now: bool);

    /// How much longer the stream runs for the readers that it has, or had lately, on other replicas;
    /// `None` if there are none. An error if the store does not answer.
    fn remote_readers_left(&self, stream: StreamId) -> RemoteReadersLeft<'_>;
}

pub type RemoteReadersLeft<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Duration>, StoreError>> + Send + 'a>>;

/// One stream. It has no task: a viewer that has read the whole log drives it, and wakes the others
/// when it finds more. So a stream with one viewer needs no task and no channel. If that viewer does
/// not read, the upstream is not read either. Among several viewers, one that does not read slows none
/// of the others.
///
/// Invariant: the pump's lock is taken before the state's. Code that holds the state's lock never takes
/// the pump's, wakes no task, and calls neither the registry nor the replicas.
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
        let mut stream = Self::without_pump(id, owner, buffer);
        stream.pump = OnceLock::from(Mutex::new(pump));
        stream.retention = retention.map_or_else(OnceLock::new, OnceLock::from);
        stream
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

    /// The name of the key that made it.
    pub(super) fn owner(&self) -> &str {
        &self.owner
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
            // What is held back before the first content can be written now.
            self.state.set_due();
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

    /// Removes a viewer that has read up to `position`. Returns whether it was the last one of a stream that has not ended.
    pub(super) fn remove_viewer(&self, viewer: ViewerId, position: u64) -> bool {
        let mut state = self.state.lock();
        state.viewers -= 1;
        state.received_until = state.received_until.max(position);
        state.waiters.retain(|(waiting, _)| *waiting != viewer);
        let unviewed = state.viewers == 0 && !state.ended;
        drop(state);
        // The viewer that left may have been the driver.
        self.waker.wake_by_ref();
        unviewed
    }

    /// Must not be called while holding the state's lock.
    pub(super) fn pump(&self) -> Option<MutexGuard<'_, Pump>> {
        let pump = self.pump.get()?;
        Some(pump.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts what no client received. Readers on other replicas are not known here.
impl Drop for Stream {
    fn drop(&mut self) {
        let replicated = self.retention().and_then(Retention::replicated_to);
        if replicated.is_some() {
            return;
        }
        let (received, end) = {
            let state = self.state.lock();
            (state.received_until, state.log.end())
        };
        if received < end
            && let Some(pump) = self.pump()
            && let Some(output) = pump.output()
        {
            output.record_unread((end - received) as f64 / end as f64);
        }
    }
}

impl Retention {
    /// The store through which other replicas can read it, if it is kept at all.
    pub(super) fn replicated_to(&self) -> Option<&dyn Replication> {
        self.replicas.as_deref().filter(|_| !self.window.is_zero())
    }

    /// Whom the stream informs.
    pub(super) fn observers(&self) -> impl Iterator<Item = &dyn Lifecycle> {
        let replicas = self
            .replicated_to()
            .map(|replicas| replicas as &dyn Lifecycle);
        std::iter::once(&*self.registry).chain(replicas)
    }
}
