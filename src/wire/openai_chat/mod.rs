//! `openai-chat`: OpenAI's Chat Completions and the many servers that look like it.
//!
//! <https://platform.openai.com/docs/api-reference/chat/create>; the deviations of other servers
//! are described beside the code that handles them.

mod choice;
mod chunk;
mod decode;
mod member_reader;
mod members;
mod request;
mod signatures;

use http::HeaderMap;
use serde_json::{Value, json};

use super::{Decoder, Limits, NameLimit, Outgoing, VerbatimRequest, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Prefill, Request, SignatureMembers, Vendor};

pub(super) struct OpenaiChat;

const PATH: &str = "/chat/completions";

impl Wire for OpenaiChat {
    fn name(&self) -> &'static str {
        "openai-chat"
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn credential(&self) -> CredentialScheme {
        CredentialScheme::Bearer
    }

    /// <https://platform.openai.com/docs/api-reference/chat/create>
    fn limits(&self, _: &str, vendor: &Vendor) -> Limits {
        Limits {
            tool_name: NameLimit::word(64),
            strict_schemas: true,
            requires_file_names: true,
            call_id: match vendor.call_id_length {
                Some(length) => NameLimit {
                    min: length,
                    max: length,
                    others: Some(""),
                    begins_with_letter: false,
                },
                None => NameLimit {
                    max: 40,
                    ..NameLimit::NONE
                },
            },
            user: if vendor.user { 64 } else { 0 },
            images_in_results: false,
            files_in_results: false,
            metadata: false,
            ..Limits::NONE
        }
    }

    fn request(&self, request: &Request, model: &str, vendor: &Vendor) -> Result<Outgoing, Error> {
        Ok(Outgoing {
            path: PATH.to_owned(),
            headers: HeaderMap::new(),
            body: request::body(request, model, vendor),
        })
    }

    fn verbatim_request(&self, model: &str, vendor: &Vendor) -> Option<VerbatimRequest> {
        let mut members = vec![("model", model.into()), ("stream", true.into())];
        if vendor.stream_options {
            members.push(("stream_options", json!({"include_usage": true})));
        }
        Some(VerbatimRequest {
            path: PATH,
            headers: HeaderMap::new(),
            members,
        })
    }

    fn has_look_alikes(&self) -> bool {
        true
    }

    fn supports_prefill(&self, vendor: &Vendor) -> bool {
        vendor.prefill != Prefill::Never
    }

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::ChatDecoder::new(vendor))
    }

    fn signature_members(&self) -> SignatureMembers {
        signatures::MEMBERS
    }

    fn requested_model(&self, path: &str, body: &Value) -> Option<String> {
        if !path.ends_with(PATH) {
            return None;
        }
        Some(body["model"].as_str().unwrap_or_default().to_owned())
    }
}
