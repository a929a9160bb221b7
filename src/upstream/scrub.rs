//! Keeps credentials out of messages: vendors quote the key that they refuse.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};

/// The longest message of an upstream that is passed on, in bytes.
const LONGEST: usize = 2048;

/// How keys and tokens of the well-known vendors begin.
const PREFIXES: [&str; 12] = [
    "sk-", "sk_", "gsk_", "xai-", "hf_", "nvapi-", "pplx-", "AIza", "AKIA", "ASIA", "Bearer ",
    "csk-",
];

const HIDDEN: &str = "[redacted]";

/// `message` without `secret`, without anything that looks like a key, and not too long.
pub(super) fn scrubbed(message: &str, secret: Option<&SecretString>) -> String {
    let mut text = Cow::Borrowed(message);
    if let Some(secret) = secret.map(ExposeSecret::expose_secret)
        && !secret.is_empty()
        && text.contains(secret)
    {
        text = text.replace(secret, HIDDEN).into();
    }
    let mut out = String::with_capacity(text.len().min(LONGEST));
    let mut rest = &*text;
    while let Some((at, prefix)) = first_prefix(rest) {
        out.push_str(&rest[..at]);
        let tail = &rest[at + prefix.len()..];
        let end = tail
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-_*.…+/=".contains(c)))
            .unwrap_or(tail.len());
        // A word such as `sk-learn` is no key; keys that vendors quote in part have stars or dots.
        let key = &tail[..end];
        if key.len() >= 8 || key.contains('*') {
            out.push_str(HIDDEN);
        } else {
            out.push_str(prefix);
            out.push_str(key);
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    if out.len() > LONGEST {
        out.truncate(out.floor_char_boundary(LONGEST));
        out.push('…');
    }
    out
}

/// The first place where a key may begin: at a prefix that does not stand inside a word.
fn first_prefix(text: &str) -> Option<(usize, &'static str)> {
    PREFIXES
        .iter()
        .filter_map(|prefix| {
            text.match_indices(prefix)
                .find(|(at, _)| {
                    !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                })
                .map(|(at, _)| (at, *prefix))
        })
        .min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_never_stays() {
        let secret = SecretString::from("plain-own-secret");
        for (message, scrub) in [
            ("key plain-own-secret is bad", "key [redacted] is bad"),
            (
                "Incorrect API key provided: sk-proj-abc****wxyz. Find yours",
                "Incorrect API key provided: [redacted] Find yours",
            ),
            ("sk-ab*cd", "[redacted]"),
            (
                "header 'Bearer abcdefghijk' refused",
                "header '[redacted]' refused",
            ),
            ("use sk-learn or task-force", "use sk-learn or task-force"),
            (
                "AIzaSyA1234567890 twice AIzaSyA1234567890",
                "[redacted] twice [redacted]",
            ),
        ] {
            assert_eq!(scrubbed(message, Some(&secret)), scrub);
        }
    }

    #[test]
    fn a_message_is_bounded_and_stays_text() {
        let long = "é".repeat(5000);
        let short = scrubbed(&long, None);
        assert!(short.len() <= LONGEST + '…'.len_utf8());
        assert!(long.starts_with(short.trim_end_matches('…')));
    }
}
