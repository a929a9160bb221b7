//! The memory that requests occupy: one budget for all of them.
//!
//! A request reserves its bytes as they arrive and holds them until its first content came, or it
//! failed. What the gateway builds from a body (the parsed request, the upstream's request) is
//! estimated from the body's outline and reserved before any of it is built: many small bodies may
//! each become large. A request that holds all that is reserved is exempt from that check, so a body
//! that fits alone is never refused because of what is built from it.

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
        self.take(bytes, false)
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

    /// Reserves what is built from a body. Beyond the limit, only a request that holds all that is
    /// reserved gets it.
    ///
    /// # Errors
    /// As [`MemoryReservation::reserve`].
    pub fn reserve_built(&mut self, bytes: usize) -> Result<(), Error> {
        self.take(bytes, true)
    }

    /// Counts bytes of a request that another replica admitted. The limit is not checked.
    pub fn count_admitted(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.record(bytes);
    }

    fn take(&mut self, bytes: usize, exempt_if_alone: bool) -> Result<(), Error> {
        let limit = self.budget.limit.load(Ordering::Relaxed);
        let own = self.bytes;
        let reserved =
            self.budget
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                    let sum = used.checked_add(bytes)?;
                    (sum <= limit || (exempt_if_alone && used == own)).then_some(sum)
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
    fn what_is_built_from_a_body_is_refused_beyond_the_limit_unless_the_request_is_alone() {
        let budget = budget(100);
        let mut first = budget.reservation();
        first.reserve(50).unwrap();
        first.reserve_built(150).unwrap();
        assert_eq!(budget.used(), 200);
        assert!(budget.reservation().reserve(1).is_err());
        drop(first);
        assert_eq!(budget.used(), 0);
        let (mut first, mut second) = (budget.reservation(), budget.reservation());
        first.reserve(10).unwrap();
        second.reserve(10).unwrap();
        second.reserve_built(80).unwrap();
        assert!(first.reserve_built(1).is_err());
        assert_eq!(budget.used(), 100);
        drop(second);
        first.reserve_built(200).unwrap();
        assert_eq!(budget.used(), 210);
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
