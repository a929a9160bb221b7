//! Durations counted in buckets that are 3 % wide at most.

/// Buckets per power of two.
const FINE: u64 = 32;

pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            counts: vec![0; 64 * FINE as usize],
            total: 0,
        }
    }

    pub fn add(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
    }

    /// The value below which `share` of all values are, in nanoseconds; `None` where there is none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(middle(index as u64));
            }
        }
        None
    }
}

fn bucket(value: u64) -> usize {
    if value < FINE {
        return value as usize;
    }
    let shift = u64::from(value.ilog2() - FINE.ilog2());
    ((shift + 1) * FINE + (value >> shift) - FINE) as usize
}

fn middle(bucket: u64) -> u64 {
    if bucket < FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    ((bucket % FINE + FINE) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_within_three_percent() {
        for value in [0, 1, 31, 32, 33, 63, 64, 1_000, 123_456_789, u64::MAX >> 4] {
            let mut histogram = Histogram::new();
            histogram.add(value);
            let found = histogram.quantile(0.5).unwrap();
            assert!(found.abs_diff(value) <= value / 32, "{value}: {found}");
        }
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut histogram = Histogram::new();
        (1..=20).for_each(|value| histogram.add(value));
        assert_eq!(histogram.quantile(0.5), Some(10));
        assert_eq!(histogram.quantile(0.99), Some(20));
        assert_eq!(Histogram::new().quantile(0.5), None);
    }
}
