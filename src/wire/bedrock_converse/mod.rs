//! Amazon Bedrock's Converse API,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>.
//!
//! `POST /model/{id}/converse-stream` answers with an AWS event stream whose `:event-type` says
//! what the JSON is. `messageStop` has the reason and `metadata`, behind it, the counts; so the
//! answer is over at `metadata`, or where the body ends cleanly after `messageStop`.

mod decode;
mod media;
mod reasoning;
mod request;
mod shape;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::{Decoder, Outgoing, Wire};
use crate::framing::Framing;
use crate::model::{CredentialScheme, Error, Request, Vendor};

/// See the module.
pub struct BedrockConverse;

/// Everything but RFC 3986's unreserved characters, as AWS's own clients do it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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

    fn request(&self, request: &Request, model: &str, _vendor: &Vendor) -> Result<Outgoing, Error> {
        // In a path these would lead elsewhere.
        if matches!(model, "" | "." | "..") {
            return Err(Error::invalid("model", "is no model id"));
        }
        let id = utf8_percent_encode(model, ESCAPED);
        Ok(Outgoing {
            path: format!("/model/{id}/converse-stream"),
            headers: HeaderMap::new(),
            body: request::body(request, model)?,
        })
    }

    fn goes_on(&self, _: &Vendor) -> bool {
        true
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(decode::ConverseDecoder::default())
    }

    fn asked_model(&self, path: &str, _body: &Value) -> Option<String> {
        let (_, rest) = path.rsplit_once("/model/")?;
        let id = rest.strip_suffix("/converse-stream")?;
        Some(percent_decode_str(id).decode_utf8_lossy().into_owned())
    }
}
