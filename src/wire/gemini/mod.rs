//! `gemini`: Google's Gemini API, <https://ai.google.dev/api/generate-content>.
//!
//! `POST /v1beta/models/{model}:streamGenerateContent?alt=sse` answers with Server-Sent Events
//! without names, each a `GenerateContentResponse`. There is no end marker: the body ends after a
//! chunk with a `finishReason`.

mod arguments;
mod calls;
mod decode;
mod media;
mod request;
mod shape;
mod sources;
#[cfg(test)]
mod tests;

use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Counting, Decoder, Limits, NameLimit, Outgoing, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, Vendor};

/// The wire `gemini`.
pub(super) struct Gemini;

/// The vendor's model list has this prefix. A configured name may have it or not.
const MODELS_PREFIX: &str = "models/";

/// All characters but those that RFC 3986 calls unreserved: a model's name is one path segment.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Wire for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// A header rather than the documented `?key=`, because URLs end up in logs.
    fn credential(&self) -> CredentialScheme {
        CredentialScheme::Header("x-goog-api-key")
    }

    fn error_body(&self, status: StatusCode, message: &str) -> Value {
        json!({
            "error": { "code": status.as_u16(), "message": message, "status": rpc_status(status) },
        })
    }

    /// <https://ai.google.dev/api/caching#FunctionDeclaration>,
    /// <https://ai.google.dev/gemini-api/docs/function-calling>
    fn limits(&self, model: &str, _: &Vendor) -> Limits {
        Limits {
            tool_name: NameLimit {
                others: Some("_.:-"),
                begins_with_letter: true,
                ..NameLimit::word(64)
            },
            user: 0,
            temperature: 2.0,
            top_p: (0.0, 1.0),
            images_in_results: !request::is_older(model),
            files_in_results: !request::is_older(model),
            format_with_tools: !request::is_older(model),
            metadata: false,
            parallel_calls: false,
            ..Limits::NONE
        }
    }

    fn request(&self, request: &Request, model: &str, _vendor: &Vendor) -> Result<Outgoing, Error> {
        let model = model.strip_prefix(MODELS_PREFIX).unwrap_or(model);
        Ok(Outgoing {
            path: path(model, "streamGenerateContent?alt=sse"),
            headers: HeaderMap::new(),
            body: request::body(request, model)?,
        })
    }

    /// <https://ai.google.dev/api/tokens>
    fn counting(&self) -> Option<Counting> {
        Some(Counting {
            request: |outgoing, model| {
                let model = model.strip_prefix(MODELS_PREFIX).unwrap_or(model);
                let mut request = json!({"model": format!("{MODELS_PREFIX}{model}")});
                if let (Some(into), Value::Object(members)) =
                    (request.as_object_mut(), outgoing.body)
                {
                    into.extend(members);
                }
                Outgoing {
                    path: path(model, "countTokens"),
                    headers: outgoing.headers,
                    body: json!({"generateContentRequest": request}),
                }
            },
            verbatim: None,
            member: "totalTokens",
        })
    }

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::ContentDecoder::new(vendor))
    }

    fn requested_model(&self, path: &str, _: &Value) -> Option<String> {
        let path = path.split('?').next().unwrap_or_default();
        let (resource, method) = path.rsplit_once(':')?;
        if !matches!(method, "streamGenerateContent" | "generateContent") {
            return None;
        }
        let (_, model) = resource.rsplit_once('/')?;
        Some(percent_decode_str(model).decode_utf8_lossy().into_owned())
    }
}

/// The path of a method of a model.
fn path(model: &str, method: &str) -> String {
    let segment = utf8_percent_encode(model, ESCAPED);
    format!("/v1beta/{MODELS_PREFIX}{segment}:{method}")
}

/// <https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>
fn rpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}
