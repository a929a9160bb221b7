//! Asks an upstream how many tokens a prompt has.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::Value;

use super::client::EncodedRequest;
use super::{Trace, Upstream, refused_answer};
use crate::model::{Error, ErrorCode, Request};
use crate::wire::{Counting, TargetSettings};

/// How an upstream answers that has the protocol but does not count.
const CANNOT_COUNT: [StatusCode; 3] = [
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

impl Upstream {
    /// The number of tokens that the prompt of `request` has for `model`; `None` if the upstream does not
    /// count. A client of the upstream's own protocol asks in its own words.
    ///
    /// # Errors
    /// As [`Upstream::open`]; [`ErrorCode::BadUpstreamData`] for an answer without a count.
    pub async fn count(
        &self,
        request: &Request,
        model: &str,
        settings: TargetSettings,
        trace: &Trace,
    ) -> Result<Option<u64>, Error> {
        let Some(counting) = self.wire.counting() else {
            return Ok(None);
        };
        let wire = self.wire.name();
        let native = request.native_fields.as_ref();
        let native = native.filter(|native| native.wire == wire);
        let body = native.and_then(|native| native.body.as_ref());
        let own_words = body.and_then(|body| own_words(&counting, model, body));
        let mut encoded = match own_words {
            Some(encoded) => encoded,
            None => {
                let adapted = self.adapt(request, model, settings)?;
                let outgoing = self.wire.request(&adapted.request, model, &self.vendor)?;
                EncodedRequest::from((counting.request)(outgoing, model))
            }
        };
        encoded
            .headers
            .extend(request.headers_for(wire).cloned().unwrap_or_default());
        let answer = self.post(encoded, trace).await?;
        if CANNOT_COUNT.contains(&answer.status) {
            return Ok(None);
        }
        if !answer.status.is_success() {
            let (secrets, client) = (self.secrets(), native.map(|native| native.wire));
            return Err(refused_answer::read(self.wire, answer, &secrets, client).await);
        }
        let text = refused_answer::read_body(answer.body).await;
        let answer = serde_json::from_slice::<Value>(&text).ok();
        match answer.and_then(|answer| answer.get(counting.member)?.as_u64()) {
            Some(count) => Ok(Some(count)),
            None => Err(Error::new(
                ErrorCode::BadUpstreamData,
                "the upstream was asked for a number of tokens and answered without one",
            )),
        }
    }
}

fn own_words(counting: &Counting, model: &str, body: &[u8]) -> Option<EncodedRequest> {
    let verbatim = counting.verbatim?(model);
    Some(EncodedRequest {
        body: verbatim.body(body)?,
        path: Cow::Borrowed(verbatim.path),
        headers: verbatim.headers,
    })
}
