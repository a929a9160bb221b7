//! Lone surrogates in JSON text: `\ud83d` without its `\ude00`. RFC 8259 (section 8.2) gives them
//! no meaning and JSON parsers refuse them, like bytes that are not UTF-8.

/// Replaces every lone surrogate escape in `json` by the escape of U+FFFD. `None` if there is none.
/// Text that is not JSON is left as it is.
pub fn repair(json: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        at += found;
        match (utf16_unit(json, at), utf16_unit(json, at + ESCAPE_LENGTH)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => at += 2 * ESCAPE_LENGTH,
            (Some(0xD800..0xE000), _) => {
                out.push_str(&json[copied..at]);
                out.push_str("\\ufffd");
                at += ESCAPE_LENGTH;
                copied = at;
            }
            // Skip the backslash and the character that it escapes, which may be a backslash.
            _ => at = (at + 2).min(json.len()),
        }
    }
    (copied > 0).then(|| out + &json[copied..])
}

/// The length of `\u0000`.
const ESCAPE_LENGTH: usize = 6;

/// The UTF-16 code unit that the escape at `at` stands for.
fn utf16_unit(json: &str, at: usize) -> Option<u16> {
    let escape = json.get(at..at + ESCAPE_LENGTH)?;
    let digits = escape.strip_prefix("\\u")?;
    let hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)
}

#[cfg(test)]
mod tests {
    use super::repair;

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_stay() {
        for (json, expected) in [
            (r#""\ud83d""#, Some(r#""\ufffd""#)),
            (r#""\uDE00 a""#, Some(r#""\ufffd a""#)),
            (r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#)),
            (r#""\ude00\ud83d""#, Some(r#""\ufffd\ufffd""#)),
            (r#""é\ud83d\n\ude00流""#, Some(r#""é\ufffd\n\ufffd流""#)),
            (r#""\ud83d\ude00""#, None),
            (r#""\\ud83d""#, None),
            (r#""\\\ud83d""#, Some(r#""\\\ufffd""#)),
            (r#""\u00e9 \n""#, None),
            (r"\u+83d", None),
            (r"\ud83", None),
            (r"\流", None),
            ("\\", None),
            ("", None),
        ] {
            assert_eq!(repair(json).as_deref(), expected, "{json}");
        }
    }
}
