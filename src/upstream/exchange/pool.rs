//! Idle connections that can be reused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connect::Connection;

/// The idle connections of one origin. The last that came is the first to be taken, so that what a
/// quiet origin does not need grows old.
#[derive(Clone)]
pub(super) struct Pool {
    idle_connections: Arc<Mutex<IdleConnections>>,
    idle_timeout: Duration,
    max_idle: usize,
}

#[derive(Default)]
struct IdleConnections {
    /// The oldest first.
    connections: VecDeque<(Connection, Instant)>,
    /// Closes expired connections. Runs while there are any.
    sweep_task: Option<AbortOnDropHandle<()>>,
}

impl Pool {
    /// Connections are closed after they were idle for `idle_timeout`, and at once if `max_idle`
    /// are idle.
    pub(super) fn new(idle_timeout: Duration, max_idle: usize) -> Self {
        Self {
            idle_connections: Arc::default(),
            idle_timeout,
            max_idle,
        }
    }

    /// Takes a connection that is open and silent. Others are closed.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let (connection, since) = lock(&self.idle_connections).connections.pop_back()?;
            if since.elapsed() < self.idle_timeout && connection.is_idle_and_open() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end. Must be called within a runtime.
    pub(super) fn put(&self, connection: Connection) {
        let mut idle_connections = lock(&self.idle_connections);
        if idle_connections.connections.len() >= self.max_idle {
            return;
        }
        idle_connections
            .connections
            .push_back((connection, Instant::now()));
        if idle_connections.sweep_task.is_none() {
            let sweeping = close_expired(Arc::downgrade(&self.idle_connections), self.idle_timeout);
            idle_connections.sweep_task = Some(AbortOnDropHandle::new(tokio::spawn(sweeping)));
        }
    }
}

/// Closes connections that were idle for `idle_timeout`, until there are none.
async fn close_expired(idle_connections: Weak<Mutex<IdleConnections>>, idle_timeout: Duration) {
    let mut next = Instant::now() + idle_timeout;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(idle_connections) = idle_connections.upgrade() else {
            return;
        };
        let mut closed = Vec::new();
        let mut idle_connections = lock(&idle_connections);
        let now = Instant::now();
        while let Some((_, since)) = idle_connections.connections.front()
            && *since + idle_timeout <= now
        {
            closed.extend(idle_connections.connections.pop_front());
        }
        match idle_connections.connections.front() {
            Some((_, since)) => next = *since + idle_timeout,
            None => {
                // The next connection that is put here starts another task.
                let done = idle_connections.sweep_task.take();
                drop(idle_connections);
                drop(done);
                return;
            }
        }
    }
}

fn lock(idle_connections: &Mutex<IdleConnections>) -> MutexGuard<'_, IdleConnections> {
    idle_connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
