//! How many readers there may be beside the streams' own clients.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::stream::Stream;
use crate::limit::Address;
use crate::metrics::Metrics;

/// The readers of this process, counted in all, for each stream, for each address and for each key.
#[derive(Default)]
pub struct Readers {
    counts: Mutex<Counts>,
}

/// How many readers may be open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderLimits {
    pub total: u64,
    /// Readers of one stream.
    pub stream: u64,
    /// Readers from one address.
    pub address: u64,
    /// Readers of the streams of one key.
    pub key: u64,
}

/// The limit that refuses a reader, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderLimit {
    Total(u64),
    Stream(u64),
    Address(u64),
    Key(u64),
}

/// Counts one reader until it is dropped. While it is held, a drain waits.
pub struct ReaderPermit {
    readers: Arc<Readers>,
    counted: Counted,
    metrics: Arc<Metrics>,
    _open: TaskTrackerToken,
}

/// What one reader counts for.
struct Counted {
    /// Its address identifies a stream, and the permit keeps it alive.
    stream: Arc<Stream>,
    address: Address,
}

/// Invariant: a map has no entries of zero, so it is never larger than `total`.
#[derive(Default)]
struct Counts {
    total: u64,
    streams: HashMap<usize, u64>,
    addresses: HashMap<Address, u64>,
    keys: HashMap<String, u64>,
}

impl ReaderLimits {
    /// No stream takes more than a quarter of the places, and no address or key more than half.
    pub fn of(total: u64) -> Self {
        Self {
            total,
            stream: total.div_ceil(4),
            address: total.div_ceil(2),
            key: total.div_ceil(2),
        }
    }
}

impl Readers {
    /// Admits a reader of `stream` from `address`.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub fn admit(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        address: Address,
        limits: ReaderLimits,
        metrics: &Arc<Metrics>,
        open: TaskTrackerToken,
    ) -> Result<ReaderPermit, ReaderLimit> {
        let counted = Counted {
            stream: Arc::clone(stream),
            address,
        };
        self.lock().add(&counted, limits)?;
        metrics.record_reader_opened();
        Ok(ReaderPermit {
            readers: Arc::clone(self),
            counted,
            metrics: Arc::clone(metrics),
            _open: open,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No code panics between two counts.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn stream_key(&self) -> usize {
        Arc::as_ptr(&self.stream) as usize
    }
}

impl Counts {
    fn add(&mut self, counted: &Counted, limits: ReaderLimits) -> Result<(), ReaderLimit> {
        let (stream, owner) = (counted.stream_key(), counted.stream.owner());
        let of = |count: Option<&u64>| count.copied().unwrap_or_default();
        if self.total >= limits.total {
            return Err(ReaderLimit::Total(limits.total));
        }
        if of(self.streams.get(&stream)) >= limits.stream {
            return Err(ReaderLimit::Stream(limits.stream));
        }
        if of(self.addresses.get(&counted.address)) >= limits.address {
            return Err(ReaderLimit::Address(limits.address));
        }
        if of(self.keys.get(owner)) >= limits.key {
            return Err(ReaderLimit::Key(limits.key));
        }
        self.total += 1;
        *self.streams.entry(stream).or_default() += 1;
        *self.addresses.entry(counted.address).or_default() += 1;
        *self.keys.entry(owner.to_owned()).or_default() += 1;
        Ok(())
    }

    fn remove(&mut self, counted: &Counted) {
        self.total -= 1;
        give_back(&mut self.streams, counted.stream_key());
        give_back(&mut self.addresses, counted.address);
        give_back(&mut self.keys, counted.stream.owner().to_owned());
    }
}

fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, u64>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Drop for ReaderPermit {
    fn drop(&mut self) {
        self.readers.lock().remove(&self.counted);
        self.metrics.record_reader_closed();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::model::StreamId;

    struct Fixture {
        readers: Arc<Readers>,
        metrics: Arc<Metrics>,
        tracker: TaskTracker,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                readers: Arc::default(),
                metrics: Arc::default(),
                tracker: TaskTracker::new(),
            }
        }

        fn admit(&self, stream: &Arc<Stream>, address: u8) -> Result<ReaderPermit, ReaderLimit> {
            let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, address)).into();
            let (limits, open) = (ReaderLimits::of(8), self.tracker.token());
            self.readers
                .admit(stream, address, limits, &self.metrics, open)
        }
    }

    fn stream(number: u128, owner: &str) -> Arc<Stream> {
        let (id, owner) = (StreamId::fixed(number), owner.to_owned());
        Arc::new(Stream::remote(id, owner, 0))
    }

    #[test]
    fn one_stream_takes_a_quarter_of_the_places() {
        let fixture = Fixture::new();
        let (crowded, other) = (stream(1, "a"), stream(2, "a"));
        let first = fixture.admit(&crowded, 1).ok().unwrap();
        let _second = fixture.admit(&crowded, 2).ok().unwrap();
        let refused = fixture.admit(&crowded, 3).err();
        assert_eq!(refused, Some(ReaderLimit::Stream(2)));
        let _other = fixture.admit(&other, 3).ok().unwrap();
        drop(first);
        assert!(fixture.admit(&crowded, 3).is_ok());
    }

    #[test]
    fn one_address_takes_half_of_the_places() {
        let fixture = Fixture::new();
        let streams: Vec<_> = (1..=5).map(|n| stream(n, &n.to_string())).collect();
        let held: Vec<_> = streams[..4]
            .iter()
            .map(|stream| fixture.admit(stream, 1).ok().unwrap())
            .collect();
        let refused = fixture.admit(&streams[4], 1).err();
        assert_eq!(refused, Some(ReaderLimit::Address(4)));
        assert!(fixture.admit(&streams[4], 2).is_ok());
        drop(held);
        assert!(fixture.admit(&streams[4], 1).is_ok());
    }

    #[test]
    fn the_streams_of_one_key_take_half_of_the_places() {
        let fixture = Fixture::new();
        let streams: Vec<_> = (1..=5).map(|n| stream(n, "crowded")).collect();
        let held: Vec<_> = streams[..4]
            .iter()
            .zip(1..)
            .map(|(stream, address)| fixture.admit(stream, address).ok().unwrap())
            .collect();
        let refused = fixture.admit(&streams[4], 9).err();
        assert_eq!(refused, Some(ReaderLimit::Key(4)));
        assert!(fixture.admit(&stream(6, "other"), 9).is_ok());
        drop(held);
        let counts = fixture.readers.lock();
        assert_eq!(counts.total, 0);
        assert!(counts.streams.is_empty() && counts.addresses.is_empty() && counts.keys.is_empty());
    }

    #[test]
    fn all_places_together_are_bounded() {
        let fixture = Fixture::new();
        let held: Vec<_> = (1..=8u8)
            .map(|n| {
                let stream = stream(n.into(), &n.to_string());
                fixture.admit(&stream, n).ok().unwrap()
            })
            .collect();
        let refused = fixture.admit(&stream(9, "9"), 9).err();
        assert_eq!(refused, Some(ReaderLimit::Total(8)));
        drop(held);
    }
}
