//! Finds account ids in an upstream's messages. They identify the operator, so clients must not see
//! them.

use std::ops::Range;

/// Prefixes of ids at vendors that use them: OpenAI, Groq, OpenRouter, and those in the style of
/// Stripe.
const ID_PREFIXES: [&str; 7] = ["org-", "org_", "proj_", "user-", "user_", "acct_", "team_"];

/// Labels before an id that has no prefix: `Team: 3f2a…`, `project_number:3487…`.
const LABELS: [&str; 13] = [
    "account",
    "customer",
    "key",
    "org",
    "organisation",
    "organization",
    "project",
    "project_number",
    "subscription",
    "team",
    "tenant",
    "user",
    "workspace",
];

/// The shortest id, in characters, that only its prefix or label distinguishes from other words.
const MIN_CODE_LENGTH: usize = 16;
const MIN_DIGITS: usize = 6;

/// The ranges of account ids in `text`, in order and without overlap.
pub(super) fn find_account_ids(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut inside_word = false;
    for (at, character) in text.char_indices() {
        let begins = !std::mem::replace(&mut inside_word, is_word(character));
        let behind = found.last().is_none_or(|last| at >= last.end);
        if begins
            && behind
            && let Some(id) = account_id(&text[at..])
        {
            found.push(at + id.start..at + id.end);
        }
    }
    found
}

/// The range of the account id at the beginning of `text`.
fn account_id(text: &str) -> Option<Range<usize>> {
    // Amazon's resource names contain the account number, and sometimes the user's name.
    if text.starts_with("arn:aws") {
        let end = text.find(|c: char| c.is_whitespace() || "\"'`,;)".contains(c));
        return Some(0..end.unwrap_or(text.len()));
    }
    // Google's resource names: `projects/NAME/locations/…`.
    if let Some(name) = text.strip_prefix("projects/") {
        let start = text.len() - name.len();
        let length = token_length(name);
        return (length > 0).then_some(start..start + length);
    }
    let marked = ID_PREFIXES.iter().find_map(|mark| {
        let length = alphanumeric_length(text.strip_prefix(mark)?);
        (length >= MIN_CODE_LENGTH).then_some(0..mark.len() + length)
    });
    marked.or_else(|| {
        LABELS.iter().find_map(|word| {
            let rest = strip_label(text, word)?;
            let start = text.len() - rest.len() + separator_length(rest)?;
            let length = token_length(&text[start..]);
            is_id(&text[start..start + length]).then_some(start..start + length)
        })
    })
}

/// The text after `word`, its plural or its genitive, if `text` begins with it (case is ignored).
fn strip_label<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let rest = rest.strip_prefix("'s").unwrap_or(rest);
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    head.eq_ignore_ascii_case(word).then_some(rest)
}

/// The length of the text between a label and its id: separators, and perhaps the word `ID`.
fn separator_length(text: &str) -> Option<usize> {
    let id = text.trim_start_matches(is_separator);
    if id.len() == text.len() {
        return None;
    }
    let named = strip_label(id, "id").map(|rest| rest.trim_start_matches(is_separator));
    let start = named.filter(|rest| rest.len() + 2 < id.len()).unwrap_or(id);
    Some(text.len() - start.len())
}

fn is_separator(character: char) -> bool {
    " :=`'\"/(<[_".contains(character)
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The length of the id or word at the beginning of `text`.
fn token_length(text: &str) -> usize {
    text.find(|c: char| !(is_word(c) || c == '-'))
        .unwrap_or(text.len())
}

fn alphanumeric_length(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len())
}

/// Whether `token` is a number, a UUID, or a mix of letters and digits that is too long for a word.
fn is_id(token: &str) -> bool {
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    let number = digits == token.len() && digits >= MIN_DIGITS;
    let code =
        digits > 0 && token.len() >= MIN_CODE_LENGTH && alphanumeric_length(token) == token.len();
    number || code || is_uuid(token)
}

fn is_uuid(token: &str) -> bool {
    let groups = token.split('-').map(|group| {
        group
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then_some(group.len())
    });
    groups.eq([8, 4, 4, 4, 12].map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Vec<&str> {
        find_account_ids(text)
            .into_iter()
            .map(|at| &text[at])
            .collect()
    }

    #[test]
    fn accounts_are_found_in_every_form() {
        let uuid = "0f8e6c1a-52d7-4b6e-9a3f-7c1d2e3f4a5b";
        for (text, ids) in [
            (
                "in organization org-a1B2c3D4e5F6g7H8 on tokens",
                vec!["org-a1B2c3D4e5F6g7H8"],
            ),
            (
                "organization `org_01jabcdefghijklmnopqrstuvw`",
                vec!["org_01jabcdefghijklmnopqrstuvw"],
            ),
            (
                &format!("Team: {uuid}, API key ID: {uuid}, Model: m"),
                vec![uuid, uuid],
            ),
            ("consumer 'project_number:123456789'", vec!["123456789"]),
            ("AWS account 123456789012 is not", vec!["123456789012"]),
            ("account_id=123456789012", vec!["123456789012"]),
            (
                "POST /accounts/0123456789abcdef/ai",
                vec!["0123456789abcdef"],
            ),
            (&format!("your organization's ({uuid}) limit"), vec![uuid]),
            (
                "User: arn:aws:iam::123456789012:user/eve is not authorized",
                vec!["arn:aws:iam::123456789012:user/eve"],
            ),
            (
                "model `projects/our-name/locations/global`",
                vec!["our-name"],
            ),
        ] {
            assert_eq!(hidden(text), ids, "{text}");
        }
    }

    #[test]
    fn other_words_and_numbers_stay() {
        let uuid = "0f8e6c1a-52d7-4b6e-9a3f-7c1d2e3f4a5b";
        for text in [
            "user-friendly, team-wide, org-chart and project-specific",
            "your account's rate limit: 200000 tokens",
            "the project gpt-4o-2024-08-06 of user input 128000",
            &format!("request {uuid} (ref: {uuid})"),
            "é team",
            "key",
        ] {
            assert_eq!(hidden(text), [] as [&str; 0], "{text}");
        }
    }
}
