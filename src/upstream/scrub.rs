//! Removes credentials and account ids from messages. Vendors quote the key that they refuse and
//! the account whose limit was reached.

use std::ops::Range;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::account_ids::find_account_ids;
use crate::model::{Error, ErrorCode};

/// Longer messages of an upstream are cut, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;

/// Shorter secrets are only removed as whole words, in bytes.
const MIN_PART_LENGTH: usize = 8;

/// Prefixes of the keys and tokens of well-known vendors.
const KEY_PREFIXES: [&str; 22] = [
    "sk-",
    "sk_",
    "gsk_",
    "xai-",
    "hf_",
    "nvapi-",
    "pplx-",
    "AIza",
    "AKIA",
    "ASIA",
    "Bearer ",
    "csk-",
    "eyJ",
    "ABSK",
    "bedrock-api-key-",
    "fw_",
    "ghp_",
    "gho_",
    "github_pat_",
    "r8_",
    "tgp_",
    "ya29.",
];

const REDACTED: &str = "[redacted]";

/// `message` without `secrets`, without anything that looks like a key or an account id, and cut to
/// a bounded length.
pub(super) fn scrub(message: &str, secrets: &[SecretString]) -> String {
    let mut out = String::with_capacity(message.len().min(MAX_MESSAGE_BYTES));
    let mut kept = 0;
    for hidden in find_private(message, secrets) {
        if hidden.start >= kept {
            out.push_str(&message[kept..hidden.start]);
            out.push_str(REDACTED);
        }
        kept = kept.max(hidden.end);
    }
    out.push_str(&message[kept..]);
    if out.len() > MAX_MESSAGE_BYTES {
        out.truncate(out.floor_char_boundary(MAX_MESSAGE_BYTES));
        out.push('…');
    }
    out
}

/// `text` with every byte of `secrets`, of what looks like a key and of account ids replaced by
/// `x`, so that its length stays the same. A number is replaced by ones, so that JSON stays valid.
pub fn mask(text: &str, secrets: &[SecretString]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut kept = 0;
    for hidden in find_private(text, secrets) {
        let hidden = hidden.start.max(kept)..hidden.end.max(kept);
        out.push_str(&text[kept..hidden.start]);
        let number = text[hidden.clone()]
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        let mask = if number { '1' } else { 'x' };
        out.extend(std::iter::repeat_n(mask, hidden.len()));
        kept = hidden.end;
    }
    out.push_str(&text[kept..]);
    out
}

/// A header value that `Debug` does not print.
///
/// # Errors
/// [`ErrorCode::Internal`] if `text` cannot be a header value.
pub(super) fn sensitive_value(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::new(
            ErrorCode::Internal,
            "the upstream's credential cannot be sent in a header",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The ranges of credentials and account ids in `text`, sorted; they may overlap.
fn find_private(text: &str, secrets: &[SecretString]) -> Vec<Range<usize>> {
    let mut found = find_credentials(text, secrets);
    found.extend(find_account_ids(text));
    found.extend(find_starred(text));
    found.sort_by_key(|hidden| hidden.start);
    found
}

/// The ranges of credentials in `text`, in order and without overlap.
fn find_credentials(text: &str, secrets: &[SecretString]) -> Vec<Range<usize>> {
    let secrets = secrets.iter().map(ExposeSecret::expose_secret);
    let secrets: Vec<&str> = secrets.filter(|secret| !secret.is_empty()).collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut inside_word = false;
    for (at, character) in text.char_indices() {
        let rest = &text[at..];
        let begins = !std::mem::replace(
            &mut inside_word,
            character.is_ascii_alphanumeric() || character == '_',
        );
        if found.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let quoted = secrets.iter().filter(|secret| is_at(secret, text, at));
        let length = if let Some(longest) = quoted.map(|secret| secret.len()).max() {
            longest
        } else if begins {
            key_length(rest)
        } else {
            0
        };
        if length > 0 {
            found.push(at..at + length);
        }
    }
    found
}

/// Whether `secret` is at `at`. A short one counts only as a whole word: a dummy key such as `x`
/// is part of unrelated words.
fn is_at(secret: &str, text: &str, at: usize) -> bool {
    let Some(after) = text[at..].strip_prefix(secret) else {
        return false;
    };
    let is_word = |c: char| c.is_alphanumeric() || "-_".contains(c);
    secret.len() >= MIN_PART_LENGTH
        || !(text[..at].ends_with(is_word) || after.starts_with(is_word))
}

/// The length of the key at the beginning of `text`, or 0. A word such as `sk-learn` is not a key;
/// a key that a vendor quotes in part contains stars.
fn key_length(text: &str) -> usize {
    let Some(prefix) = KEY_PREFIXES
        .iter()
        .find(|prefix| text.starts_with(**prefix))
    else {
        return 0;
    };
    let tail = &text[prefix.len()..];
    let end = tail
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-_*.…+/=".contains(c)))
        .unwrap_or(tail.len());
    let key = &tail[..end];
    if key.len() >= 8 || key.contains('*') {
        prefix.len() + end
    } else {
        0
    }
}

/// The ranges of words that are partly replaced by stars, which is how vendors quote the key that
/// they refuse.
fn find_starred(text: &str) -> Vec<Range<usize>> {
    let ends = |c: char| c.is_whitespace() || "\"'`,;:<>()".contains(c);
    let mut found = Vec::new();
    let mut at = 0;
    for piece in text.split_inclusive(ends) {
        let word = piece.trim_end_matches(ends);
        if word.contains("***") && word.contains(|c: char| c.is_ascii_alphanumeric()) {
            found.push(at..at + word.len());
        }
        at += piece.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_removed() {
        let secrets = ["plain-own-secret", "plain-own"].map(SecretString::from);
        for (message, expected) in [
            ("key plain-own-secret is bad", "key [redacted] is bad"),
            ("plain-own, plain-owner", "[redacted], [redacted]er"),
            (
                "Incorrect API key provided: sk-proj-abc****wxyz. Find yours",
                "Incorrect API key provided: [redacted] Find yours",
            ),
            ("sk-ab*cd", "[redacted]"),
            (
                "your api key: ****-key is invalid",
                "your api key: [redacted] is invalid",
            ),
            (
                "provided: <not-a-r****key>. Find",
                "provided: <[redacted]>. Find",
            ),
            ("*** important ***", "*** important ***"),
            (
                "limit of org-abcdefghij0123456789: 7000",
                "limit of [redacted]: 7000",
            ),
            (
                "key sk-proj-***-user_abcdefghij0123456789",
                "key [redacted]",
            ),
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
            assert_eq!(scrub(message, &secrets), expected);
        }
    }

    #[test]
    fn a_short_secret_is_removed_only_as_a_whole_word() {
        let secrets = ["x", "test", "n-1"].map(SecretString::from);
        for (message, expected) in [
            ("The fixture was tested", "The fixture was tested"),
            ("key 'test' is bad", "key '[redacted]' is bad"),
            (
                "x: not a key; x-api-key",
                "[redacted]: not a key; x-api-key",
            ),
            ("n-1 and n-12, test_1", "[redacted] and n-12, test_1"),
        ] {
            assert_eq!(scrub(message, &secrets), expected);
        }
    }

    #[test]
    fn masking_keeps_the_length() {
        let secrets = [SecretString::from("own-secret")];
        let text = "é own-secret, sk-12345678 and sk-learn";
        let masked = mask(text, &secrets);
        assert_eq!(masked, "é xxxxxxxxxx, xxxxxxxxxxx and sk-learn");
        assert_eq!(masked.len(), text.len());
        let body = r#"{"account":123456789012,"of":"org-a1B2c3D4e5F6g7H8"}"#;
        let masked = r#"{"account":111111111111,"of":"xxxxxxxxxxxxxxxxxxxx"}"#;
        assert_eq!(mask(body, &[]), masked);
    }

    #[test]
    fn messages_are_cut_at_a_character() {
        let long = "é".repeat(5000);
        let short = scrub(&long, &[]);
        assert!(short.len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
        assert!(long.starts_with(short.trim_end_matches('…')));
    }
}
