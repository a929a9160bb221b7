//! Ollama's own chat API, <https://docs.ollama.com/api/chat>.
//!
//! `POST /api/chat` answers with one JSON object per line. The last one has `done: true`, the finish
//! reason and the counts. Tool calls are complete objects.

mod decode;
mod request;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{Decoder, Limits, Outgoing, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, Vendor};

/// The wire `ollama-chat`.
pub struct OllamaChat;

const PATH: &str = "/api/chat";

impl Wire for OllamaChat {
    fn name(&self) -> &'static str {
        "ollama-chat"
    }

    fn framing(&self) -> Framing {
        Framing::Ndjson
    }

    fn credential(&self) -> CredentialScheme {
        CredentialScheme::Bearer
    }

    fn error_body(&self, _status: StatusCode, message: &str) -> Value {
        json!({ "error": message })
    }

    /// <https://docs.ollama.com/api/chat>
    fn limits(&self, _: &str, _: &Vendor) -> Limits {
        Limits {
            user: 0,
            files_in_results: false,
            files: false,
            forced_calls: false,
            metadata: false,
            parallel_calls: false,
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

    fn supports_prefill(&self, _: &Vendor) -> bool {
        true
    }

    fn decoder(&self, vendor: &Vendor) -> Box<dyn Decoder> {
        Box::new(decode::ChatDecoder::new(vendor))
    }

    fn requested_model(&self, path: &str, body: &Value) -> Option<String> {
        path.ends_with(PATH)
            .then(|| body["model"].as_str().unwrap_or_default().to_owned())
    }
}
