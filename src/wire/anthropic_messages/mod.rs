//! Anthropic's Messages API, <https://platform.claude.com/docs/en/api/messages>.
//!
//! `POST /v1/messages` answers with Server-Sent Events whose `event:` name repeats the JSON's
//! `type`; compatible servers leave out one or the other, and the
//! decoder prefers `type`. `message_stop` ends the answer.

mod decode;
mod request;
mod shape;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::counting::retain_members;
use super::{Counting, Decoder, Limits, NameLimit, Outgoing, VerbatimRequest, Wire, error_type};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, SignatureMembers, Vendor};

/// The wire `anthropic-messages`.
pub struct AnthropicMessages;

const PATH: &str = "/v1/messages";
const COUNT_PATH: &str = "/v1/messages/count_tokens";

/// What counting accepts of a request: <https://platform.claude.com/docs/en/api/messages-count-tokens>.
const COUNTED: [&str; 11] = [
    "cache_control",
    "context_management",
    "mcp_servers",
    "messages",
    "model",
    "output_config",
    "output_format",
    "system",
    "thinking",
    "tool_choice",
    "tools",
];

impl Wire for AnthropicMessages {
    fn name(&self) -> &'static str {
        "anthropic-messages"
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn credential(&self) -> CredentialScheme {
        CredentialScheme::Header("x-api-key")
    }

    /// Of a `thinking` block and of a `redacted_thinking` block.
    fn signature_members(&self) -> SignatureMembers {
        SignatureMembers {
            names: &["signature", "data"],
            carriers: &[],
        }
    }

    fn error_body(&self, status: StatusCode, message: &str) -> Value {
        json!({
            "type": "error",
            "error": { "type": error_type(status), "message": message },
            "request_id": "req_fixture",
        })
    }

    /// <https://platform.claude.com/docs/en/api/messages/create>
    fn limits(&self, _: &str, _: &Vendor) -> Limits {
        Limits {
            tool_name: NameLimit::word(128),
            call_id: NameLimit::word(64),
            user: 256,
            temperature: 1.0,
            top_p: (0.0, 1.0),
            requires_max_tokens: true,
            blank_stops: false,
            blank_texts: false,
            json_object: false,
            begins_with_user: true,
            claude_thinking: true,
            cache_points: true,
            seed: false,
            metadata: false,
            ..Limits::NONE
        }
    }

    fn request(&self, request: &Request, model: &str, _vendor: &Vendor) -> Result<Outgoing, Error> {
        let body = request::body(request, model)?;
        let mut headers = version();
        if body.has_uploads {
            headers.insert(
                "anthropic-beta",
                HeaderValue::from_static("files-api-2025-04-14"),
            );
        }
        Ok(Outgoing {
            path: PATH.to_owned(),
            headers,
            body: body.json,
        })
    }

    fn verbatim_request(&self, model: &str, _: &Vendor) -> Option<VerbatimRequest> {
        Some(VerbatimRequest {
            path: PATH,
            headers: version(),
            members: vec![("model", model.into()), ("stream", true.into())],
        })
    }

    fn counting(&self) -> Option<Counting> {
        Some(Counting {
            request: |mut outgoing, _| {
                COUNT_PATH.clone_into(&mut outgoing.path);
                retain_members(&mut outgoing, &COUNTED);
                outgoing
            },
            verbatim: Some(|model| VerbatimRequest {
                path: COUNT_PATH,
                headers: version(),
                members: vec![("model", model.into())],
            }),
            member: "input_tokens",
        })
    }

    fn supports_prefill(&self, _: &Vendor) -> bool {
        true
    }

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::MessagesDecoder::new(vendor))
    }

    fn requested_model(&self, path: &str, body: &Value) -> Option<String> {
        path.ends_with(PATH)
            .then(|| body["model"].as_str().unwrap_or_default().to_owned())
    }
}

/// The version of the API that this code was written for.
fn version() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    headers
}
