//! How many streams are open, and no more than may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on the streams that one party holds open. Relaxed ordering is enough: nothing but the
/// count itself is shared through it.
#[derive(Debug)]
pub(super) struct StreamLimit {
    limit: Option<u64>,
    open: Arc<AtomicU64>,
}

/// One open stream, counted until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<AtomicU64>);

impl StreamLimit {
    /// Goes on counting where `before` is.
    pub(super) fn new(limit: Option<u64>, before: Option<&Self>) -> Self {
        Self {
            limit,
            open: before
                .map(|before| Arc::clone(&before.open))
                .unwrap_or_default(),
        }
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a stream that somebody else has allowed.
    pub(super) fn take_unchecked(&self) -> OpenStream {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.open))
    }

    /// # Errors
    /// The limit, if that many are open.
    pub(super) fn take(&self) -> Result<OpenStream, u64> {
        let limit = self.limit.unwrap_or(u64::MAX);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then(|| open + 1)
            })
            .map(|_| OpenStream(Arc::clone(&self.open)))
            .map_err(|_| limit)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
