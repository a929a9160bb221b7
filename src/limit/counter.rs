//! How a rate is counted in this process.

use std::fmt;
use std::time::Duration;

use governor::nanos::Nanos;

use super::RateLimitStatus;
use super::address::Address;

/// What one limit counts, on any clock. `address` names whose count it is; `None` where the limit
/// counts one subject only.
pub(super) trait RateCounter: fmt::Debug + Send + Sync {
    /// Takes an amount. Returns when the count was last at its full allowance, which
    /// [`RateCounter::settle`] needs.
    ///
    /// # Errors
    /// How long it takes until the amount is there, if it is not taken by others meanwhile.
    fn take(&self, address: Option<Address>, amount: u64) -> Result<Nanos, Duration>;

    /// Corrects what was taken to what was used.
    fn settle(&self, address: Option<Address>, last_full_at: Nanos, taken: u64, used: u64);

    fn status(&self, address: Option<Address>) -> RateLimitStatus;

    /// How many addresses have a count of their own.
    fn addresses(&self) -> usize {
        0
    }
}
