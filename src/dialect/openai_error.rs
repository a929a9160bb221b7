//! Errors in the form that all APIs of OpenAI share,
//! <https://platform.openai.com/docs/guides/error-codes/api-errors>.

use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use crate::model::{Error, ErrorCode, Request};

/// Asks for features that are not part of the API yet.
const BETA: HeaderName = HeaderName::from_static("openai-beta");

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

/// Keeps the headers of the vendor's own for an upstream of the same protocol.
pub(super) fn keep_beta_headers(headers: &HeaderMap, request: &mut Request) {
    let Some(native) = &mut request.native_fields else {
        return;
    };
    for value in headers.get_all(BETA) {
        native.headers.append(BETA, value.clone());
    }
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
