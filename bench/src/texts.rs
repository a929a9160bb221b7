//! What varies from token to token: its text, and what its wire adds to it.

use super::{DIGITS, Kind};

/// A prime, so that no period of a workload is a multiple of it, and all that is rare comes at least once.
const CYCLE: u64 = 67;
const LETTERS: &str = "k3QxV9bTz0LmRw7JhYc5GpNf2DsUa8EoXi1KvBq4WtZ6yCnMrPgFjHl";

/// One token's parts.
pub struct Part {
    /// `@`, digits to write over, and the rest, escaped as in JSON.
    pub text: String,
    /// The padding against guesses of a text from its message's length.
    pub fill: String,
    /// The number of the token, from 1 on.
    pub number: u64,
    /// The fraction of a second in which it was made.
    pub created: String,
}

impl Part {
    /// The text after the digits.
    pub fn rest(&self) -> &str {
        &self.text[1 + DIGITS..]
    }
}

/// The tokens of an answer, which repeat in this order.
pub fn parts(wire: &str, kind: Kind) -> Vec<Part> {
    match kind {
        Kind::Alike => vec![Part {
            text: stamped(""),
            fill: match wire {
                "openai-chat" => String::new(),
                "bedrock-converse" => "abcdefghijklmnopqrstuvwxyz".to_owned(),
                _ => "xxxxxxxx".to_owned(),
            },
            number: 1,
            created: "037417".to_owned(),
        }],
        Kind::Prose => (0..CYCLE).map(prose).collect(),
    }
}

/// A token as models write them: words of 1 to 12 bytes; now and then a quote, a new paragraph, a
/// character outside of ASCII, and an escape that need not be one.
fn prose(number: u64) -> Part {
    // Any numbers will do that are always the same ones and have no pattern.
    let random = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let below = |most: u64, shift: u32| (random >> shift) % most;
    let word = &" a lock turns"[..1 + below(12, 40) as usize];
    let rest = match number {
        23 => format!("{word}\\u00e9"),
        _ => match number % 16 {
            2 => format!("\\\"{word}"),
            6 => format!("{word}\u{e9}"),
            9 => format!("\u{6f22}{word}"),
            11 => format!("{word}\\n\\n"),
            13 => format!("{word}\u{1f600}"),
            _ => word.to_owned(),
        },
    };
    let from = below(LETTERS.len() as u64 / 2, 20) as usize;
    Part {
        text: stamped(&rest),
        fill: LETTERS[from..from + 1 + below(16, 48) as usize].to_owned(),
        number: number + 1,
        created: format!("{:06}", below(1_000_000, 10)),
    }
}

/// A text without a time.
pub fn stamped(rest: &str) -> String {
    format!("@{}{rest}", "0".repeat(DIGITS))
}
