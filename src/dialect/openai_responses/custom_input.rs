//! The input of a custom tool out of the arguments of the function that stands for it: the text in
//! `{"input":"…"}`, as it arrives.

use serde_json::{Map, Value};

use super::tools::INPUT;

/// Decodes the arguments of one call.
#[derive(Debug, Default)]
pub(super) struct InputDecoder {
    state: State,
    /// What was not decoded yet: the beginning of the object, or a part of an escape sequence.
    held: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the text.
    #[default]
    Beginning,
    Text,
    /// After the text.
    End,
    /// The arguments have another form: they are decoded at the end.
    Unexpected,
}

impl InputDecoder {
    /// Takes the next piece of the arguments and returns the next piece of the input.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let mut out = String::new();
        match self.state {
            State::End => {}
            State::Text => self.text(piece, &mut out),
            State::Beginning | State::Unexpected => {
                self.held.push_str(piece);
                if self.state == State::Beginning {
                    self.begin(&mut out);
                }
            }
        }
        out
    }

    /// What is left at the end of the arguments.
    pub(super) fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        match self.state {
            // A text that was cut, with half an escape sequence.
            State::Text | State::End => String::new(),
            State::Beginning | State::Unexpected => whole_input(held),
        }
    }

    fn begin(&mut self, out: &mut String) {
        let mut rest = self.held.as_str();
        for expected in ["{", INPUT, ":", "\""] {
            rest = rest.trim_ascii_start();
            let quoted = format!("\"{expected}\"");
            let expected = if expected == INPUT { &quoted } else { expected };
            match rest.strip_prefix(expected) {
                Some(after) => rest = after,
                None if expected.starts_with(rest) => return,
                None => {
                    self.state = State::Unexpected;
                    return;
                }
            }
        }
        self.state = State::Text;
        let text = rest.to_owned();
        self.held.clear();
        self.text(&text, out);
    }

    /// Decodes a piece of a JSON string. Raw control characters, which some models write, stay as they are.
    fn text(&mut self, piece: &str, out: &mut String) {
        for c in piece.chars() {
            match self.held.len() {
                // Only half a surrogate pair waits for more: the other half did not follow.
                HALF_PAIR if c != '\\' => self.replace_half(out),
                length if length == HALF_PAIR + 1 && c != 'u' => {
                    self.replace_half(out);
                    self.held.push('\\');
                }
                _ => {}
            }
            if self.held.is_empty() {
                match c {
                    '"' => {
                        self.state = State::End;
                        return;
                    }
                    '\\' => self.held.push(c),
                    c => out.push(c),
                }
                continue;
            }
            self.held.push(c);
            if let Some(decoded) = decode_escape(&self.held) {
                out.push_str(&decoded);
                self.held.clear();
            }
        }
    }

    fn replace_half(&mut self, out: &mut String) {
        self.held.clear();
        out.push(char::REPLACEMENT_CHARACTER);
    }
}

/// The length of the escape sequence of half a surrogate pair.
const HALF_PAIR: usize = "\\ud83d".len();

/// The text of an escape sequence (RFC 8259, section 7); none if it is incomplete. A wrong sequence stays
/// as it is.
fn decode_escape(escape: &str) -> Option<String> {
    let simple = match escape.as_bytes().get(1)? {
        b'n' => "\n",
        b't' => "\t",
        b'r' => "\r",
        b'b' => "\u{8}",
        b'f' => "\u{c}",
        b'"' => "\"",
        b'\\' => "\\",
        b'/' => "/",
        b'u' => return decode_units(escape),
        _ => escape,
    };
    Some(simple.to_owned())
}

/// The text of one or two sequences `\uXXXX`.
fn decode_units(escape: &str) -> Option<String> {
    // The second sequence begins.
    if escape.ends_with('\\') {
        return None;
    }
    let mut units = Vec::new();
    for digits in escape.split("\\u").skip(1) {
        if digits.chars().any(|c| !c.is_ascii_hexdigit()) {
            return Some(escape.to_owned());
        }
        if digits.len() < 4 {
            return None;
        }
        units.extend(u16::from_str_radix(digits, 16));
    }
    let is_half = matches!(units[..], [0xD800..0xDC00]);
    (!is_half).then(|| String::from_utf16_lossy(&units))
}

/// The input in arguments of another form than expected: the only text of an object, or else the
/// arguments themselves.
fn whole_input(arguments: String) -> String {
    match serde_json::from_str::<Value>(&arguments) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(members)) => only_text(&members).unwrap_or(arguments),
        _ => arguments,
    }
}

fn only_text(members: &Map<String, Value>) -> Option<String> {
    let named = members.get(INPUT).and_then(Value::as_str);
    let mut values = members.values();
    match (named, values.next(), values.next()) {
        (Some(text), _, _) => Some(text.to_owned()),
        (None, Some(Value::String(text)), None) => Some(text.clone()),
        (None, None, _) => Some(String::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The input if the arguments come in pieces of `size` characters.
    fn decode(arguments: &str, size: usize) -> String {
        let mut decoder = InputDecoder::default();
        let letters: Vec<char> = arguments.chars().collect();
        let pieces = letters
            .chunks(size)
            .map(|piece| piece.iter().collect::<String>());
        let mut input: String = pieces.map(|piece| decoder.push(&piece)).collect();
        input.push_str(&decoder.finish());
        input
    }

    #[test]
    fn the_input_is_the_same_however_the_arguments_are_cut() {
        let input = "*** Begin Patch\n\"\\\u{1f600}\tä\u{7}/ \\n *** End Patch";
        let escaped = r#""*** Begin Patch\n\"\\\ud83d\ude00\t\u00e4\u0007\/ \\n *** End Patch""#;
        let written = Value::from(input).to_string();
        for text in [escaped, &written] {
            for arguments in [
                format!("{{\"input\":{text}}}"),
                format!(" {{\n \"input\" : {text} }}\n"),
                format!("{{\"reason\":1,\"input\":{text}}}"),
                format!("{{\"patch\":{text}}}"),
                text.to_owned(),
                input.to_owned(),
            ] {
                for size in [1, 2, 3, 5, 1000] {
                    assert_eq!(decode(&arguments, size), input, "{arguments} by {size}");
                }
            }
        }
    }

    #[test]
    fn the_input_comes_before_the_arguments_are_complete() {
        let mut decoder = InputDecoder::default();
        assert_eq!(decoder.push("{\"inp"), "");
        assert_eq!(decoder.push("ut\":\"ab\\"), "ab");
        assert_eq!(decoder.push("nc"), "\nc");
        assert_eq!(decoder.push("\"}"), "");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_replacement_character() {
        for (arguments, input) in [
            (r#"{"input":"a\ud83db"}"#, "a\u{fffd}b"),
            (r#"{"input":"a\ud83d\n"}"#, "a\u{fffd}\n"),
            (r#"{"input":"a\ud83d"}"#, "a\u{fffd}"),
            (r#"{"input":"\ud83d\u0041"}"#, "\u{fffd}A"),
            (r#"{"input":"\u00zz"}"#, "\\u00zz"),
            (r#"{"input":"\udc00!"}"#, "\u{fffd}!"),
            (r#"{"input":"\q"}"#, "\\q"),
            (r#"{"input":"cut \u00"#, "cut "),
            ("{}", ""),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("", ""),
        ] {
            assert_eq!(decode(arguments, 1), input, "{arguments}");
        }
    }
}
