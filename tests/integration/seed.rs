//! Chance that can be repeated: `SLUICEGATE_SEED` is the number that a failed test named.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Where all chance of one test comes from.
#[derive(Debug, Clone, Copy)]
pub struct Seed(u64);

/// One sequence of numbers.
pub struct Random(TestRng);

impl Seed {
    pub fn of_this_run() -> Self {
        Self(match std::env::var("SLUICEGATE_SEED") {
            Ok(seed) => seed.parse().expect("SLUICEGATE_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        })
    }

    /// A sequence of its own for each number, whatever else draws at the same time.
    pub fn random(self, number: u64) -> Random {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.0.to_le_bytes());
        seed[8..16].copy_from_slice(&number.to_le_bytes());
        Random(TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SLUICEGATE_SEED={}", self.0)
    }
}

impl Random {
    /// A number of the range, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.next_u64() % (range.end - range.start)
    }

    /// Whether to do what is done so many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }
}
