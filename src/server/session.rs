//! Finds the session that a request belongs to, so that one target answers all of its requests from its
//! prompt cache.

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::config::AffinityConfig;
use crate::model::{Message, Part, Request, Role};
use crate::route::stable_hash;

/// The headers in which clients name their session; the first that is present counts.
const HEADERS: [HeaderName; 6] = [
    HeaderName::from_static("x-session-id"),
    HeaderName::from_static("x-session-affinity"),
    HeaderName::from_static("x-claude-code-session-id"),
    HeaderName::from_static("session_id"),
    HeaderName::from_static("session-id"),
    HeaderName::from_static("conversation_id"),
];

/// The member of a body by which clients of OpenAI's protocols say which requests share a prompt cache.
const CACHE_KEY: &str = "prompt_cache_key";

/// How much of the system prompt, and how much of the first message counts, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// A hash of the session that a request belongs to. `None` if the model ignores sessions, or the request
/// has none.
///
/// `caller` is the name of the API key: sessions of different keys are different ones.
pub(super) fn find_session(
    affinity: &AffinityConfig,
    headers: &HeaderMap,
    request: &Request,
    caller: &str,
) -> Option<u64> {
    if *affinity != AffinityConfig::Auto {
        return find_named_session(affinity, headers, caller);
    }
    let named = find_named_session(affinity, headers, caller);
    let cache_key = || cache_key(request).map(|key| stable_hash([caller, key]));
    let beginning = || {
        stable_hash(
            [caller, &request.model]
                .into_iter()
                .chain(beginning(request)),
        )
    };
    Some(named.or_else(cache_key).unwrap_or_else(beginning))
}

/// As [`find_session`], by the headers alone.
pub(super) fn find_named_session(
    affinity: &AffinityConfig,
    headers: &HeaderMap,
    caller: &str,
) -> Option<u64> {
    let value = |name: &HeaderName| {
        let value = headers.get(name)?.to_str().ok()?.trim();
        (!value.is_empty()).then_some(value)
    };
    let session = match affinity {
        AffinityConfig::Off => None,
        AffinityConfig::Header(name) => value(name),
        AffinityConfig::Auto => HEADERS.iter().find_map(value),
    };
    session.map(|session| stable_hash([caller, session]))
}

fn cache_key(request: &Request) -> Option<&str> {
    let native = request.native_fields.as_ref();
    let native = native.and_then(|native| native.fields.get(CACHE_KEY));
    let key = native.or_else(|| request.extra.get(CACHE_KEY));
    key.and_then(Value::as_str).filter(|key| !key.is_empty())
}

/// What the requests of one conversation begin with: the system prompt and the first message of the user.
fn beginning(request: &Request) -> impl Iterator<Item = &str> {
    let messages = request.messages.iter();
    let first_user = messages.clone().find(|message| message.role == Role::User);
    let system = messages.filter(|message| message.role == Role::System);
    texts(system).chain(texts(first_user.into_iter()))
}

/// The texts of messages, [`MAX_TEXT`] bytes in all.
fn texts<'a>(messages: impl Iterator<Item = &'a Message>) -> impl Iterator<Item = &'a str> {
    let mut left = MAX_TEXT;
    let parts = messages.flat_map(|message| &message.content);
    let texts = parts.filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.map_while(move |text| {
        let counted = &text[..text.floor_char_boundary(left)];
        let is_counted = left > 0;
        left -= counted.len();
        is_counted.then_some(counted)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(system: &str, user: &str) -> Request {
        let message = |role, text: &str| Message {
            field: String::new(),
            role,
            content: vec![Part::Text(text.to_owned())],
        };
        Request {
            model: "fast".to_owned(),
            messages: vec![message(Role::System, system), message(Role::User, user)],
            ..Request::default()
        }
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let headers = list.iter();
        headers
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn auto(list: &[(&'static str, &str)], request: &Request, caller: &str) -> u64 {
        find_session(&AffinityConfig::Auto, &headers(list), request, caller).unwrap()
    }

    #[test]
    fn the_first_header_that_is_present_names_the_session() {
        let request = request("", "hello");
        let expected = auto(&[("x-session-id", "a")], &request, "app");
        for (list, same) in [
            (vec![("x-session-id", "a"), ("session_id", "b")], true),
            (vec![("x-claude-code-session-id", "a")], true),
            (vec![("conversation_id", "a")], true),
            (vec![("x-session-id", ""), ("session-id", "a")], true),
            (vec![("x-session-id", "b"), ("session_id", "a")], false),
            (vec![], false),
        ] {
            assert_eq!(auto(&list, &request, "app") == expected, same, "{list:?}");
        }
        assert_ne!(auto(&[("x-session-id", "a")], &request, "other"), expected);
    }

    #[test]
    fn a_conversation_is_recognised_by_its_beginning() {
        let first = request("Be brief.", "hello");
        let mut later = first.clone();
        later.messages.extend(request("", "more").messages.pop());
        assert_eq!(auto(&[], &first, "app"), auto(&[], &later, "app"));
        let other = request("Be brief.", "good morning");
        assert_ne!(auto(&[], &first, "app"), auto(&[], &other, "app"));
    }

    #[test]
    fn a_cache_key_of_the_body_comes_before_the_beginning() {
        let mut one = request("", "one");
        let mut two = request("", "two");
        for request in [&mut one, &mut two] {
            let key = json!("the same");
            request.extra.insert(CACHE_KEY.to_owned(), key);
        }
        assert_eq!(auto(&[], &one, "app"), auto(&[], &two, "app"));
    }

    #[test]
    fn a_configured_header_is_the_only_one() {
        let header = AffinityConfig::Header(HeaderName::from_static("x-tenant"));
        let request = request("", "hello");
        let find =
            |list: &[(&'static str, &str)]| find_session(&header, &headers(list), &request, "app");
        assert!(find(&[("x-tenant", "a")]).is_some());
        assert_eq!(find(&[("x-session-id", "a")]), None);
        let ignored = headers(&[("x-session-id", "a")]);
        assert_eq!(
            find_session(&AffinityConfig::Off, &ignored, &request, "app"),
            None
        );
    }
}
