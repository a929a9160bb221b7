//! Failures that a vendor reports where an answer should be.

use serde_json::Value;
use serde_json::value::RawValue;

use super::refusal::{has_error, parse_refusal, reports_success};
use crate::model::{Error, ErrorCode};

/// How much of a plain text is kept as the upstream's reason, in bytes.
const MAX_REASON: usize = 512;

/// Words of which a plain text has at least one if it reports a failure.
const FAILURE_WORDS: &[&str] = &[
    "error",
    "exception",
    "fail",
    "denied",
    "exceeded",
    "forbidden",
    "gateway",
    "invalid",
    "overload",
    "quota",
    "rate limit",
    "refused",
    "time out",
    "timed out",
    "timeout",
    "too many",
    "traceback",
    "unauthorized",
    "unavailable",
];

/// Whether a member that reports errors reports one: some vendors always send it, empty.
pub(super) fn is_error(member: &RawValue) -> bool {
    match serde_json::from_str(member.get()) {
        Ok(Value::Null | Value::Bool(false)) => false,
        Ok(Value::String(text)) => !text.trim_ascii().is_empty(),
        Ok(Value::Number(code)) => code.as_f64() != Some(0.0),
        Ok(Value::Array(list)) => !list.is_empty(),
        Ok(Value::Object(members)) => members.values().any(|value| !value.is_null()),
        Ok(Value::Bool(true)) | Err(_) => true,
    }
}

/// Whether a `base_resp` (MiniMax) says that the request failed.
pub(super) fn is_failed_status(base_resp: &RawValue) -> bool {
    let status = serde_json::from_str::<Value>(base_resp.get()).unwrap_or_default();
    let status = &status["status_code"];
    status.as_i64().is_some_and(|code| code != 0)
        || status
            .as_str()
            .is_some_and(|code| !matches!(code, "" | "0"))
}

/// The failure that a JSON text states in which nothing of an answer was found.
pub(crate) fn stated_failure(data: &str) -> Option<Error> {
    let body: Value = serde_json::from_str(data).ok()?;
    if reports_success(&body) {
        return None;
    }
    let message = match parse_refusal(data.as_bytes()) {
        Some(refusal) => refusal.message,
        None if has_error(&body) => "no reason given".to_owned(),
        None => return None,
    };
    Some(Error::new(ErrorCode::UpstreamError, message))
}

/// The failure that a frame states that is no JSON, in the upstream's own words.
pub(crate) fn plain_failure(data: &str) -> Option<Error> {
    let lower = data.to_ascii_lowercase();
    if !FAILURE_WORDS.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let words = data.trim();
    let end = words.floor_char_boundary(MAX_REASON);
    Some(Error::new(ErrorCode::UpstreamError, &words[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_error_is_none() {
        for (json, error) in [
            ("null", false),
            ("false", false),
            ("\"\"", false),
            ("{}", false),
            ("{ \"code\": null }", false),
            ("[]", false),
            ("0", false),
            ("true", true),
            ("\"x\"", true),
            ("{\"code\":1}", true),
            ("500", true),
        ] {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            assert_eq!(is_error(&raw), error, "{json}");
        }
    }

    #[test]
    fn a_plain_text_is_a_failure_if_it_says_so() {
        let message = |data| plain_failure(data).map(|error| error.message().to_owned());
        assert_eq!(message(": keepalive"), None);
        assert_eq!(message("ping"), None);
        let gateway = message("502 Bad Gateway\n");
        assert_eq!(gateway.as_deref(), Some("502 Bad Gateway"));
    }
}
