//! Recognises one JSON text that arrives in pieces, without keeping it.

/// How deep objects and lists may nest: as deep as this gateway's own JSON reader goes.
const MAX_DEPTH: u32 = 127;

/// The state of a reader of one JSON text (RFC 8259).
#[derive(Debug, Clone, Default)]
pub struct JsonText {
    state: State,
    depth: u32,
    /// One bit for each open level, the innermost lowest: set for an object.
    objects: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nothing but white space came.
    #[default]
    Empty,
    Value,
    FirstItem,
    FirstKey,
    Key,
    Colon,
    AfterValue,
    /// In a string; `true` in a key.
    String(bool),
    Escape(bool),
    /// How many hexadecimal digits are still missing.
    Unicode(bool, u8),
    /// The rest of `true`, `false` or `null`.
    Literal(&'static [u8]),
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Invalid,
}

impl JsonText {
    /// Reads the next piece.
    pub fn push(&mut self, piece: &str) {
        for &byte in piece.as_bytes() {
            self.read(byte);
        }
    }

    /// Whether nothing but white space came.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether what came is one whole JSON text.
    pub fn is_complete(&self) -> bool {
        self.depth == 0
            && matches!(
                self.state,
                State::AfterValue
                    | State::Zero
                    | State::Integer
                    | State::Fraction
                    | State::ExponentDigits
            )
    }

    /// Whether a text has begun that may still become whole.
    pub fn is_open(&self) -> bool {
        !self.is_empty() && !self.is_complete() && self.state != State::Invalid
    }

    fn read(&mut self, byte: u8) {
        self.state = match self.state {
            State::String(key) => match byte {
                b'"' if key => State::Colon,
                b'"' => State::AfterValue,
                b'\\' => State::Escape(key),
                0..0x20 => State::Invalid,
                _ => return,
            },
            State::Escape(key) => match byte {
                b'u' => State::Unicode(key, 4),
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::String(key),
                _ => State::Invalid,
            },
            State::Unicode(key, left) if byte.is_ascii_hexdigit() => match left {
                1 => State::String(key),
                left => State::Unicode(key, left - 1),
            },
            State::Literal([first, rest @ ..]) if byte == *first => match rest {
                [] => State::AfterValue,
                rest => State::Literal(rest),
            },
            state => self.between(state, byte),
        };
    }

    /// A byte outside of strings and literals.
    fn between(&mut self, state: State, byte: u8) -> State {
        let digit = byte.is_ascii_digit();
        match state {
            State::Minus if byte == b'0' => return State::Zero,
            State::Minus | State::Integer if digit => return State::Integer,
            State::Point | State::Fraction if digit => return State::Fraction,
            State::Exponent if matches!(byte, b'+' | b'-') => return State::ExponentSign,
            State::Exponent | State::ExponentSign | State::ExponentDigits if digit => {
                return State::ExponentDigits;
            }
            State::Zero | State::Integer if byte == b'.' => return State::Point,
            State::Zero | State::Integer | State::Fraction if matches!(byte, b'e' | b'E') => {
                return State::Exponent;
            }
            _ => {}
        }
        let after_value = matches!(
            state,
            State::AfterValue
                | State::Zero
                | State::Integer
                | State::Fraction
                | State::ExponentDigits
        );
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return match state {
                _ if after_value => State::AfterValue,
                State::Empty
                | State::Value
                | State::FirstItem
                | State::FirstKey
                | State::Key
                | State::Colon => state,
                _ => State::Invalid,
            };
        }
        match (state, byte) {
            (State::Empty | State::Value | State::FirstItem, byte) if byte != b']' => {
                self.begin(byte)
            }
            (State::FirstItem, b']') => self.close(false),
            (State::FirstKey | State::Key, b'"') => State::String(true),
            (State::FirstKey, b'}') => self.close(true),
            (State::Colon, b':') => State::Value,
            (_, b',') if after_value && self.depth > 0 => {
                if self.objects & 1 == 1 {
                    State::Key
                } else {
                    State::Value
                }
            }
            (_, b'}') if after_value => self.close(true),
            (_, b']') if after_value => self.close(false),
            _ => State::Invalid,
        }
    }

    fn begin(&mut self, byte: u8) -> State {
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => State::String(false),
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Integer,
            _ => State::Invalid,
        }
    }

    fn open(&mut self, object: bool) -> State {
        if self.depth == MAX_DEPTH {
            return State::Invalid;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        if object {
            State::FirstKey
        } else {
            State::FirstItem
        }
    }

    fn close(&mut self, object: bool) -> State {
        if self.depth == 0 || (self.objects & 1 == 1) != object {
            return State::Invalid;
        }
        self.depth -= 1;
        self.objects >>= 1;
        State::AfterValue
    }
}

#[cfg(test)]
mod tests {
    use super::JsonText;

    fn read(pieces: &[&str]) -> JsonText {
        let mut text = JsonText::default();
        for piece in pieces {
            text.push(piece);
        }
        text
    }

    #[test]
    fn it_agrees_with_a_json_reader_on_whole_texts() {
        for json in [
            "{}",
            "[]",
            " { \"a\" : [ 1 , -2.5e+3 , 0 , \"\\u00e9\\\"\" , null ] } ",
            "true",
            "\"x\"",
            "12",
            "-0.5",
            "1e9",
            "{\"a\":{\"b\":[[],{}]}}",
            "",
            " ",
            "{",
            "}",
            "[}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[,1]",
            "01",
            "1.",
            ".5",
            "1e",
            "-",
            "{}{}",
            "{} x",
            "tru",
            "nul l",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\tb\"",
            "{a:1}",
            "{'a':1}",
            "NaN",
        ] {
            let valid = serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok();
            assert_eq!(read(&[json]).is_complete(), valid, "{json}");
            for at in 0..=json.len() {
                let (head, tail) = json.split_at(at);
                assert_eq!(read(&[head, tail]).is_complete(), valid, "{json} at {at}");
            }
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&[&deep(127)]).is_complete());
        assert!(!read(&[&deep(200)]).is_complete());
    }

    #[test]
    fn an_open_text_is_neither_empty_nor_whole_nor_wrong() {
        assert!(read(&["{\"a\":"]).is_open());
        assert!(!read(&[" "]).is_open());
        assert!(!read(&["{}"]).is_open());
        assert!(!read(&["{]"]).is_open());
    }
}
