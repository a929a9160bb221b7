//! What a request's body says before it is parsed: which model it asks for, and how large the tree
//! of its JSON would be. Nothing here allocates in proportion to the body.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::framing::surrogate;
use crate::model::{Error, ErrorCode, Request};

/// How many values the JSON of a body may have, counted by the characters `[`, `{`, `,` and `:`
/// outside strings. A parsed value takes many times the bytes of its text, so the length of a body
/// does not bound the memory of its tree.
const MAX_VALUES: usize = 250_000;

/// How deep objects and lists may be nested.
const MAX_DEPTH: usize = 100;

/// The most memory that one counted value takes: a list of one number within a list, in the parsed
/// request and in the upstream's.
const VALUE_BYTES: usize = 400;

/// The texts of a body are in the parsed request, in the members that are passed on as they are, and
/// in the bytes of the upstream's request.
const TEXT_COPIES: usize = 3;

/// A body's outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The model that is asked for; none where the body is not an object with a name in it, which
    /// parsing the body reports.
    pub model: Option<String>,
    values: usize,
    length: usize,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
}

impl Preview {
    /// Reads the outline of a body.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] for a body with too many values or too much nesting, and for a
    /// model name that is too long.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let (values, depth) = measure(body);
        let invalid = |problem: String| Err(Error::new(ErrorCode::InvalidRequest, problem));
        if values > MAX_VALUES {
            return invalid(format!(
                "the body has more than {MAX_VALUES} JSON values; send long data as strings"
            ));
        }
        if depth > MAX_DEPTH {
            return invalid(format!(
                "the body nests objects and lists more than {MAX_DEPTH} deep"
            ));
        }
        // A list would be read as the members in their order.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let members = is_object.then(|| serde_json::from_slice::<Members<'_>>(body).ok());
        let members = members.flatten();
        let model = members.and_then(|members| members.model);
        let model = model.and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok());
        let model = model.filter(|model| !model.is_empty());
        if let Some(model) = &model {
            Request::check_model(model)?;
        }
        Ok(Self {
            model: model.map(Cow::into_owned),
            values,
            length: body.len(),
        })
    }

    /// The most memory that everything built from the body takes, in bytes.
    pub fn built_bytes(&self) -> usize {
        self.values * VALUE_BYTES + self.length * TEXT_COPIES
    }
}

/// The body as JSON text that a parser accepts: without a byte order mark, and with U+FFFD for each
/// half of a surrogate pair.
pub fn normalize(mut body: Bytes) -> Bytes {
    const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
    if body.starts_with(BYTE_ORDER_MARK) {
        body = body.slice(BYTE_ORDER_MARK.len()..);
    }
    // Nearly no body has such an escape, and pairs are rare in those that do.
    let has_surrogates = [b"\\ud", b"\\uD"]
        .iter()
        .any(|escape| memmem::find(&body, *escape).is_some());
    if !has_surrogates {
        return body;
    }
    let text = std::str::from_utf8(&body).ok();
    match text.and_then(surrogate::repair) {
        Some(repaired) => repaired.into(),
        None => body,
    }
}

/// The number of values in a JSON text, and how deep they are nested. For what is not JSON the
/// numbers mean nothing; a parser stops there.
fn measure(body: &[u8]) -> (usize, usize) {
    let (mut values, mut depth, mut deepest) = (0, 0_usize, 0);
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(body, at),
            b'[' | b'{' => {
                values += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            _ => {}
        }
    }
    (values, deepest)
}

/// The position after the string whose first character is at `at`.
fn string_end(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', body.get(at..).unwrap_or_default()) {
        at += found;
        if body[at] == b'"' {
            return at + 1;
        }
        // A backslash and the character that it escapes.
        at += 2;
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Preview, Error> {
        Preview::parse(body.as_bytes())
    }

    #[test]
    fn the_model_is_read_whatever_stands_around_it() {
        for (body, model) in [
            (r#"{"model":"m","messages":[]}"#, Some("m")),
            (r#"{"x":{"model":"no"},"mod\u0065l":"m\n"}"#, Some("m\n")),
            (r#"{"x":"\"model\":\"no\"","model":"m"}"#, Some("m")),
            (r#"{"model":["m"]}"#, None),
            (r#"{"model":null}"#, None),
            (r#"{"model":""}"#, None),
            (r#"["model"]"#, None),
            (r#"{"model":"m""#, None),
            ("", None),
        ] {
            assert_eq!(parse(body).unwrap().model.as_deref(), model, "{body}");
        }
    }

    #[test]
    fn values_and_depth_are_counted_outside_strings() {
        assert_eq!(measure(br#"{"a":[1,2,{"b":"[{,:\"["}]}"#), (7, 3));
        assert_eq!(measure(br#""\\",[]"#), (2, 1));
        assert_eq!(measure(br#""\"#), (0, 0));
        assert_eq!(measure(b""), (0, 0));
    }

    #[test]
    fn bodies_with_too_many_values_are_refused() {
        let body = |values: usize| format!(r#"{{"model":"m","x":[{}0]}}"#, "0,".repeat(values));
        assert!(parse(&body(MAX_VALUES - 5)).is_ok());
        let error = parse(&body(MAX_VALUES - 4)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        // A long text is one value.
        let text = "[,".repeat(MAX_VALUES);
        assert!(parse(&format!(r#"{{"model":"m","prompt":"{text}"}}"#)).is_ok());
    }

    #[test]
    fn bodies_that_nest_too_deep_are_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(parse(&nested(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn long_model_names_are_refused_by_name() {
        assert!(parse(&format!(r#"{{"model":"{}"}}"#, "a".repeat(256))).is_ok());
        let error = parse(&format!(r#"{{"model":"{}"}}"#, "a".repeat(257))).unwrap_err();
        assert!(
            error.message().starts_with("model: "),
            "{}",
            error.message()
        );
    }

    #[test]
    fn a_byte_order_mark_and_lone_surrogates_are_repaired() {
        let body = Bytes::from("\u{feff}{\"a\":\"\\ud83d\\n\\ud83d\\ude00\"}");
        assert_eq!(normalize(body), "{\"a\":\"\\ufffd\\n\\ud83d\\ude00\"}");
        let plain = Bytes::from_static(br#"{"a":"\ud83d\ude00"}"#);
        assert_eq!(normalize(plain.clone()), plain);
    }
}
