//! Connections that wait for their next request.

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
    shelf: Arc<Mutex<Shelf>>,
    idle: Duration,
    most: usize,
}

#[derive(Default)]
struct Shelf {
    /// The oldest first.
    connections: VecDeque<(Connection, Instant)>,
    /// Closes those that waited too long. Runs while there are any.
    sweeper: Option<AbortOnDropHandle<()>>,
}

impl Pool {
    /// Connections are closed that waited for `idle`, and those that come where `most` wait.
    pub(super) fn new(idle: Duration, most: usize) -> Self {
        Self {
            shelf: Arc::default(),
            idle,
            most,
        }
    }

    /// A connection that is open and silent. Those that are not are closed.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let (connection, since) = lock(&self.shelf).connections.pop_back()?;
            if since.elapsed() < self.idle && connection.is_silent() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end. To be called within a runtime.
    pub(super) fn put(&self, connection: Connection) {
        let mut shelf = lock(&self.shelf);
        if shelf.connections.len() >= self.most {
            return;
        }
        shelf.connections.push_back((connection, Instant::now()));
        if shelf.sweeper.is_none() {
            let sweeping = sweep(Arc::downgrade(&self.shelf), self.idle);
            shelf.sweeper = Some(AbortOnDropHandle::new(tokio::spawn(sweeping)));
        }
    }
}

/// Closes connections that have waited for `idle`, until there are none.
async fn sweep(shelf: Weak<Mutex<Shelf>>, idle: Duration) {
    let mut next = Instant::now() + idle;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(shelf) = shelf.upgrade() else {
            return;
        };
        let mut closed = Vec::new();
        let mut shelf = lock(&shelf);
        let now = Instant::now();
        while let Some((_, since)) = shelf.connections.front()
            && *since + idle <= now
        {
            closed.extend(shelf.connections.pop_front());
        }
        match shelf.connections.front() {
            Some((_, since)) => next = *since + idle,
            None => {
                // The next connection that comes begins another; what is aborted with this one has
                // nothing left to do.
                let done = shelf.sweeper.take();
                drop(shelf);
                drop(done);
                return;
            }
        }
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
