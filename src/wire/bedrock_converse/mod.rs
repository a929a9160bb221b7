//! Amazon Bedrock's Converse API,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>.
//!
//! `POST /model/{id}/converse-stream` answers with an AWS event stream whose `:event-type` says
//! what the JSON is. `messageStop` has the finish reason, and `metadata` follows it with the counts. So
//! the answer ends with `metadata`, or with a clean end of the body after `messageStop`.

mod decode;
mod media;
mod reasoning;
mod request;
mod shape;
#[cfg(test)]
mod tests;

use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::counting::retain_members;
use super::{Counting, Decoder, Limits, NameLimit, Outgoing, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, Vendor};

/// The wire `bedrock-converse`.
pub struct BedrockConverse;

/// All characters but those that RFC 3986 calls unreserved, as in AWS's own clients.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What counting accepts of a request.
const COUNTED: [&str; 4] = [
    "additionalModelRequestFields",
    "messages",
    "system",
    "toolConfig",
];

/// The path of an operation of a model.
fn path(model: &str, operation: &str) -> String {
    let id = utf8_percent_encode(model, ESCAPED);
    format!("/model/{id}/{operation}")
}

impl Wire for BedrockConverse {
    fn name(&self) -> &'static str {
        "bedrock-converse"
    }

    fn framing(&self) -> Framing {
        Framing::AwsEventStream
    }

    fn credential(&self) -> CredentialScheme {
        CredentialScheme::SigV4 { service: "bedrock" }
    }

    fn error_body(&self, _status: StatusCode, message: &str) -> Value {
        json!({ "message": message })
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>
    fn limits(&self, model: &str, _: &Vendor) -> Limits {
        Limits {
            tool_name: NameLimit::word(64),
            call_id: NameLimit::word(64),
            user: 0,
            temperature: 1.0,
            top_p: (0.0, 1.0),
            blank_texts: false,
            requires_file_names: true,
            requires_called_tools: true,
            blank_stops: !model.contains("anthropic."),
            json_object: false,
            begins_with_user: true,
            claude_thinking: model.contains("anthropic."),
            cache_points: ["anthropic.", "amazon.nova"]
                .iter()
                .any(|family| model.contains(family)),
            seed: false,
            parallel_calls: false,
            ..Limits::NONE
        }
    }

    fn request(&self, request: &Request, model: &str, _vendor: &Vendor) -> Result<Outgoing, Error> {
        // As a path segment these would change the path.
        if matches!(model, "" | "." | "..") {
            return Err(Error::invalid("model", "not a model id"));
        }
        Ok(Outgoing {
            path: path(model, "converse-stream"),
            headers: HeaderMap::new(),
            body: request::body(request, model)?,
        })
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html>
    fn counting(&self) -> Option<Counting> {
        Some(Counting {
            request: |mut outgoing, model| {
                retain_members(&mut outgoing, &COUNTED);
                Outgoing {
                    path: path(model, "count-tokens"),
                    headers: outgoing.headers,
                    body: json!({"input": {"converse": outgoing.body}}),
                }
            },
            verbatim: None,
            member: "inputTokens",
        })
    }

    fn shares_signatures(&self, model: &str) -> bool {
        model.contains("anthropic.")
    }

    fn supports_prefill(&self, _: &Vendor) -> bool {
        true
    }

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::ConverseDecoder::new(vendor))
    }

    fn requested_model(&self, path: &str, _body: &Value) -> Option<String> {
        let (_, rest) = path.rsplit_once("/model/")?;
        let id = rest.strip_suffix("/converse-stream")?;
        Some(percent_decode_str(id).decode_utf8_lossy().into_owned())
    }
}
