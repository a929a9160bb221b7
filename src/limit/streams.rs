//! How many streams are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The open streams of one subject. Relaxed ordering is enough: the count guards no other data.
#[derive(Debug)]
pub(super) struct StreamLimit {
    limit: Option<u64>,
    open: Arc<AtomicU64>,
}

/// One open stream, counted until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<AtomicU64>);

impl StreamLimit {
    /// Continues the count of `before`.
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

    /// Counts a stream that the shared state has admitted.
    pub(super) fn take_unchecked(&self) -> OpenStream {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.open))
    }

    /// `None` if as many are open as may be.
    pub(super) fn take(&self) -> Option<OpenStream> {
        let limit = self.limit.unwrap_or(u64::MAX);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then(|| open + 1)
            })
            .ok()
            .map(|_| OpenStream(Arc::clone(&self.open)))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
