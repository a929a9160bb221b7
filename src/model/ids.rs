//! Ids that cannot be guessed.

use std::fmt;

/// Names one stream: 128 random bits, written `st_` and 26 characters of 5 bits. The id is the
/// capability to read the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u128);

/// One event of one stream, as `Last-Event-ID` names it: `st_….17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    pub stream: StreamId,
    pub ordinal: Ordinal,
}

/// An event's place in its stream: its number, and the epoch of its producer. Written as the number
/// with one leading zero for each epoch, so that it is the same number everywhere: `17`, `018`, `019`.
///
/// If a producer dies, its last events may not have reached the other replicas. The next producer then
/// uses the same numbers for other events. The epoch distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ordinal {
    /// How often the stream had been taken over before.
    pub epoch: u8,
    /// Counts up by one from 0 within a stream.
    pub number: u64,
}

/// Names one request in logs and answers: `req_` and 128 random bits, or what the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

/// No characters that are mistaken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
const CHARACTERS: usize = 26;

impl StreamId {
    pub fn random() -> Self {
        Self(random())
    }

    /// An id of the caller's choosing, for goldens.
    pub fn fixed(bits: u128) -> Self {
        Self(bits)
    }

    /// Enough of the id to find a stream in logs, and too little to read it with.
    pub fn hint(self) -> String {
        let mut text = self.to_string();
        text.truncate("st_".len() + 8);
        text
    }

    /// Reads `st_…`; only what [`fmt::Display`] writes is read back.
    pub fn parse(text: &str) -> Option<Self> {
        let characters = text.strip_prefix("st_")?.as_bytes();
        if characters.len() != CHARACTERS {
            return None;
        }
        let mut bits = 0_u128;
        for (place, character) in characters.iter().enumerate() {
            let value = ALPHABET.iter().position(|letter| letter == character)?;
            // 26 characters hold 130 bits; the first has room for only 3.
            if place == 0 && value > 7 {
                return None;
            }
            bits = bits << 5 | value as u128;
        }
        Some(Self(bits))
    }
}

impl EventId {
    /// Reads `st_….17`.
    pub fn parse(text: &str) -> Option<Self> {
        let (stream, ordinal) = text.split_once('.')?;
        Some(Self {
            stream: StreamId::parse(stream)?,
            ordinal: Ordinal::parse(ordinal)?,
        })
    }
}

impl Ordinal {
    /// Reads `17`, or `018` from the epoch behind the first.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let zeros = text.bytes().take_while(|byte| *byte == b'0').count();
        // Zero itself has one of its own.
        let epoch = if zeros == text.len() {
            zeros.checked_sub(1)?
        } else {
            zeros
        };
        Some(Self {
            epoch: u8::try_from(epoch).ok()?,
            number: text.parse().ok().filter(|_| digits)?,
        })
    }

    /// The next event's, by the same maker.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            number: self.number.saturating_add(1),
            ..self
        }
    }
}

impl RequestId {
    /// The longest `x-request-id` that is taken over from a client, in bytes.
    const LONGEST: usize = 128;

    pub fn random() -> Self {
        Self(format!("req_{}", encoded(random())))
    }

    /// Takes over a client's `x-request-id` if it is short, printable ASCII without spaces: it goes
    /// into headers, logs and bodies.
    pub fn from_client(value: &str) -> Option<Self> {
        let legal = !value.is_empty()
            && value.len() <= Self::LONGEST
            && value.bytes().all(|b| b.is_ascii_graphic());
        legal.then(|| Self(value.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stream, self.ordinal)
    }
}

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for _ in 0..self.epoch {
            f.write_str("0")?;
        }
        write!(f, "{}", self.number)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "st_{}", encoded(self.0))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn encoded(bits: u128) -> String {
    (0..CHARACTERS)
        .rev()
        .map(|place| char::from(ALPHABET[(bits >> (5 * place)) as usize & 31]))
        .collect()
}

/// From the thread's own ChaCha generator, which the operating system's randomness seeds and which
/// costs no system call for each id.
///
/// # Panics
/// If the operating system has no randomness: an id that can be guessed is worse than no answer.
fn random() -> u128 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_reads_back_what_it_writes_and_nothing_else() {
        for id in [
            StreamId::fixed(0),
            StreamId::fixed(u128::MAX),
            StreamId::random(),
        ] {
            assert_eq!(StreamId::parse(&id.to_string()), Some(id));
        }
        let text = StreamId::random().to_string();
        for other in [
            text.to_uppercase(),
            format!("{text}a"),
            text[1..].to_owned(),
            "st_888888888888888888888888888".to_owned(),
            "st_".to_owned(),
            String::new(),
        ] {
            assert_eq!(StreamId::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn an_event_id_has_a_number_and_an_epoch() {
        let stream = StreamId::fixed(7);
        for (tail, epoch, number) in [
            ("12", 0, 12),
            ("0", 0, 0),
            ("00", 1, 0),
            ("010", 1, 10),
            ("00012", 3, 12),
        ] {
            let ordinal = Ordinal { epoch, number };
            let id = EventId { stream, ordinal };
            assert_eq!(id.to_string(), format!("{stream}.{tail}"));
            assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
        let deep = "0".repeat(300);
        for tail in [
            "",
            ".",
            ".-1",
            ".+1",
            ".1.2",
            ".99999999999999999999",
            "12",
            &deep,
        ] {
            assert_eq!(EventId::parse(&format!("{stream}{tail}")), None, "{tail}");
        }
    }
}
