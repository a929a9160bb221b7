//! A stream's events as bytes, which every viewer reads at its own pace.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::dialect::native::log_codec::{last_event, parse_events};
use crate::model::Ordinal;

/// The memory of one write beside its bytes.
const WRITE_OVERHEAD: usize = 64;

/// How many bytes a reader that catches up gets at once, if they take several writes.
const MAX_GATHERED_BYTES: usize = 32 * 1024;

/// The newest events of one stream, bounded in bytes.
///
/// A position is the number of bytes before it in the stream. Every position that a viewer has is a
/// boundary between events. Each write is kept or dropped as a whole. The last write is always kept,
/// because a viewer is about to read it.
///
/// Invariant: the log holds at most `buffer` bytes, or one write.
#[derive(Debug)]
pub(super) struct Log {
    writes: VecDeque<Write>,
    /// The position after the last byte.
    end: u64,
    held_bytes: usize,
    /// How many bytes are kept for later readers; with `None`, bytes are dropped once they were read.
    buffer: Option<usize>,
}

#[derive(Debug)]
struct Write {
    at: u64,
    bytes: Bytes,
}

/// Where the events after a number begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventPosition {
    At(u64),
    /// Some of them were dropped.
    Gone,
    /// The log does not have that many events; this is its end.
    Ahead(u64),
}

/// The position was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped;

impl Log {
    pub(super) fn new(buffer: Option<usize>) -> Self {
        Self {
            writes: VecDeque::new(),
            end: 0,
            held_bytes: 0,
            buffer,
        }
    }

    /// Adds whole events.
    pub(super) fn push(&mut self, bytes: Bytes) {
        let at = self.end;
        self.end += bytes.len() as u64;
        self.held_bytes += bytes.len() + WRITE_OVERHEAD;
        self.writes.push_back(Write { at, bytes });
        if let Some(buffer) = self.buffer {
            while self.held_bytes > buffer && self.writes.len() > 1 {
                self.drop_first();
            }
        }
    }

    /// Joins all writes into one when the stream has ended: many small writes take several times the
    /// memory of their bytes.
    pub(super) fn compact(&mut self) {
        let Some(first) = self.writes.front().filter(|_| self.buffer.is_some()) else {
            return;
        };
        let at = first.at;
        let mut whole = BytesMut::with_capacity((self.end - at) as usize);
        for write in &self.writes {
            whole.extend_from_slice(&write.bytes);
        }
        self.held_bytes = whole.len() + WRITE_OVERHEAD;
        let bytes = whole.freeze();
        self.writes = VecDeque::from([Write { at, bytes }]);
    }

    /// The next bytes for a viewer at `position`: whole events; `None` if it has read everything.
    ///
    /// # Errors
    /// [`Dropped`]: the bytes at `position` were dropped.
    pub(super) fn read(&mut self, position: u64) -> Result<Option<Bytes>, Dropped> {
        if position == self.end {
            return Ok(None);
        }
        let first = self.writes.front().ok_or(Dropped)?;
        if position < first.at {
            return Err(Dropped);
        }
        // A viewer that keeps up wants the last write. A search would touch writes that have left the cache.
        let index = match self.writes.back() {
            Some(last) if last.at <= position => self.writes.len() - 1,
            _ => self.writes.partition_point(|write| write.at <= position) - 1,
        };
        let write = &self.writes[index];
        let bytes = write.bytes.slice((position - write.at) as usize..);
        if self.buffer.is_none() {
            // Its only reader has it now.
            self.drop_first();
        } else if index + 1 < self.writes.len() && bytes.len() < MAX_GATHERED_BYTES {
            return Ok(Some(self.gather(bytes, index + 1)));
        }
        Ok(Some(bytes))
    }

    /// Joins several small writes for a reader that catches up.
    fn gather(&self, first: Bytes, next: usize) -> Bytes {
        let mut gathered = BytesMut::from(first);
        for write in self.writes.range(next..) {
            if gathered.len() + write.bytes.len() > MAX_GATHERED_BYTES {
                break;
            }
            gathered.extend_from_slice(&write.bytes);
        }
        gathered.freeze()
    }

    /// Where the events after the number `seen` begin; `None` is before the first event.
    pub(super) fn find(&self, seen: Option<u64>) -> EventPosition {
        let next = seen.map_or(0, |seen| seen.saturating_add(1));
        let first = |write: &Write| {
            parse_events(&write.bytes)
                .next()
                .map_or(0, |event| event.ordinal.number)
        };
        let index = self.writes.partition_point(|write| first(write) <= next);
        let Some(write) = index.checked_sub(1).map(|index| &self.writes[index]) else {
            return match (self.end, seen) {
                (0, None) => EventPosition::At(0),
                (0, Some(_)) => EventPosition::Ahead(0),
                _ => EventPosition::Gone,
            };
        };
        let mut position = write.at;
        let mut last = 0;
        for event in parse_events(&write.bytes) {
            if event.ordinal.number == next {
                return EventPosition::At(position);
            }
            last = event.ordinal.number;
            position += event.bytes.len() as u64;
        }
        if last.saturating_add(1) == next {
            EventPosition::At(position)
        } else {
            EventPosition::Ahead(self.end)
        }
    }

    /// The ordinal of the last event; `None` before the first.
    pub(super) fn last_ordinal(&self) -> Option<Ordinal> {
        let last = self.writes.back()?;
        last_event(&last.bytes).map(|event| event.ordinal)
    }

    /// The ordinal of the first event that is kept.
    pub(super) fn first_ordinal(&self) -> Option<Ordinal> {
        let first = self.writes.front()?;
        parse_events(&first.bytes).next().map(|event| event.ordinal)
    }

    /// The position of the first byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.writes.front().map_or(self.end, |write| write.at)
    }

    /// All bytes of the stream; `None` if some were dropped.
    pub(super) fn all_writes(&self) -> Option<Vec<Bytes>> {
        let whole = self.writes.front().is_none_or(|write| write.at == 0);
        (whole && self.buffer.is_some()).then(|| {
            self.writes
                .iter()
                .map(|write| write.bytes.clone())
                .collect()
        })
    }

    /// The last write.
    pub(super) fn last_write(&self) -> Option<Bytes> {
        self.writes.back().map(|write| write.bytes.clone())
    }

    /// The position after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How much memory is held, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn drop_first(&mut self) {
        if let Some(write) = self.writes.pop_front() {
            self.held_bytes -= write.bytes.len() + WRITE_OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u64) -> String {
        format!(
            "id: st_aaaaaaaaaaaaaaaaaaaaaaaaaa.{number}\nevent: token\ndata: {{\"text\":\"x\"}}\n\n"
        )
    }

    fn events(numbers: std::ops::Range<u64>) -> Bytes {
        numbers.map(token).collect::<String>().into()
    }

    /// Reads from `position` to the end.
    fn rest(log: &mut Log, mut position: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(bytes) = log.read(position).unwrap() {
            position += bytes.len() as u64;
            numbers.extend(parse_events(&bytes).map(|event| event.ordinal.number));
        }
        numbers
    }

    #[test]
    fn every_number_is_found_for_every_way_of_writing() {
        for cuts in [vec![0, 9], vec![0, 1, 2, 3, 9], vec![0, 4, 8, 9]] {
            let mut log = Log::new(Some(1 << 20));
            for cut in cuts.windows(2) {
                log.push(events(cut[0]..cut[1]));
            }
            for seen in 0..9 {
                let EventPosition::At(position) = log.find(Some(seen)) else {
                    panic!("{seen} is not found");
                };
                assert_eq!(rest(&mut log, position), Vec::from_iter(seen + 1..9));
            }
            let (held_bytes, positions) = (
                log.held_bytes(),
                Vec::from_iter((0..9).map(|n| log.find(Some(n)))),
            );
            log.compact();
            assert!(log.held_bytes() <= held_bytes);
            assert_eq!(Vec::from_iter((0..9).map(|n| log.find(Some(n)))), positions);
            assert_eq!(log.find(None), EventPosition::At(0));
            assert_eq!(log.find(Some(9)), EventPosition::Ahead(log.end()));
            assert_eq!(log.find(Some(u64::MAX)), EventPosition::Ahead(log.end()));
            assert_eq!(log.last_ordinal().map(|last| last.number), Some(8));
        }
    }

    #[test]
    fn the_oldest_writes_over_the_buffer_are_dropped() {
        let size = events(0..1).len() + WRITE_OVERHEAD;
        let mut log = Log::new(Some(3 * size + 2));
        for number in 0..9 {
            log.push(events(number..number + 1));
            assert!(log.held_bytes() <= 3 * size + 2);
        }
        assert_eq!(log.find(None), EventPosition::Gone);
        assert_eq!(log.find(Some(4)), EventPosition::Gone);
        assert!(matches!(log.find(Some(5)), EventPosition::At(_)));
        assert_eq!(log.read(0), Err(Dropped));
        assert!(log.all_writes().is_none());
        // The last write is kept whatever its size.
        log.push(events(9..100));
        assert_eq!(
            log.find(Some(8)),
            EventPosition::At(log.end() - events(9..100).len() as u64)
        );
        assert_eq!(log.find(Some(7)), EventPosition::Gone);
    }

    #[test]
    fn without_a_buffer_bytes_are_dropped_once_read() {
        let mut log = Log::new(None);
        log.push(events(0..2));
        log.push(events(2..3));
        assert_eq!(rest(&mut log, 0), [0, 1, 2]);
        assert_eq!(log.held_bytes(), 0);
        assert!(log.all_writes().is_none());
    }
}
