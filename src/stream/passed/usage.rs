//! Finds the usage in an answer that passes by.

use serde_json::Value;

use crate::model::Usage;

/// The member that is looked for.
const MEMBER: &[u8] = b"usage";
/// The longest value that is kept, in bytes.
const MAX_VALUE: usize = 16 * 1024;

/// Finds the usage in a JSON document that arrives in pieces, without keeping the document: the top
/// level's member of that name.
#[derive(Debug, Default)]
pub(super) struct UsageScanner {
    depth: u64,
    state: State,
    /// Whether the next string at the top level is a member's name.
    before_name: bool,
    /// The name that is being read, cut to what tells it from the one that is looked for.
    name: Vec<u8>,
    value: Vec<u8>,
    /// Whether `value` is being read.
    in_value: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    String,
    Name,
    Escape,
    EscapeInName,
}

impl UsageScanner {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == State::String && !self.in_value {
                // Nothing within this string matters.
                let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                if end > 0 {
                    rest = &rest[end..];
                    continue;
                }
            }
            self.step(byte);
            rest = after;
        }
    }

    fn step(&mut self, byte: u8) {
        let ends_value = self.state == State::Outside
            && match byte {
                b',' => self.depth == 1,
                b'}' => self.depth <= 1,
                _ => false,
            };
        if self.in_value && (ends_value || self.value.len() == MAX_VALUE) {
            self.in_value = false;
        }
        if self.in_value {
            self.value.push(byte);
        }
        match self.state {
            State::Escape => self.state = State::String,
            State::EscapeInName => self.state = State::Name,
            State::String if byte == b'\\' => self.state = State::Escape,
            State::Name if byte == b'\\' => {
                self.name.push(byte);
                self.state = State::EscapeInName;
            }
            State::String | State::Name if byte == b'"' => self.state = State::Outside,
            State::Name if self.name.len() <= MEMBER.len() => self.name.push(byte),
            State::String | State::Name => {}
            State::Outside => self.step_outside(byte),
        }
    }

    fn step_outside(&mut self, byte: u8) {
        match byte {
            b'"' if self.depth == 1 && self.before_name => {
                self.name.clear();
                self.state = State::Name;
            }
            b'"' => self.state = State::String,
            b'{' | b'[' => {
                self.depth += 1;
                self.before_name = self.depth == 1 && byte == b'{';
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 1 => self.before_name = true,
            b':' if self.depth == 1 => {
                self.before_name = false;
                if self.name == MEMBER {
                    self.value.clear();
                    self.in_value = true;
                }
            }
            _ => {}
        }
    }

    /// The usage in what was read.
    pub(super) fn usage(&self) -> Option<Usage> {
        parse_usage(&serde_json::from_slice(&self.value).ok()?)
    }
}

/// A usage in one of OpenAI's two forms. Where only a total is given, all of it is input.
pub(super) fn parse_usage(usage: &Value) -> Option<Usage> {
    let count = |names: &[&str]| names.iter().find_map(|name| usage.get(name)?.as_u64());
    let usage = Usage {
        input: count(&["prompt_tokens", "input_tokens", "total_tokens"]),
        output: count(&["completion_tokens", "output_tokens"]),
        ..Usage::default()
    };
    (usage != Usage::default()).then_some(usage)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Documents with the member at every level, and with strings that look like parts of one.
    fn documents() -> impl Strategy<Value = Value> {
        let name = prop_oneof![Just("usage"), Just("x"), Just("\"usage"), Just("us\\")];
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!("{\"usage\":{\"total_tokens\":1}}")),
            Just(json!("\\")),
            Just(json!("],}\"")),
            (0..9_u64).prop_map(|count| json!({"prompt_tokens": count, "total_tokens": 9})),
            (0..9_u64).prop_map(|count| json!({"completion_tokens": count})),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            let members = prop::collection::vec((name.clone(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
                members.prop_map(|members| {
                    let members = members.into_iter();
                    Value::Object(
                        members
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect(),
                    )
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_scanner_finds_what_a_parser_finds(document in documents(), step in 1..40_usize, pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&document).unwrap()
            } else {
                document.to_string()
            };
            let mut scanner = UsageScanner::default();
            for piece in text.as_bytes().chunks(step) {
                scanner.push(piece);
            }
            let expected = document.get("usage").and_then(parse_usage);
            prop_assert_eq!(scanner.usage(), expected, "{}", text);
        }
    }

    fn scan(document: &str, step: usize) -> Option<(Option<u64>, Option<u64>)> {
        let mut scanner = UsageScanner::default();
        for piece in document.as_bytes().chunks(step) {
            scanner.push(piece);
        }
        let usage = scanner.usage()?;
        Some((usage.input, usage.output))
    }

    #[test]
    fn the_usage_of_the_top_level_is_found_in_any_pieces() {
        for (document, expected) in [
            (
                r#"{"data":[{"embedding":[0.1,-2],"usage":{"prompt_tokens":9}}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
                Some((Some(8), None)),
            ),
            (
                r#"{"usage" : {"input_tokens":1,"d":{"a":[1,2]},"output_tokens":2} ,"x":"\"usage\":{"}"#,
                Some((Some(1), Some(2))),
            ),
            (
                r#"{"text":"\\\",\"usage\":{}","usage":{"total_tokens":5}}"#,
                Some((Some(5), None)),
            ),
            (
                r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}"#,
                Some((Some(2), None)),
            ),
            (r#"{"x":"usage","usages":{"prompt_tokens":1}}"#, None),
            (r#"{"x":"usage":{"prompt_tokens":1}}"#, None),
            (r#"[{"usage":{"prompt_tokens":1}}]"#, None),
            (r#"{"usage":null}"#, None),
            (r#"{"usage":"#, None),
            ("", None),
            ("}}]],\"usage\":", None),
        ] {
            for step in 1..=document.len().max(1) {
                assert_eq!(scan(document, step), expected, "{document} by {step}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut scanner = UsageScanner::default();
        scanner.push(br#"{"usage":{"x":""#);
        for _ in 0..100 {
            scanner.push(&[b'a'; 1024]);
        }
        assert!(scanner.value.len() <= MAX_VALUE);
        scanner.push(br#""},"usage":{"total_tokens":3}}"#);
        assert_eq!(scanner.usage().and_then(|usage| usage.input), Some(3));
    }
}
