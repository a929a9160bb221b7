//! Idle connections that can be reused.
//!
//! An HTTP/1.1 answer does not name its request. If an upstream, or a proxy before it, sends one
//! answer too many, every later answer on that connection reaches the next request, which may be
//! another user's. The pool limits that to one wrong answer:
//!
//! - A connection rests before it is reused, for as long as this upstream recently took to begin
//!   an answer. If a request got a stray answer, its real one arrives in that time, while the
//!   connection rests.
//! - Bytes that arrive on an idle connection close it, and all others of the endpoint. For
//!   [`DISTRUST`] no connection is reused.
//! - The connection that rested longest is reused first, and none is reused for ever ([`super::Reuse`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{Connection, IdleState};
use super::settings::PoolSettings;

/// The rest before anything is known of an upstream.
const FIRST_REST: Duration = Duration::from_millis(500);
/// After unexpected bytes, no connection of the endpoint is reused for this long.
const DISTRUST: Duration = Duration::from_secs(60);
/// What one answer that began sooner takes off the rest: one part in this many.
const DECAY: u64 = 128;

/// The idle connections of one endpoint.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    settings: PoolSettings,
}

struct Shared {
    /// Names the endpoint in the log.
    host: String,
    /// How long the slowest of the recent answers took to begin, in microseconds.
    slowest: AtomicU64,
    idle: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    /// The one that rested longest first.
    connections: VecDeque<IdleConnection>,
    /// Until when no connection is reused.
    distrusted: Option<Instant>,
    /// Closes expired connections. Runs while there are any.
    sweep_task: Option<AbortOnDropHandle<()>>,
}

struct IdleConnection {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(host: &str, settings: PoolSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                host: host.to_owned(),
                slowest: AtomicU64::new(micros(FIRST_REST)),
                idle: Mutex::default(),
            }),
            settings,
        }
    }

    /// Takes the connection that rested longest, if it rested enough. It is open and silent; others
    /// are closed.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.pop_rested()?;
            match connection.idle_state() {
                IdleState::Silent => return Some(connection),
                IdleState::Closed => {}
                IdleState::Unexpected => {
                    self.distrust();
                    return None;
                }
            }
        }
    }

    /// Keeps a connection whose answer was read to its end. Must be called within a runtime.
    pub(super) fn put(&self, connection: Connection) {
        let Some(reuse) = self.settings.reuse else {
            return;
        };
        if connection.requests() >= reuse.requests || connection.age() >= reuse.age {
            return;
        }
        let now = Instant::now();
        let mut idle = lock(&self.shared.idle);
        if idle.connections.len() >= self.settings.max_idle
            || idle.distrusted.is_some_and(|until| now < until)
        {
            return;
        }
        idle.connections.push_back(IdleConnection {
            connection,
            since: now,
        });
        if idle.sweep_task.is_none() {
            let sweeping = close_expired(Arc::downgrade(&self.shared), self.settings.idle_timeout);
            idle.sweep_task = Some(AbortOnDropHandle::new(tokio::spawn(sweeping)));
        }
    }

    /// Records how long an answer took to begin.
    pub(super) fn record(&self, first_byte: Duration) {
        let slowest = self.shared.slowest.load(Ordering::Relaxed);
        let decayed = slowest - slowest.div_ceil(DECAY);
        // Two answers at once may overwrite each other; the next ones correct that.
        let slowest = decayed.max(micros(first_byte));
        self.shared.slowest.store(slowest, Ordering::Relaxed);
    }

    /// Closes all idle connections and stops reuse for a while: bytes came that no request asked
    /// for.
    pub(super) fn distrust(&self) {
        let now = Instant::now();
        let (before, closed) = {
            let mut idle = lock(&self.shared.idle);
            let before = idle.distrusted.replace(now + DISTRUST);
            (before, std::mem::take(&mut idle.connections))
        };
        drop(closed);
        // An upstream that always does so is logged once.
        if before.is_some_and(|until| now < until) {
            return;
        }
        tracing::warn!(
            host = self.shared.host,
            "an upstream sent bytes that no request asked for; its idle connections are closed, \
             and for {DISTRUST:?} every request opens its own"
        );
    }

    fn pop_rested(&self) -> Option<Connection> {
        let slowest = Duration::from_micros(self.shared.slowest.load(Ordering::Relaxed));
        let rest = slowest.min(self.settings.max_rest);
        let age = self.settings.reuse?.age;
        let mut idle = lock(&self.shared.idle);
        loop {
            let rested = idle.connections.front()?.since.elapsed();
            if rested < rest {
                return None;
            }
            let connection = idle.connections.pop_front()?.connection;
            let fresh = rested < self.settings.idle_timeout && connection.may_idle(rested);
            if fresh && connection.age() < age {
                return Some(connection);
            }
        }
    }
}

/// Closes connections that were idle for `idle_timeout`, until there are none.
async fn close_expired(shared: Weak<Shared>, idle_timeout: Duration) {
    let mut next = Instant::now() + idle_timeout;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut closed = Vec::new();
        let mut idle = lock(&shared.idle);
        let now = Instant::now();
        while let Some(oldest) = idle.connections.front()
            && oldest.since + idle_timeout <= now
        {
            closed.extend(idle.connections.pop_front());
        }
        match idle.connections.front() {
            Some(oldest) => next = oldest.since + idle_timeout,
            None => {
                // The next connection that is put here starts another task.
                let done = idle.sweep_task.take();
                drop(idle);
                drop(done);
                return;
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn lock(idle: &Mutex<IdleConnections>) -> MutexGuard<'_, IdleConnections> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
