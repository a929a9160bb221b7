//! How far a client has read, as an event's id.

use std::fmt;

/// The id of an entry in the shared state, which all replicas agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SharedId {
    /// Milliseconds since 1970, by the shared state's clock.
    pub(super) time: u64,
    pub(super) number: u64,
}

/// The id of an event: `nt_` and the event's time in this process, and the last entry of the shared
/// state up to it. So a client that moves to another replica gets exactly the announcements that it
/// lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Milliseconds since 1970. Two events of one process never have the same.
    pub(super) time: u64,
    pub(super) shared: Option<SharedId>,
}

impl SharedId {
    /// Reads an entry's id, whose parts are separated by `separator`.
    pub(super) fn parse(text: &str, separator: char) -> Option<Self> {
        let (time, number) = text.split_once(separator)?;
        Some(Self {
            time: parse_digits(time)?,
            number: parse_digits(number)?,
        })
    }
}

impl Cursor {
    /// Reads `nt_1732886400000` or `nt_1732886400000-1732886399000.0`.
    pub(super) fn parse(id: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(id).ok()?.strip_prefix("nt_")?;
        let (time, shared) = match text.split_once('-') {
            Some((time, shared)) => (time, Some(SharedId::parse(shared, '.')?)),
            None => (text, None),
        };
        Some(Self {
            time: parse_digits(time)?,
            shared,
        })
    }

    /// Whether a client at this cursor lacks the event.
    pub(super) fn lacks(&self, time: u64, shared: Option<SharedId>) -> bool {
        match (shared, self.shared) {
            (Some(shared), Some(seen)) => shared > seen,
            (Some(shared), None) => shared.time > self.time,
            (None, _) => time > self.time,
        }
    }
}

/// Digits only: `parse` alone takes a sign.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nt_{}", self.time)?;
        match self.shared {
            Some(shared) => write!(f, "-{}.{}", shared.time, shared.number),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Option<SharedId> = Some(SharedId { time: 7, number: 1 });

    #[test]
    fn ids_are_read_back_or_not_understood() {
        for shared in [None, SHARED] {
            let cursor = Cursor { time: 9, shared };
            assert_eq!(Cursor::parse(cursor.to_string().as_bytes()), Some(cursor));
        }
        for id in [
            "",
            "nt_",
            "9",
            "nt_+9",
            "nt_9-",
            "nt_9-7",
            "nt_9-7.+1",
            "st_a.1",
            "nt_9 ",
        ] {
            assert_eq!(Cursor::parse(id.as_bytes()), None, "{id}");
        }
        assert_eq!(Cursor::parse(b"\xff"), None);
    }

    #[test]
    fn shared_entries_are_compared_by_the_ids_that_replicas_agree_on() {
        let later = Some(SharedId { time: 7, number: 2 });
        let seen = Cursor {
            time: 100,
            shared: SHARED,
        };
        // The clocks of replicas differ.
        assert!(seen.lacks(50, later));
        assert!(!seen.lacks(200, SHARED));
        assert!(seen.lacks(101, None));
        assert!(!seen.lacks(100, None));
        let never_shared = Cursor {
            time: 6,
            shared: None,
        };
        assert!(never_shared.lacks(0, SHARED));
    }
}
