//! Tokens per time: a bucket that can go into debt.
//!
//! What an answer costs is known at its end. So an estimate is taken before and corrected after:
//! what was too much comes back, and what was too little is taken although it may not be there.
//! `governor` cannot do that: it never takes what is not there.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;

use crate::model::Rate;

use super::RateLimitStatus;
use super::address::Address;
use super::cells::Cell;
use super::counter::RateCounter;
use super::requests::{Elapsed, unit_interval};

/// One key's tokens. Times are whole nanoseconds, as in [`super::requests`], and saturate: a cost
/// that the clock cannot express is a debt of centuries, and never none.
pub(super) struct TokenBudget<C: Clock> {
    rate: Rate,
    /// How long one token takes to come back.
    interval: u64,
    cell: Mutex<Cell>,
    clock: Elapsed<C>,
}

impl<C: Clock> TokenBudget<C> {
    pub(super) fn new(rate: Rate, clock: C) -> Self {
        Self {
            rate,
            interval: unit_interval(rate),
            cell: Mutex::default(),
            clock: Elapsed::new(clock),
        }
    }

    fn capacity(&self) -> u64 {
        self.interval.saturating_mul(self.rate.amount)
    }

    /// When everything will have come back after `tokens` more were taken.
    fn full_at_after(&self, full_at: Nanos, tokens: u64) -> Nanos {
        let cost = self.interval.saturating_mul(tokens);
        Nanos::new(full_at.as_u64().saturating_add(cost))
    }

    /// A cell is replaced as a whole, so a panic elsewhere leaves nothing half written.
    fn lock(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock + Send + Sync> RateCounter for TokenBudget<C> {
    fn take(&self, _address: Option<Address>, tokens: u64) -> Result<Nanos, Duration> {
        let now = self.clock.now();
        let mut cell = self.lock();
        let before = cell.at(now);
        let full_at = self.full_at_after(before.full_at, tokens);
        let missing = full_at.saturating_sub(now).as_u64();
        match missing.checked_sub(self.capacity()) {
            None | Some(0) => {
                *cell = Cell { full_at, ..before };
                Ok(cell.last_full_at)
            }
            Some(over) => Err(Duration::from_nanos(over)),
        }
    }

    /// What comes back belongs to the period in which it was taken: once the bucket was full,
    /// everything has come back by itself.
    fn settle(&self, _address: Option<Address>, last_full_at: Nanos, taken: u64, used: u64) {
        let now = self.clock.now();
        let mut cell = self.lock();
        if used > taken {
            let before = cell.at(now);
            *cell = Cell {
                full_at: self.full_at_after(before.full_at, used - taken),
                ..before
            };
        } else if cell.last_full_at == last_full_at {
            let returned = self.interval.saturating_mul(taken - used);
            cell.full_at = cell.full_at.saturating_sub(Nanos::new(returned));
        }
    }

    fn status(&self, _address: Option<Address>) -> RateLimitStatus {
        let now = self.clock.now();
        let missing = self.lock().full_at.saturating_sub(now).as_u64();
        RateLimitStatus {
            limit: self.rate.amount,
            remaining: self.capacity().saturating_sub(missing) / self.interval,
            reset: Duration::from_nanos(missing),
        }
    }
}

impl<C: Clock> fmt::Debug for TokenBudget<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBudget")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
