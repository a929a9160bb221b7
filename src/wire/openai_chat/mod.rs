//! `openai-chat`: OpenAI's Chat Completions and the many servers that look like it.
//!
//! <https://platform.openai.com/docs/api-reference/chat/create>; the deviations of other servers
//! are described beside the code that handles them.

mod choice;
mod chunk;
mod decode;
mod request;
mod signatures;

use http::HeaderMap;
use serde_json::{Value, json};

use super::{Decoder, Outgoing, VerbatimRequest, Wire};
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
