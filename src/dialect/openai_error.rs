//! Errors in the form that all APIs of OpenAI share,
//! <https://platform.openai.com/docs/guides/error-codes/api-errors>.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::model::{Error, ErrorCode, Origin};

/// `{"error":{"message","type","param","code"}}`; `code` is the gateway's own.
pub(super) fn body(error: &Error) -> Value {
    json!({
        "error": {
            "message": error.message(),
            "type": error_type(error),
            "param": error.field(),
            "code": error.code().as_str(),
        },
    })
}

/// The headers of a refusal for the vendor's clients.
pub(super) fn headers(error: &Error) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if error.code().origin() == Origin::Upstream {
        // The gateway has tried every target already.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    headers
}

/// The `type` that the APIs give an error.
pub(super) fn error_type(error: &Error) -> &'static str {
    match error.code() {
        ErrorCode::Unauthenticated => "authentication_error",
        ErrorCode::Forbidden => "permission_error",
        ErrorCode::RateLimited | ErrorCode::UpstreamRateLimited => "rate_limit_error",
        _ if error.status().is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}
