//! How much of something is allowed in how much time.

use std::time::Duration;

/// `600/min`: at most `amount` at once, and replenished evenly over `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub amount: u64,
    /// Above zero.
    pub per: Duration,
}
