//! Tokens per time: a bucket that can go into debt.
//!
//! What an answer costs is known at its end. So an estimate is taken before, and settled after:
//! what was too much comes back, and what was too little is taken although it may not be there.
//! That is why `governor` does not do: it never takes what is not there.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::nanos::Nanos;

use crate::model::Rate;

use super::RateLimitStatus;
use super::cells::Cell;
use super::requests::{Elapsed, interval};

/// One key's tokens. Times are whole nanoseconds, as in [`super::requests`].
pub(super) struct TokenBudget<C: Clock> {
    rate: Rate,
    /// How long one token takes to come back.
    interval: u64,
    cell: Mutex<Cell>,
    clock: Elapsed<C>,
}

/// A [`Budget`] on any clock.
pub(super) trait Settle: fmt::Debug + Send + Sync {
    /// Makes `used` of what was `reserved` when the budget was busy since `busy_since`.
    fn settle(&self, last_full_at: Nanos, reserved: u64, used: u64);
}

impl<C: Clock> TokenBudget<C> {
    pub(super) fn new(rate: Rate, clock: C) -> Self {
        Self {
            rate,
            interval: interval(rate),
            cell: Mutex::default(),
            clock: Elapsed::new(clock),
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes tokens: what [`Settle::settle`] wants to know, and what is left.
    ///
    /// # Errors
    /// How long until there will be so many, if nobody else takes them and `tokens` is not more
    /// than there can ever be.
    pub(super) fn take(
        &self,
        tokens: u64,
    ) -> Result<(Nanos, RateLimitStatus), (Duration, RateLimitStatus)> {
        let now = self.clock.now();
        let mut cell = self.lock();
        let before = cell.at(now);
        let after = before.full_at + self.cost(tokens);
        let missing = after.saturating_sub(now).as_u64();
        match missing.checked_sub(self.capacity()) {
            None | Some(0) => {
                *cell = Cell {
                    full_at: after,
                    ..before
                };
                Ok((cell.last_full_at, self.status_of(&cell, now)))
            }
            Some(over) => {
                let status = self.status_of(&before, now);
                Err((Duration::from_nanos(over), status))
            }
        }
    }

    pub(super) fn status(&self) -> RateLimitStatus {
        let now = self.clock.now();
        self.status_of(&self.lock(), now)
    }

    fn status_of(&self, cell: &Cell, now: Nanos) -> RateLimitStatus {
        let missing = cell.full_at.saturating_sub(now).as_u64();
        RateLimitStatus {
            limit: self.rate.amount,
            remaining: self.capacity().saturating_sub(missing) / self.interval,
            reset: Duration::from_nanos(missing),
        }
    }

    fn capacity(&self) -> u64 {
        self.interval.saturating_mul(self.rate.amount)
    }

    fn cost(&self, tokens: u64) -> Nanos {
        Nanos::new(self.interval.saturating_mul(tokens))
    }

    /// A cell is replaced as a whole, so a panic elsewhere leaves nothing half written.
    fn lock(&self) -> std::sync::MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock + Send + Sync> Settle for TokenBudget<C> {
    /// What comes back is given to the busy period that it was taken from, and to no other: once
    /// the bucket was full, everything has come back by itself.
    fn settle(&self, last_full_at: Nanos, reserved: u64, used: u64) {
        let now = self.clock.now();
        let mut cell = self.lock();
        if used > reserved {
            let before = cell.at(now);
            *cell = Cell {
                full_at: before.full_at + self.cost(used - reserved),
                ..before
            };
        } else if cell.last_full_at == last_full_at {
            cell.full_at = cell.full_at.saturating_sub(self.cost(reserved - used));
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
