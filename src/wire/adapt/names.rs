//! Names of tools and ids of calls that fit an API.

use std::borrow::Cow;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::wire::limits::NameLimit;

/// The tools whose names were changed: from the changed name to the client's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolNames(HashMap<String, String>);

impl ToolNames {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The client's name of a tool that the model calls.
    pub fn restore<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }

    /// The name for the API, which is remembered if it differs.
    pub(super) fn change(&mut self, name: &mut String, limit: NameLimit) -> bool {
        let Cow::Owned(changed) = fit(name, limit) else {
            return false;
        };
        let client = std::mem::replace(name, changed.clone());
        self.0.insert(changed, client);
        true
    }
}

/// How many characters of its hash a changed name ends in.
const HASH_LENGTH: usize = 8;

/// The name if the API accepts it, or one like it. A changed name ends in a part of its hash, so that
/// different names stay different and the same name is always changed in the same way: a call and its
/// result keep the same id.
pub(super) fn fit(name: &str, limit: NameLimit) -> Cow<'_, str> {
    if limit.accepts(name) {
        return Cow::Borrowed(name);
    }
    let hash = hash(name);
    let room = limit.max.saturating_sub(HASH_LENGTH + 1);
    if room < HASH_LENGTH {
        return Cow::Owned(hash.chars().cycle().take(limit.max).collect());
    }
    let mut fitted = String::new();
    if limit.begins_with_letter && !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        fitted.push('_');
    }
    let allowed = |c| if limit.is_allowed(c) { c } else { '_' };
    // Replaced characters are ASCII; others may be longer than a byte if all are allowed.
    for c in name.chars().map(allowed) {
        if fitted.len() + c.len_utf8() > room {
            break;
        }
        fitted.push(c);
    }
    fitted.push('_');
    fitted.extend(hash.chars().take(HASH_LENGTH));
    Cow::Owned(fitted)
}

/// Letters and digits only, which every API accepts.
pub(super) fn hash(text: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(text.as_bytes());
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(byte % 32)]);
    digest.iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS_ONLY: NameLimit = NameLimit {
        min: 9,
        max: 9,
        others: Some(""),
        begins_with_letter: false,
    };

    #[test]
    fn accepted_names_stay_as_they_are() {
        for name in ["call_1", "toolu-A9", &"a".repeat(64)] {
            assert_eq!(fit(name, NameLimit::word(64)), Cow::Borrowed(name));
        }
        assert_eq!(fit("abcDEF123", LETTERS_ONLY), "abcDEF123");
        assert_eq!(fit("anything: ä", NameLimit::NONE), "anything: ä");
    }

    #[test]
    fn changed_names_fit_and_stay_different() {
        let long = "b".repeat(65);
        let names = ["functions.f:0", "functions_f:0", "", "ä", &long, "call_1"];
        for limit in [NameLimit::word(64), NameLimit::word(40), LETTERS_ONLY] {
            let fitted: Vec<_> = names.iter().map(|name| fit(name, limit)).collect();
            for (at, name) in fitted.iter().enumerate() {
                assert!(limit.accepts(name), "{name}");
                assert!(!fitted[..at].contains(name), "{name}");
                assert_eq!(fit(name, limit), *name, "already fits");
            }
        }
        assert!(fit("functions.f:0", NameLimit::word(64)).starts_with("functions_f_0_"));
    }

    #[test]
    fn a_name_begins_with_a_letter_where_the_api_requires_it() {
        let limit = NameLimit {
            begins_with_letter: true,
            ..NameLimit::word(64)
        };
        assert!(limit.accepts(&fit("1st", limit)));
        assert_eq!(fit("_first", limit), "_first");
    }

    #[test]
    fn the_client_gets_its_own_name_back() {
        let mut names = ToolNames::default();
        let mut name = "mcp__".to_owned() + &"x".repeat(80);
        let client = name.clone();
        assert!(names.change(&mut name, NameLimit::word(64)));
        assert_eq!(names.restore(&name), client);
        assert_eq!(names.restore("other"), "other");
    }
}
