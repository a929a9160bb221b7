//! The memory that requests occupy: one budget for all of them.
//!
//! A request reserves its bytes as they arrive and holds them until its first content came, or it
//! failed. What the gateway builds from a body (the parsed request, the upstream's request) is
//! counted as a multiple of the body. It is counted without a check, because the body was already
//! admitted: it only reduces what other requests can reserve. So a body that fits alone is never
//! refused because of what is built from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;

use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode};

/// How many bytes all requests together may hold. Clones share the budget.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Budget>);

/// The bytes that one request holds. Dropping it returns them to the budget.
#[derive(Debug)]
pub struct MemoryReservation {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Relaxed ordering is enough: the counts guard no other data.
#[derive(Debug)]
struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// The parsed request and the upstream's request are each about as large as the body.
const BUILT_PER_BODY: usize = 2;
/// What a header costs beside its name and value.
const HEADER_OVERHEAD: usize = 64;
/// Bodies are short-lived, so there is room again soon.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl MemoryBudget {
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Budget {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            metrics,
        }))
    }

    /// Replaces the limit. What is reserved stays reserved.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// The bytes that requests hold now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// A reservation of no bytes yet.
    pub fn reservation(&self) -> MemoryReservation {
        MemoryReservation {
            budget: Arc::clone(&self.0),
            bytes: 0,
        }
    }
}

impl MemoryReservation {
    /// Reserves more bytes.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] if the budget does not have them. What was reserved before stays
    /// reserved.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
        let limit = self.budget.limit.load(Ordering::Relaxed);
        let reserved =
            self.budget
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                    used.checked_add(bytes).filter(|sum| *sum <= limit)
                });
        if reserved.is_err() {
            self.budget.metrics.record_limit_refusal("memory");
            let message = "the gateway's memory for requests (`limits.memory`) is used up: \
                           send the request again in a moment";
            let error = Error::new(ErrorCode::Overloaded, message);
            return Err(error.with_retry_after(Some(RETRY_AFTER)));
        }
        self.record(bytes);
        Ok(())
    }

    /// Reserves the bytes of a request's headers.
    ///
    /// # Errors
    /// As [`MemoryReservation::reserve`].
    pub fn reserve_headers(&mut self, headers: &HeaderMap) -> Result<(), Error> {
        let each = headers.iter();
        self.reserve(
            each.map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD)
                .sum(),
        )
    }

    /// Counts what is built from a body of so many bytes. The limit is not checked.
    pub fn count_built(&mut self, body: usize) {
        let bytes = body.saturating_mul(BUILT_PER_BODY);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.record(bytes);
    }

    fn record(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.metrics.add_request_memory(bytes);
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.metrics.subtract_request_memory(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize) -> MemoryBudget {
        MemoryBudget::new(limit, Arc::default())
    }

    #[test]
    fn a_reservation_grows_to_the_limit_and_returns_its_bytes_when_dropped() {
        let budget = budget(100);
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        first.reserve(60).unwrap();
        second.reserve(40).unwrap();
        let error = second.reserve(1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Overloaded);
        assert!(error.retry_after().is_some());
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 40);
        second.reserve(60).unwrap();
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_built_from_a_body_is_counted_and_not_refused() {
        let budget = budget(100);
        let mut first = budget.reservation();
        first.reserve(100).unwrap();
        first.count_built(100);
        assert_eq!(budget.used(), 300);
        assert!(budget.reservation().reserve(1).is_err());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_count_beyond_what_can_be_counted_is_refused() {
        let budget = budget(usize::MAX);
        let mut reservation = budget.reservation();
        reservation.reserve(1).unwrap();
        assert!(reservation.reserve(usize::MAX).is_err());
        assert_eq!(budget.used(), 1);
    }

    #[test]
    fn a_lower_limit_applies_to_what_is_reserved_next() {
        let budget = budget(100);
        let mut reservation = budget.reservation();
        reservation.reserve(80).unwrap();
        budget.set_limit(50);
        assert!(reservation.reserve(1).is_err());
        assert_eq!(budget.used(), 80);
    }

    #[test]
    fn reservations_from_many_threads_never_exceed_the_limit() {
        let budget = budget(1_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let mut reservation = budget.reservation();
                        while reservation.reserve(7).is_ok() {
                            assert!(budget.used() <= 1_000);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
