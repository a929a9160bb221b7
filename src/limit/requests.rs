//! Requests per time: `governor` decides, the cells hold the state.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

use crate::model::Rate;

use super::RateLimitStatus;
use super::address::Address;
use super::cells::{Cell, Cells};
use super::counter::RateCounter;

/// One limit on requests, for every subject of `S`.
pub(super) struct RequestLimit<S: Cells, C: Clock> {
    rate: Rate,
    gcra: Gcra,
    cells: S,
    limiter: RateLimiter<S::Key, S, Elapsed<C>, NoOpMiddleware<Nanos>>,
}

/// A rate in the terms of the generic cell rate algorithm: the interval after which one unit comes
/// back, and how many units may be taken at once.
///
/// Both are bounded so that no sum of them exceeds 64 bits of nanoseconds: a rate covers a century
/// at most, at most 2³² - 1 requests may come at once, and none comes back in less than
/// a nanosecond. Cells are whole nanoseconds, so a rate is met within 0.1 % up to a million
/// requests a second.
#[derive(Debug, Clone, Copy)]
struct Gcra {
    interval: u64,
    burst: NonZeroU32,
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Time since the limit was made, on any clock.
#[derive(Debug, Clone)]
pub(super) struct Elapsed<C: Clock> {
    clock: C,
    start: C::Instant,
}

/// The interval after which one unit of a rate comes back, in nanoseconds; at least 1.
pub(super) fn unit_interval(rate: Rate) -> u64 {
    Gcra::from(rate).interval
}

impl<S: Cells, C: Clock> RequestLimit<S, C> {
    /// `cells` makes the state store, given how long one request takes to come back.
    pub(super) fn new(rate: Rate, cells: impl FnOnce(Nanos) -> S, clock: C) -> Self {
        let gcra = Gcra::from(rate);
        let cells = cells(Nanos::new(gcra.interval));
        Self {
            rate,
            gcra,
            cells: cells.clone(),
            limiter: RateLimiter::new(gcra.quota(), cells, Elapsed::new(clock)),
        }
    }

    fn status_of(&self, cell: Cell) -> RateLimitStatus {
        let now = self.limiter.clock().now();
        let missing = cell.full_at.saturating_sub(now).as_u64();
        let capacity = self.gcra.interval * u64::from(self.gcra.burst.get());
        RateLimitStatus {
            limit: self.rate.amount,
            remaining: capacity.saturating_sub(missing) / self.gcra.interval,
            reset: Duration::from_nanos(missing),
        }
    }
}

impl<S, C> RateCounter for RequestLimit<S, C>
where
    S: Cells + Send + Sync,
    C: Clock + Send + Sync,
{
    fn take(&self, address: Option<Address>, _amount: u64) -> Result<Nanos, Duration> {
        match self.limiter.check_key(&address) {
            Ok(()) => Ok(self.cells.get(&address).unwrap_or_default().last_full_at),
            Err(until) => Err(until.wait_time_from(self.limiter.clock().now())),
        }
    }

    /// This is exact if it follows at once. If others took requests meanwhile from a cell that was
    /// nearly full, the time between is given too much at most, and never a whole request.
    fn settle(&self, address: Option<Address>, last_full_at: Nanos, taken: u64, used: u64) {
        if used < taken {
            self.cells
                .give_back(&address, last_full_at, Nanos::new(self.gcra.interval));
        }
    }

    fn status(&self, address: Option<Address>) -> RateLimitStatus {
        self.status_of(self.cells.get(&address).unwrap_or_default())
    }

    fn addresses(&self) -> usize {
        self.cells.count()
    }
}

impl<S: Cells, C: Clock> std::fmt::Debug for RequestLimit<S, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestLimit")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl Gcra {
    fn quota(self) -> Quota {
        Quota::with_period(Duration::from_nanos(self.interval))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN)) // `weight` is at least 1.
            .allow_burst(self.burst)
    }
}

impl From<Rate> for Gcra {
    fn from(rate: Rate) -> Self {
        let burst = u32::try_from(rate.amount).unwrap_or(u32::MAX);
        let interval = rate.per.min(CENTURY).as_nanos() / u128::from(rate.amount.max(1));
        Self {
            // A century is 3.2 × 10¹⁸ ns and fits.
            interval: u64::try_from(interval).unwrap_or(u64::MAX).max(1),
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        }
    }
}

impl<C: Clock> Elapsed<C> {
    pub(super) fn new(clock: C) -> Self {
        let start = clock.now();
        Self { clock, start }
    }
}

impl<C: Clock> Clock for Elapsed<C> {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.clock.now().duration_since(self.start)
    }
}
