//! The message of an error body.

use std::time::Duration;

use serde_json::Value;

/// An upstream's reason for refusing a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// The vendor's own error type or code.
    pub kind: Option<String>,
    /// How long to wait, where the body says so.
    pub retry_after: Option<Duration>,
}

/// Reads an error body in the shapes that vendors use: `{"error":{"message":…}}`, `{"error":"…"}`,
/// `{"message":…}`, `{"Message":…}` (AWS), `{"detail":"…"}`, `{"detail":[{"msg":…}]}`, also in a
/// `message` (Mistral), a list of one of these (Gemini), and others of the same kinds.
/// If a vendor passes on the error of another provider, that message follows the vendor's own.
pub(super) fn parse_refusal(body: &[u8]) -> Option<Refusal> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let body = body.get(0).unwrap_or(&body);
    let error = match &body["error"] {
        Value::Object(_) => &body["error"],
        _ => body,
    };
    let mut message = find_message(body)?.trim().to_owned();
    if let Some(inner) = provider_message(body).filter(|inner| !message.contains(inner.as_str())) {
        message = format!("{message}: {inner}");
    }
    let kind = [
        &error["type"],
        &error["status"],
        &error["code"],
        &body["code"],
        &body["__type"],
    ]
    .into_iter()
    .find_map(Value::as_str);
    Some(Refusal {
        message,
        kind: kind.map(str::to_owned),
        retry_after: retry_delay(&error["details"]),
    })
}

/// Members that exist only to report a failure.
const ERROR_MEMBERS: [&str; 6] = ["error", "errors", "Error", "exception", "fault", "err"];

/// Members that hold the words of a failure, or an object with them.
const WORD_MEMBERS: [&str; 18] = [
    "message",
    "msg",
    "Message",
    "detail",
    "details",
    "error_msg",
    "error_message",
    "errorMessage",
    "err_msg",
    "error_description",
    "status_msg",
    "faultstring",
    "reason",
    "description",
    "title",
    "base_resp",
    "header",
    "body",
];

/// How deep words are looked for in an error.
const MAX_DEPTH: u32 = 4;

fn find_message(body: &Value) -> Option<&str> {
    let coded = ["error_code", "errorCode", "err_code"];
    let coded = coded.iter().any(|name| !body[name].is_null());
    let text = || words(&body["text"], 0).filter(|_| coded);
    words(body, 0).or_else(text)
}

/// The first words in a value: those of an error come before those beside it.
fn words(value: &Value, depth: u32) -> Option<&str> {
    match value {
        Value::String(words) => Some(words.as_str()).filter(|words| !words.trim_ascii().is_empty()),
        Value::Array(list) if depth < MAX_DEPTH => words(list.first()?, depth + 1),
        Value::Object(members) if depth < MAX_DEPTH => ERROR_MEMBERS
            .iter()
            .chain(&WORD_MEMBERS)
            .find_map(|name| words(members.get(*name)?, depth + 1)),
        _ => None,
    }
}

/// Whether a body reports an error, in words or not.
pub(super) fn has_error(body: &Value) -> bool {
    let is_error = |name: &&str| match &body[*name] {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.trim_ascii().is_empty(),
        Value::Number(code) => code.as_f64() != Some(0.0),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => members.values().any(|value| !value.is_null()),
        Value::Bool(true) => true,
    };
    ERROR_MEMBERS.iter().any(is_error)
}

/// Whether a body without an error says that all is well: some vendors send a code and words with
/// everything.
pub(super) fn reports_success(body: &Value) -> bool {
    let is_fine = |value: &Value| match value {
        Value::Number(code) => matches!(code.as_u64(), Some(0 | 200)),
        Value::Bool(success) => *success,
        Value::String(word) => matches!(
            word.to_ascii_lowercase().as_str(),
            "0" | "200" | "ok" | "success" | "succeeded" | "true"
        ),
        _ => false,
    };
    let stated = [
        &body["code"],
        &body["status"],
        &body["status_code"],
        &body["statusCode"],
        &body["success"],
        &body["base_resp"]["status_code"],
        &body["header"]["code"],
        &body["message"],
        &body["msg"],
    ];
    !has_error(body) && stated.into_iter().any(is_fine)
}

/// The message of the provider behind a vendor: OpenRouter's `metadata.raw`, that provider's error body or
/// plain text; Pollinations' `details`.
fn provider_message(body: &Value) -> Option<String> {
    let Some(raw) = body["error"]["metadata"]["raw"].as_str() else {
        // Beside the name of an error there may be its words.
        let beside = [&body["details"], &body["message"]];
        let beside = beside.into_iter().filter(|_| body["error"].is_string());
        return beside.into_iter().find_map(find_message).map(str::to_owned);
    };
    match serde_json::from_str::<Value>(raw) {
        Ok(inner) => find_message(&inner).map(str::to_owned),
        Err(_) => Some(raw.trim().to_owned()),
    }
}

/// `retryDelay` of a `google.rpc.RetryInfo`, such as `34.4s`
/// (<https://google.aip.dev/193>, `google/rpc/error_details.proto`).
fn retry_delay(details: &Value) -> Option<Duration> {
    let delay = details
        .as_array()?
        .iter()
        .find_map(|detail| detail["retryDelay"].as_str())?;
    let seconds = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Option<String> {
        parse_refusal(body.as_bytes()).map(|refusal| refusal.message)
    }

    #[test]
    fn every_shape_of_an_error_body_is_read() {
        for (body, words) in [
            (r#"{"error":{"message":" a "}}"#, Some("a")),
            (r#"{"error":"a"}"#, Some("a")),
            (r#"{"message":"a"}"#, Some("a")),
            (r#"{"__type":"Throttling","Message":"a"}"#, Some("a")),
            (r#"{"detail":"a"}"#, Some("a")),
            (r#"{"detail":[{"msg":"a"},{"msg":"b"}]}"#, Some("a")),
            (r#"{"message":{"detail":[{"msg":"a"}]}}"#, Some("a")),
            (r#"[{"error":{"message":"a"}}]"#, Some("a")),
            (r#"{"code":500,"message":"a"}"#, Some("a")),
            (r#"{"errors":["a"]}"#, Some("a")),
            (r#"{"errors":[{"message":"a"}]}"#, Some("a")),
            (r#"{"error_code":12,"text":"a"}"#, Some("a")),
            (r#"{"text":"a"}"#, None),
            (r#"{"error":["a"]}"#, Some("a")),
            (r#"{"error":{"error":{"message":"a"}}}"#, Some("a")),
            (r#"{"error":{"details":"a"}}"#, Some("a")),
            (r#"{"error":true,"message":"a"}"#, Some("a")),
            (r#"{"detail":{"error":"a"}}"#, Some("a")),
            (r#"{"fault":{"faultstring":"a"}}"#, Some("a")),
            (r#"{"Error":{"Message":"a"}}"#, Some("a")),
            (r#"{"title":"a","status":503}"#, Some("a")),
            (r#"{"header":{"code":3,"message":"a"}}"#, Some("a")),
            (r#"{"error":"b","message":"a"}"#, Some("b: a")),
            (
                r#"{"base_resp":{"status_code":1002,"status_msg":"a"}}"#,
                Some("a"),
            ),
            (r#"{"type":"error","message":"a"}"#, Some("a")),
            (r#"{"error_msg":"a"}"#, Some("a")),
            (r#"{"error":"","message":"a"}"#, Some("a")),
            (r#"{"error":{"code":400}}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(message(body).as_deref(), words, "{body}");
        }
    }

    #[test]
    fn the_message_of_a_provider_behind_the_vendor_is_kept() {
        for (raw, words) in [
            (r#""plain words""#, "failed: plain words"),
            (r#""{\"error\":{\"message\":\"why\"}}""#, "failed: why"),
            (r#""{\"code\":400,\"msg\":\"why\"}""#, "failed: why"),
            (r#""{\"code\":400}""#, "failed"),
            (r#""failed""#, "failed"),
            ("null", "failed"),
        ] {
            let body = format!(r#"{{"error":{{"message":"failed","metadata":{{"raw":{raw}}}}}}}"#);
            assert_eq!(message(&body).as_deref(), Some(words), "{body}");
        }
        let body = r#"{"error":"400 Bad Request","details":{"error":{"message":"why"}}}"#;
        assert_eq!(message(body).as_deref(), Some("400 Bad Request: why"));
    }

    #[test]
    fn the_retry_delay_of_googles_body_is_read() {
        let body =
            br#"{"error":{"message":"quota","details":[{"quota":1},{"retryDelay":"34.5s"}]}}"#;
        let wait = parse_refusal(body).and_then(|refusal| refusal.retry_after);
        assert_eq!(wait, Some(Duration::from_millis(34_500)));
    }
}
