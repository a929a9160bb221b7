//! Sends a client's body to an upstream as it is, but for the model.

use std::borrow::Cow;
use std::future::poll_fn;

use http::{HeaderMap, StatusCode};

use super::client::{EncodedRequest, check_encoding};
use super::exchange::Body;
use super::rate_limits::rate_limits;
use super::{Trace, Upstream, refused_answer};
use crate::model::{Error, ErrorCode};
use crate::wire::VerbatimRequest;

/// A request that upstreams get as the client wrote it, but for the model.
#[derive(Debug, Clone)]
pub struct PassedRequest<'a> {
    /// Appended to the upstream's base URL.
    pub path: &'static str,
    /// The client's headers that mean something to the upstream.
    pub headers: HeaderMap,
    /// A JSON object.
    pub body: &'a [u8],
    /// The wire of the client's protocol, in whose form refusals pass.
    pub wire: &'static str,
}

/// The beginning of an answer, whose first bytes have come.
pub struct PassedStart {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Those in which the upstream states its rate limits.
    pub rate_limits: HeaderMap,
    pub first: Vec<u8>,
    /// The rest; `None` if the answer has ended.
    pub rest: Option<Body>,
}

impl Upstream {
    /// Sends a request and waits for the first bytes of the answer.
    ///
    /// # Errors
    /// The upstream's refusal; [`ErrorCode::UpstreamUnavailable`] if there was no answer;
    /// [`ErrorCode::InvalidRequest`] for a body that is not an object.
    pub async fn pass(
        &self,
        request: &PassedRequest<'_>,
        model: &str,
        trace: &Trace,
    ) -> Result<PassedStart, Error> {
        let verbatim = VerbatimRequest {
            path: request.path,
            headers: request.headers.clone(),
            members: vec![("model", model.into())],
        };
        let body = verbatim.body(request.body).ok_or_else(|| {
            let problem = "the body is not a JSON object";
            Error::new(ErrorCode::InvalidRequest, problem)
        })?;
        let encoded = EncodedRequest {
            path: Cow::Borrowed(verbatim.path),
            headers: verbatim.headers,
            body,
        };
        let answer = self.post(encoded, trace).await?;
        if !answer.status.is_success() {
            let (secrets, client) = (self.secrets(), Some(request.wire));
            return Err(refused_answer::read(self.wire, answer, &secrets, client).await);
        }
        check_encoding(&answer.headers)?;
        let (mut body, mut first) = (answer.body, Vec::new());
        let ended = loop {
            let read =
                poll_fn(|context| body.poll_read(context, |bytes| first.extend_from_slice(bytes)));
            let ended = read
                .await
                .map_err(|error| empty_answer().with_source(error))?;
            if ended || !first.is_empty() {
                break ended;
            }
        };
        if first.is_empty() && answer.status != StatusCode::NO_CONTENT {
            return Err(empty_answer());
        }
        Ok(PassedStart {
            status: answer.status,
            rate_limits: rate_limits(&answer.headers),
            headers: answer.headers,
            first,
            rest: (!ended).then_some(body),
        })
    }
}

fn empty_answer() -> Error {
    Error::new(
        ErrorCode::UpstreamUnavailable,
        "the upstream's answer ended before its first byte",
    )
}
