//! Frames that are no JSON as their wire wants it, but can be read all the same.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::framing::surrogate;

/// How many frames in a row may be skipped.
pub(super) const MAX_SKIPPED: u32 = 16;

/// Whether a frame's data may be left out: it is no JSON object or list and no page, such as a
/// keep-alive.
pub(super) fn is_skippable(data: &str) -> bool {
    let data = data.trim_ascii();
    let is_list = data.starts_with('[') && data.contains(['{', '"']);
    !is_list && !data.starts_with(['{', '<'])
}

/// The JSON texts of a frame of several lines that is one JSON text a line: some servers leave out
/// the blank line between two events.
pub(super) fn json_lines(data: &str) -> Option<Vec<&str>> {
    let lines = || data.lines().filter(|line| !line.trim_ascii().is_empty());
    let is_json = |line: &str| {
        line.trim_ascii() == "[DONE]" || serde_json::from_str::<IgnoredAny>(line).is_ok()
    };
    (lines().nth(1).is_some() && lines().all(is_json)).then(|| lines().collect())
}

/// `data` as JSON that every reader takes: without halves of surrogate pairs, with `null` for numbers
/// that are not finite (as Python writes them), and with the last one of duplicate keys. `None` where it
/// is no JSON even so.
pub(super) fn repair(data: &str) -> Option<String> {
    let whole = surrogate::repair(data).map_or(Cow::Borrowed(data), Cow::Owned);
    let finite = finite(&whole);
    let value: Value = serde_json::from_str(finite.as_deref().unwrap_or(&whole)).ok()?;
    Some(value.to_string())
}

/// `json` with `null` for `NaN`, `Infinity` and `-Infinity` outside of strings; `None` without any.
fn finite(json: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut out = String::new();
    let (mut copied, mut at, mut string) = (0, 0, false);
    let bytes = json.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        if string {
            match byte {
                b'\\' => at += 1,
                b'"' => string = false,
                _ => {}
            }
        } else if byte == b'"' {
            string = true;
        } else if let Some(word) = WORDS
            .iter()
            .find(|word| bytes[at..].starts_with(word.as_bytes()))
        {
            out.push_str(&json[copied..at]);
            out.push_str("null");
            at += word.len();
            copied = at;
            continue;
        }
        at += 1;
    }
    (copied > 0).then(|| out + &json[copied..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_and_careless_servers_write_becomes_json() {
        for (data, repaired) in [
            (
                r#"{"a":-Infinity,"b":[NaN,Infinity]}"#,
                Some(r#"{"a":null,"b":[null,null]}"#),
            ),
            (
                r#"{"a":"NaN \" -Infinity","b":NaN}"#,
                Some(r#"{"a":"NaN \" -Infinity","b":null}"#),
            ),
            (r#"{"a":1,"a":2}"#, Some(r#"{"a":2}"#)),
            (r#"{"a":"\ud83d"}"#, Some("{\"a\":\"\u{fffd}\"}")),
            (r#"{"a":1"#, None),
            (r#"{"a":nope}"#, None),
            ("{\"a\":\"\\", None),
        ] {
            assert_eq!(repair(data).as_deref(), repaired, "{data}");
        }
    }

    #[test]
    fn lines_are_texts_only_if_all_of_them_are() {
        assert_eq!(json_lines("{}\n[DONE]"), Some(vec!["{}", "[DONE]"]));
        assert_eq!(json_lines("{\"a\":1}\n\n{}"), Some(vec!["{\"a\":1}", "{}"]));
        assert_eq!(json_lines("{}"), None);
        assert_eq!(json_lines("{\n}"), None);
        assert_eq!(json_lines("{}\n{"), None);
    }

    #[test]
    fn only_what_is_no_object_and_no_list_may_be_skipped() {
        for data in [": keepalive", "ping", "", "\"x\"", "[DONE]", "12"] {
            assert!(is_skippable(data), "{data}");
        }
        for data in ["{", " {\"a\":1}", "[{\"a\":1}]", "[\"a\"", "<html>"] {
            assert!(!is_skippable(data), "{data}");
        }
    }
}
