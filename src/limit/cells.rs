//! The memory of request limits: one cell for each subject of a limit, in a bounded space.
//!
//! These are state stores for `governor`. They do what its own do not: give a request back, and
//! forget addresses before there are too many of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;

use super::address::Address;

/// The state of one subject. The default is a subject that never sent a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// When everything taken will have come back: the algorithm's theoretical arrival time.
    pub(super) full_at: Nanos,
    /// Changes with each request that finds the cell full. What was taken before has come back by
    /// itself, so it must not be given back.
    pub(super) last_full_at: Nanos,
}

/// A store of cells. The key is the address that the limit counts, or `None` where a limit counts
/// one subject. Clones share the cells.
pub(super) trait Cells: StateStore<Key = Option<Address>> + Clone {
    /// The cell that would answer for `key`, if there is one.
    fn get(&self, key: &Option<Address>) -> Option<Cell>;

    /// Gives back `interval` if the key's cell was not full since `last_full_at`.
    fn give_back(&self, key: &Option<Address>, last_full_at: Nanos, interval: Nanos);

    /// How many subjects have a cell.
    fn count(&self) -> usize;
}

/// The cell of a limit that counts one subject.
#[derive(Debug, Clone, Default)]
pub(super) struct SingleCell(Arc<Mutex<Option<Cell>>>);

/// The cells of all addresses, in shards with a lock each.
#[derive(Debug, Clone)]
pub(super) struct AddressCells(Arc<Shards>);

#[derive(Debug)]
struct Shards {
    shards: Box<[Mutex<Shard>]>,
    /// Seeded at random, so that a client cannot choose addresses that meet in one shard.
    hasher: RandomState,
    /// How many cells a shard may have.
    capacity: usize,
    /// How long one request takes to come back.
    interval: Nanos,
}

#[derive(Debug, Default)]
struct Shard {
    cells: HashMap<Option<Address>, Cell>,
    /// Counts all addresses for which there was no room.
    overflow: Option<Cell>,
    /// Addresses without a cell that came since the shard was last swept.
    newcomers: usize,
    swept_at: Nanos,
}

/// Enough that a few dozen threads seldom meet, and few enough that one is swept in microseconds:
/// a hundred thousand addresses are 1,600 a shard.
const SHARDS: usize = 64;

/// A full shard is swept after this part of its size in newcomers, so that a newcomer costs no more
/// than reading this many cells, …
const SWEEP_SHARE: usize = 16;

/// … or after this time, so that the first newcomer after a flood finds room.
const SWEEP_TIME: Nanos = Nanos::new(1_000_000_000);

impl Cell {
    /// Lets `governor` decide on a cell: its answer, and the cell after it.
    fn step<T, F, E>(cell: Option<Self>, decide: F) -> Result<(T, Self), E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (answer, full_at) = decide(cell.map(|cell| cell.full_at))?;
        // The value for a subject without a past.
        let (_, fresh) = decide(None)?;
        let last_full_at = match cell {
            Some(cell) if full_at != fresh => cell.last_full_at,
            _ => fresh,
        };
        Ok((
            answer,
            Self {
                full_at,
                last_full_at,
            },
        ))
    }

    /// The cell as it is now: what was taken before it was last full does not count.
    pub(super) fn at(self, now: Nanos) -> Self {
        if self.full_at > now {
            self
        } else {
            Self {
                full_at: now,
                last_full_at: now,
            }
        }
    }

    fn give_back(&mut self, last_full_at: Nanos, interval: Nanos) {
        if self.last_full_at == last_full_at {
            self.full_at = self.full_at.saturating_sub(interval);
        }
    }
}

impl StateStore for SingleCell {
    type Key = Option<Address>;

    fn measure_and_replace<T, F, E>(&self, _key: &Option<Address>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut cell = lock(&self.0);
        let (answer, next) = Cell::step(*cell, decide)?;
        *cell = Some(next);
        Ok(answer)
    }
}

impl Cells for SingleCell {
    fn get(&self, _key: &Option<Address>) -> Option<Cell> {
        *lock(&self.0)
    }

    fn give_back(&self, _key: &Option<Address>, last_full_at: Nanos, interval: Nanos) {
        if let Some(cell) = lock(&self.0).as_mut() {
            cell.give_back(last_full_at, interval);
        }
    }

    fn count(&self) -> usize {
        usize::from(lock(&self.0).is_some())
    }
}

impl AddressCells {
    /// Room for `capacity` addresses. `weight` is how long one request takes to come back.
    pub(super) fn new(capacity: usize, interval: Nanos) -> Self {
        let shards = capacity.clamp(1, SHARDS);
        Self(Arc::new(Shards {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            capacity: capacity / shards,
            interval,
        }))
    }

    fn shard(&self, address: Option<Address>) -> MutexGuard<'_, Shard> {
        let shards = &self.0.shards;
        let index = self.0.hasher.hash_one(address) as usize % shards.len();
        lock(&shards[index])
    }
}

impl StateStore for AddressCells {
    type Key = Option<Address>;

    fn measure_and_replace<T, F, E>(&self, address: &Option<Address>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(*address);
        if let Some(cell) = shard.cells.get_mut(address) {
            let (answer, next) = Cell::step(Some(*cell), decide)?;
            *cell = next;
            return Ok(answer);
        }
        let (_, fresh) = decide(None)?;
        let now = fresh.saturating_sub(self.0.interval);
        if shard.has_room(self.0.capacity, now) {
            let (answer, cell) = Cell::step(None, decide)?;
            shard.cells.insert(*address, cell);
            Ok(answer)
        } else {
            let (answer, cell) = Cell::step(shard.overflow, decide)?;
            shard.overflow = Some(cell);
            Ok(answer)
        }
    }
}

impl Cells for AddressCells {
    fn get(&self, address: &Option<Address>) -> Option<Cell> {
        let shard = self.shard(*address);
        let own = shard.cells.get(address).copied();
        own.or(if shard.cells.len() < self.0.capacity {
            None
        } else {
            shard.overflow
        })
    }

    /// Only to the address's own cell: what was taken from the overflow cell stays taken.
    fn give_back(&self, address: &Option<Address>, last_full_at: Nanos, interval: Nanos) {
        if let Some(cell) = self.shard(*address).cells.get_mut(address) {
            cell.give_back(last_full_at, interval);
        }
    }

    fn count(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|shard| lock(shard).cells.len()).sum()
    }
}

impl Shard {
    /// Whether another address may have a cell. Makes room by forgetting addresses to which
    /// everything has come back.
    fn has_room(&mut self, capacity: usize, now: Nanos) -> bool {
        self.newcomers += 1;
        let due = self.newcomers > capacity / SWEEP_SHARE || now >= self.swept_at + SWEEP_TIME;
        if due && self.cells.len() >= capacity {
            self.newcomers = 0;
            self.swept_at = now;
            self.cells.retain(|_, cell| cell.full_at > now);
        }
        self.cells.len() < capacity
    }
}

/// A panic elsewhere leaves no cell half written: each is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
