//! The newest notifications of one process.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::cursor::{Cursor, SharedId};

/// How many notifications a client that comes back can get.
const MAX_REPLAYED: u64 = 100;
/// How far behind a connected listener may be: in notifications, and in bytes of all of them.
const MAX_ENTRIES: usize = 1024;
const MAX_BYTES: usize = 8 << 20;

/// Bounded in entries and bytes; the last entry is always kept. Every listener reads it from its own
/// position, so it costs nothing for a listener.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The position of the first entry.
    start: u64,
    bytes: usize,
    /// The time of the last entry, and the last entry of the shared state.
    last: Option<Cursor>,
}

/// One notification.
#[derive(Debug)]
pub(super) struct Entry {
    time: u64,
    shared: Option<SharedId>,
    /// Whether it was published before this replica knew the shared state.
    pub(super) is_old: bool,
    /// The whole event, with its id.
    pub(super) bytes: Bytes,
}

impl Log {
    /// Adds an event and returns its id. `data` is JSON on one line.
    pub(super) fn push(
        &mut self,
        name: &str,
        data: &str,
        shared: Option<SharedId>,
        is_old: bool,
    ) -> String {
        let last = self.last;
        let after_last = last.map_or(0, |last| last.time + 1);
        let cursor = Cursor {
            time: now().max(after_last),
            shared: shared.or(last.and_then(|last| last.shared)),
        };
        self.last = Some(cursor);
        let id = cursor.to_string();
        let bytes = Bytes::from(format!("id: {id}\nevent: {name}\ndata: {data}\n\n"));
        self.bytes += bytes.len();
        self.entries.push_back(Entry {
            time: cursor.time,
            shared,
            is_old,
            bytes,
        });
        while self.entries.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.entries.len() > 1)
        {
            if let Some(dropped) = self.entries.pop_front() {
                self.bytes -= dropped.bytes.len();
                self.start += 1;
            }
        }
        id
    }

    /// The position of the first entry that is kept.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The position after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// Where a client that comes back begins to look for what it lacks.
    pub(super) fn replay_start(&self) -> u64 {
        self.start.max(self.end().saturating_sub(MAX_REPLAYED))
    }

    /// The entry at `position`; `None` at the end. The position must not be before the start.
    pub(super) fn get(&self, position: u64) -> Option<&Entry> {
        let index = position.checked_sub(self.start)?;
        self.entries.get(usize::try_from(index).ok()?)
    }
}

impl Entry {
    /// Whether a client at this cursor lacks it.
    pub(super) fn is_after(&self, cursor: &Cursor) -> bool {
        cursor.lacks(self.time, self.shared)
    }

    /// Whether the shared state got it at this time or later, in milliseconds since 1970.
    pub(super) fn is_announced_since(&self, time: u64) -> bool {
        self.shared.is_some_and(|shared| shared.time >= time)
    }
}

/// Milliseconds since 1970; 0 for a clock before that.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_over_the_bounds_are_dropped() {
        let mut log = Log::default();
        for _ in 0..MAX_ENTRIES + 3 {
            log.push("announcement", "{}", None, false);
        }
        assert_eq!((log.start(), log.end()), (3, MAX_ENTRIES as u64 + 3));
        assert_eq!(log.replay_start(), log.end() - MAX_REPLAYED);
        let large = "x".repeat(MAX_BYTES);
        log.push("announcement", &large, None, false);
        assert_eq!(log.end() - log.start(), 1);
        assert!(log.get(log.start()).is_some() && log.get(log.end()).is_none());
    }

    #[test]
    fn ids_of_one_process_increase() {
        let mut log = Log::default();
        let shared = Some(SharedId { time: 1, number: 0 });
        let ids: Vec<String> = [None, shared, None]
            .map(|shared| log.push("announcement", "{}", shared, false))
            .into();
        let cursors: Vec<Cursor> = ids
            .iter()
            .map(|id| Cursor::parse(id.as_bytes()).unwrap())
            .collect();
        assert!(cursors.windows(2).all(|pair| pair[0].time < pair[1].time));
        // Each id carries the last position in the shared state.
        assert_eq!([cursors[0].shared, cursors[2].shared], [None, shared]);
    }
}
