//! How many streams are open, and no more than may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of open streams with a limit. Relaxed ordering is enough: nothing but the count itself
/// is shared through it.
#[derive(Debug)]
pub(super) struct Streams {
    limit: Option<u64>,
    open: AtomicU64,
}

/// One open stream, counted until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<Streams>);

impl Streams {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            open: AtomicU64::new(0),
        }
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The limit, if that many are open.
    pub(super) fn open_one(streams: &Arc<Self>) -> Result<OpenStream, u64> {
        let limit = streams.limit.unwrap_or(u64::MAX);
        streams
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then(|| open + 1)
            })
            .map(|_| OpenStream(Arc::clone(streams)))
            .map_err(|_| limit)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
