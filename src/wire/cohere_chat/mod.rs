//! Cohere's chat API, version 2, <https://docs.cohere.com/reference/chat-stream>.
//!
//! `POST /v2/chat` answers with Server-Sent Events whose `event:` name repeats the JSON's `type`;
//! the decoder prefers `type`. `message-end` ends the answer; `[DONE]` may follow it.

mod decode;
mod request;
mod shape;
#[cfg(test)]
mod tests;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{Decoder, Limits, Outgoing, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, Vendor};

/// The wire `cohere-chat`.
pub struct CohereChat;

const PATH: &str = "/v2/chat";

impl Wire for CohereChat {
    fn name(&self) -> &'static str {
        "cohere-chat"
    }

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn credential(&self) -> CredentialScheme {
        CredentialScheme::Bearer
    }

    fn error_body(&self, _status: StatusCode, message: &str) -> Value {
        json!({ "message": message })
    }

    /// <https://docs.cohere.com/reference/chat-stream>
    fn limits(&self, _: &str, _: &Vendor) -> Limits {
        Limits {
            user: 0,
            temperature: 1.0,
            top_p: (0.01, 0.99),
            images_in_results: false,
            files_in_results: false,
            files: false,
            metadata: false,
            parallel_calls: false,
            blank_texts: false,
            format_with_tools: false,
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

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::ChatDecoder::new(vendor))
    }

    fn requested_model(&self, path: &str, body: &Value) -> Option<String> {
        path.ends_with(PATH)
            .then(|| body["model"].as_str().unwrap_or_default().to_owned())
    }
}
