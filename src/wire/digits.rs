//! Numbers of which a JSON value would lose digits: integers beyond 64 bits, and fractions that are longer
//! than a float. In values strings stand for them; in the text of a request they have their digits again.

use std::borrow::Cow;
use std::sync::OnceLock;

use memchr::memmem;

/// The most significant digits that a float always keeps.
const FLOAT_DIGITS: usize = 15;

/// The beginning of a string that stands for a number, in the form in which JSON writes it. It is random, so
/// that no text of a client is taken for a number.
static MARK: OnceLock<String> = OnceLock::new();

fn mark() -> &'static str {
    MARK.get_or_init(|| format!("\"\\u0001{:032x}:", rand::random::<u128>()))
}

/// JSON with strings in place of numbers that would lose digits. What is not JSON stays as it is.
pub(super) fn protect(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut protected = String::new();
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'-' | b'0'..=b'9' if !in_string => {
                let rest = &bytes[at..];
                let is_part = |c: &u8| c.is_ascii_digit() || b"+-.eE".contains(c);
                let length = rest.iter().position(|c| !is_part(c)).unwrap_or(rest.len());
                let number = &json[at..at + length];
                if loses_digits(number) {
                    protected.push_str(&json[copied..at]);
                    protected.push_str(mark());
                    protected.push_str(number);
                    protected.push('"');
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    protected.push_str(&json[copied..]);
    Cow::Owned(protected)
}

/// The text of a request with the numbers that strings stand for.
pub fn restore(json: Vec<u8>) -> Vec<u8> {
    let Some(mark) = MARK.get() else {
        return json;
    };
    let finder = memmem::Finder::new(mark);
    if finder.find(&json).is_none() {
        return json;
    }
    let mut restored = Vec::with_capacity(json.len());
    let mut rest = &json[..];
    while let Some(at) = finder.find(rest) {
        restored.extend_from_slice(&rest[..at]);
        rest = &rest[at + mark.len()..];
        let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        restored.extend_from_slice(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    restored.extend_from_slice(rest);
    restored
}

fn loses_digits(number: &str) -> bool {
    // Shorter ones fit.
    if number.len() <= FLOAT_DIGITS {
        return false;
    }
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_err() && number.parse::<u64>().is_err();
    }
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    digits.skip_while(|digit| *digit == b'0').count() > FLOAT_DIGITS
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sent(json: &str) -> String {
        let value: Value = serde_json::from_str(&protect(json)).unwrap();
        String::from_utf8(restore(value.to_string().into_bytes())).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits() {
        for json in [
            r#"{"a":123456789012345678901234567890,"b":-99999999999999999999}"#,
            r#"[18446744073709551615,18446744073709551616,-9223372036854775808]"#,
            r#"{"x":0.1234567890123456789,"y":[1.5,1e+300,3.0000000000000000001]}"#,
            "123456789012345678901234567890",
        ] {
            assert_eq!(sent(json), json);
        }
    }

    #[test]
    fn texts_are_no_numbers() {
        let json = r#"{"t":"99999999999999999999 \" 99999999999999999999","\\":"\\","n":1}"#;
        assert_eq!(protect(json), json);
        assert_eq!(sent(json), json);
        let text = r#"{"t":"\u00010123456789abcdef0123456789abcdef:7"}"#;
        assert_eq!(sent(text), text);
        for broken in ["", "{", "\"", "-", "1e", "\"\\"] {
            assert_eq!(protect(broken), broken);
        }
    }
}
