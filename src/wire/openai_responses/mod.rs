//! `openai-responses`: OpenAI's Responses API and the servers that offer it too.
//!
//! <https://platform.openai.com/docs/api-reference/responses>. `POST /responses` answers with
//! Server-Sent Events whose `event:` name repeats the JSON's `type`. An answer is a list of output
//! items, each of them a message, a piece of reasoning or a call. It is over with the event that
//! carries the whole response again: `response.completed`, `.incomplete` or `.failed`.

mod decode;
mod items;
mod reasoning;
mod request;
mod shape;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use serde_json::Value;

use super::counting::retain_members;
use super::{Counting, Decoder, Limits, NameLimit, Outgoing, VerbatimRequest, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, SignatureMembers, Vendor};

/// See the module.
pub(super) struct OpenaiResponses;

const PATH: &str = "/responses";
const COUNT_PATH: &str = "/responses/input_tokens";

/// What counting accepts of a request:
/// <https://platform.openai.com/docs/api-reference/responses/input-tokens>.
const COUNTED: [&str; 11] = [
    "conversation",
    "input",
    "instructions",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "text",
    "tool_choice",
    "tools",
    "truncation",
];

impl Wire for OpenaiResponses {
    fn name(&self) -> &'static str {
        "openai-responses"
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn credential(&self) -> CredentialScheme {
        CredentialScheme::Bearer
    }

    /// Of a `reasoning` item.
    fn signature_members(&self) -> SignatureMembers {
        SignatureMembers {
            names: &["encrypted_content"],
            carriers: &[],
        }
    }

    /// <https://platform.openai.com/docs/api-reference/responses/create>
    fn limits(&self, _: &str, _: &Vendor) -> Limits {
        Limits {
            tool_name: NameLimit::word(64),
            strict_schemas: true,
            call_id: NameLimit {
                max: 64,
                ..NameLimit::NONE
            },
            user: 64,
            min_max_tokens: 16,
            requires_file_names: true,
            seed: false,
            ..Limits::NONE
        }
    }

    fn request(&self, request: &Request, model: &str, _vendor: &Vendor) -> Result<Outgoing, Error> {
        Ok(Outgoing {
            path: PATH.to_owned(),
            headers: HeaderMap::new(),
            body: request::body(request, model)?,
        })
    }

    fn verbatim_request(&self, model: &str, _: &Vendor) -> Option<VerbatimRequest> {
        Some(VerbatimRequest {
            path: PATH,
            headers: HeaderMap::new(),
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
                headers: HeaderMap::new(),
                members: vec![("model", model.into())],
            }),
            member: "input_tokens",
        })
    }

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::ResponsesDecoder::new(vendor))
    }

    fn requested_model(&self, path: &str, body: &Value) -> Option<String> {
        path.ends_with(PATH)
            .then(|| body["model"].as_str().unwrap_or_default().to_owned())
    }
}
