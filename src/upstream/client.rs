//! One upstream: its address, its credential and its connections.

use std::borrow::Cow;
use std::fmt;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::exchange::{Body, Endpoint, ExchangeError, Response};
use super::ingest::Ingest;
use super::long_work::run_long_work;
use super::rate_limits::rate_limits;
use super::refused_answer;
use super::restore_names::RestoreNames;
use super::scrub::{scrub, sensitive_value};
use super::sigv4;
use crate::model::{
    Credential, Error, ErrorCode, ReasoningSigner, Request, RequestId, Sink, Vendor,
};
use crate::telemetry::{Observation, TraceContext};
use crate::wire::{Adapted, Outgoing, TargetSettings, ToolNames, Wire, digits};

/// A configured header value shorter than this, in bytes, is a switch or a version and not a
/// credential.
const MIN_SECRET_LENGTH: usize = 8;

/// A model API that requests are sent to.
pub struct Upstream {
    pub name: String,
    pub wire: &'static dyn Wire,
    /// Without a trailing `/`. Its query, if any, is appended after the wire's own path.
    pub base_url: String,
    pub credential: Option<Credential>,
    /// Sent with every request.
    pub headers: HeaderMap,
    pub vendor: Vendor,
    /// The vendor's name in OpenTelemetry's convention.
    pub provider: &'static str,
    /// Whether a client that speaks the wire's own protocol gets answers verbatim.
    pub verbatim: bool,
    /// Signs and verifies reasoning for the preset's vendor, or for this upstream if it has no
    /// preset.
    pub signer: ReasoningSigner,
    /// The scheme, host and port of `base_url`, with its connections.
    pub endpoint: Endpoint,
    /// The largest frame of an answer, in bytes.
    pub frame_cap: usize,
}

/// A request for one target, ready to be sent.
pub struct PreparedRequest {
    encoded: EncodedRequest,
    /// Whether the answer is passed on verbatim.
    pub verbatim: bool,
    expects_alternatives: bool,
    /// Whether the client speaks the upstream's protocol.
    keeps_members: bool,
    /// The client's fields that were changed or left out, because the API does not accept them.
    pub changes: Vec<String>,
    names: ToolNames,
}

/// A request on its way out.
#[derive(Default)]
pub(super) struct EncodedRequest {
    pub(super) path: Cow<'static, str>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl From<Outgoing> for EncodedRequest {
    fn from(outgoing: Outgoing) -> Self {
        Self {
            path: Cow::Owned(outgoing.path),
            headers: outgoing.headers,
            body: digits::restore(outgoing.body.to_string().into_bytes()),
        }
    }
}

/// W3C trace context that is passed on to the upstream, as the client sent it.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The id of the client's request, for the log.
    pub request: Option<RequestId>,
    /// When the client's whole request was read.
    pub arrived: Option<Instant>,
    /// The trace headers of the upstream's request.
    pub context: TraceContext,
    /// Records the tries of targets.
    pub observation: Option<Observation>,
}

impl Trace {
    /// Of a client's request.
    pub fn of(observation: &Observation) -> Self {
        Self {
            request: Some(observation.request().clone()),
            observation: Some(observation.clone()),
            ..Self::default()
        }
    }

    /// A target is asked.
    pub fn begin_attempt(&self, upstream: &Upstream, model: &str) -> Self {
        let context = self
            .observation
            .as_ref()
            .map(|observation| observation.begin_attempt(&upstream.name, upstream.provider, model));
        Self {
            context: context.unwrap_or_default(),
            ..self.clone()
        }
    }

    /// The target was not asked after all.
    pub fn discard_attempt(&self) {
        if let Some(observation) = &self.observation {
            observation.discard_attempt();
        }
    }

    /// The target that was asked last answers (`ok`) or failed.
    pub fn end_attempt(&self, outcome: &str) {
        if let Some(observation) = &self.observation {
            observation.end_attempt(outcome);
        }
    }
}

/// An answer whose status was good and whose events are still to be read. Dropping it closes the
/// connection.
pub struct Answer {
    body: Body,
    ingest: Ingest,
    /// The headers in which the upstream states its rate limits.
    rate_limits: HeaderMap,
    /// The tools whose names were changed in the request.
    names: ToolNames,
    secrets: Vec<SecretString>,
    /// The error that ended the answer, if it was found in the same read as its last events.
    failure: Option<Box<Error>>,
}

impl Upstream {
    /// Encodes `request` for `model`.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] if the wire cannot express the request.
    pub fn prepare(
        &self,
        request: &Request,
        model: &str,
        settings: TargetSettings,
    ) -> Result<PreparedRequest, Error> {
        let wire = self.wire.name();
        let verbatim = self.passes_frames(request);
        let own_words = if verbatim {
            self.verbatim_request(request, model)
        } else {
            None
        };
        let mut prepared = PreparedRequest {
            encoded: EncodedRequest::default(),
            verbatim,
            expects_alternatives: request.answers.is_some(),
            keeps_members: (request.native_fields.as_ref())
                .is_some_and(|native| native.wire == wire),
            changes: Vec::new(),
            names: ToolNames::default(),
        };
        prepared.encoded = match own_words {
            Some(encoded) => encoded,
            None => {
                let outgoing = if verbatim {
                    // Only the tags of signatures are removed from it.
                    let request = self.signer_for(model).verify(request.for_wire(wire)?);
                    self.wire.request(&request, model, &self.vendor)?
                } else {
                    let adapted = self.adapt(request, model, settings)?;
                    prepared.changes = adapted.changes;
                    prepared.names = adapted.names;
                    self.wire.request(&adapted.request, model, &self.vendor)?
                };
                EncodedRequest::from(outgoing)
            }
        };
        let client_headers = request.headers_for(wire).cloned();
        prepared
            .encoded
            .headers
            .extend(client_headers.unwrap_or_default());
        Ok(prepared)
    }

    /// The request in a form that fits the API.
    ///
    /// # Errors
    /// As [`Upstream::prepare`].
    pub(super) fn adapt<'a>(
        &self,
        request: &'a Request,
        model: &str,
        settings: TargetSettings,
    ) -> Result<Adapted<'a>, Error> {
        let for_wire = self
            .signer_for(model)
            .verify(request.for_wire(self.wire.name())?);
        let vendor = &self.vendor;
        Ok(Adapted::new(
            request, for_wire, self.wire, model, vendor, settings,
        ))
    }

    /// The signer of `model`.
    pub fn signer_for(&self, model: &str) -> Cow<'_, ReasoningSigner> {
        match self.wire.shares_signatures(model) {
            true => Cow::Borrowed(&self.signer),
            false => Cow::Owned(self.signer.without_family()),
        }
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// The upstream's refusal; [`ErrorCode::UpstreamUnavailable`] if there was no answer.
    pub async fn open(&self, request: PreparedRequest, trace: &Trace) -> Result<Answer, Error> {
        let PreparedRequest {
            encoded,
            verbatim,
            expects_alternatives,
            keeps_members,
            names,
            ..
        } = request;
        let answer = self.post(encoded, trace).await?;
        if !answer.status.is_success() {
            let client = verbatim.then_some(self.wire.name());
            let error = refused_answer::read(self.wire, answer, &self.secrets(), client).await;
            return Err(error);
        }
        check_encoding(&answer.headers)?;
        let mut ingest = Ingest::for_vendor(self.wire, &self.vendor, self.frame_cap);
        if expects_alternatives {
            ingest.expect_alternatives();
        }
        if verbatim {
            ingest.pass_frames();
        } else if keeps_members {
            ingest.keep_members();
        }
        Ok(Answer {
            body: answer.body,
            ingest,
            rate_limits: rate_limits(&answer.headers),
            names,
            secrets: self.secrets(),
            failure: None,
        })
    }

    /// Whether the answer to `request` is passed on verbatim: the client speaks this upstream's
    /// protocol.
    pub fn passes_frames(&self, request: &Request) -> bool {
        let native = request.native_fields.as_ref();
        self.verbatim
            && native.is_some_and(|native| native.verbatim && native.wire == self.wire.name())
    }

    /// Sends an encoded request and waits for the answer's head, whatever its status.
    ///
    /// # Errors
    /// [`ErrorCode::UpstreamUnavailable`].
    pub async fn send(&self, outgoing: Outgoing, trace: &Trace) -> Result<Response, Error> {
        self.post(EncodedRequest::from(outgoing), trace).await
    }

    pub(super) async fn post(
        &self,
        encoded: EncodedRequest,
        trace: &Trace,
    ) -> Result<Response, Error> {
        let EncodedRequest {
            path,
            mut headers,
            body,
        } = encoded;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in [
            ("traceparent", &trace.context.traceparent),
            ("tracestate", &trace.context.tracestate),
        ] {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        headers.extend(self.headers.clone());
        let url = join_url(&self.base_url, &path)
            .map_err(|_| Error::new(ErrorCode::Internal, "the upstream's address is not a URL"))?;
        match &self.credential {
            None => {}
            Some(Credential::Bearer(secret)) => {
                let value = format!("Bearer {}", secret.expose_secret());
                headers.insert(AUTHORIZATION, sensitive_value(&value)?);
            }
            Some(Credential::Header(name, secret)) => {
                headers.insert(*name, sensitive_value(secret.expose_secret())?);
            }
            // This is last because the signature covers the headers that were set before.
            Some(Credential::SigV4(key)) => {
                sigv4::sign(&mut headers, &url, &body, key, SystemTime::now())?;
            }
        }
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let request = self.endpoint.post(target, &headers, body);
        let sent = self.endpoint.send(&request).await;
        sent.map_err(connection_error)
    }

    /// The request in the client's own words. `None` if the gateway has to change more of them than its
    /// own members.
    fn verbatim_request(&self, request: &Request, model: &str) -> Option<EncodedRequest> {
        let body = request.native_fields.as_ref()?.body.as_ref()?;
        let verbatim = self.wire.verbatim_request(model, &self.vendor)?;
        Some(EncodedRequest {
            body: verbatim.body(body)?,
            path: Cow::Borrowed(verbatim.path),
            headers: verbatim.headers,
        })
    }

    /// What must not appear in any message although the upstream may quote it: the credential, and
    /// the values of the configured headers, which may be credentials too.
    pub fn secrets(&self) -> Vec<SecretString> {
        let values = self
            .headers
            .values()
            .filter_map(|value| value.to_str().ok());
        let values = values.filter(|value| value.len() >= MIN_SECRET_LENGTH);
        let credential = self.credential.iter().flat_map(Credential::secrets);
        let credential = credential.cloned();
        credential.chain(values.map(SecretString::from)).collect()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Header values may be credentials too.
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("wire", &self.wire.name())
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Reads what the upstream has ready, once, and hands its events to `sink`. `true` means that
    /// the answer finished: its finish event was handed over.
    ///
    /// # Errors
    /// Why the answer failed. The error is returned by the call after the one that handed over the
    /// last events. The answer must not be read after it.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut dyn Sink,
    ) -> Poll<Result<bool, Error>> {
        run_long_work(self.ingest.held_bytes(), || {
            if self.names.is_empty() {
                return self.poll_events(context, sink);
            }
            let names = std::mem::take(&mut self.names);
            let polled = self.poll_events(context, &mut RestoreNames::new(&names, sink));
            self.names = names;
            polled
        })
    }

    fn poll_events(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut dyn Sink,
    ) -> Poll<Result<bool, Error>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Err(*error));
        }
        let ingest = &mut self.ingest;
        let mut pushed = Ok(());
        let read = ready!(self.body.poll_read(context, |bytes| {
            if pushed.is_ok() {
                pushed = ingest.push(bytes, sink);
            }
        }));
        let read = match read {
            _ if pushed.is_err() || ingest.is_finished() => pushed,
            Ok(false) => Ok(()),
            Ok(true) => ingest.end(sink),
            Err(error) => {
                ingest.flush(sink);
                Err(Error::new(
                    ErrorCode::StreamInterrupted,
                    "the connection to the upstream broke before its answer ended",
                )
                .with_source(error))
            }
        };
        if let Err(error) = read {
            let error = error.map_message(|text| scrub(text, &self.secrets));
            self.failure = Some(Box::new(error));
        }
        Poll::Ready(Ok(self.ingest.is_finished()))
    }

    /// The headers in which the upstream states its rate limits.
    pub fn take_rate_limits(&mut self) -> HeaderMap {
        std::mem::take(&mut self.rate_limits)
    }

    /// Hands the events that the decoder holds back to `sink`, because the caller gives the answer
    /// up. An answer that failed has already done so.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        self.ingest.flush(&mut RestoreNames::new(&self.names, sink));
    }

    /// How many lines had invalid UTF-8 that was replaced by U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        self.ingest.repaired_lines()
    }

    /// How many frames were left out because they were no JSON.
    pub fn skipped_frames(&self) -> u64 {
        self.ingest.skipped_frames()
    }

    /// The rest of a finished answer's body, to be read to its end so that the connection can be
    /// reused.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

/// # Errors
/// [`ErrorCode::BadUpstreamData`] for an answer that is compressed.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Error::new(
                ErrorCode::BadUpstreamData,
                "the upstream compressed its answer, although the gateway did not request this",
            ))
        }
        _ => Ok(()),
    }
}

/// Appends `path` to `base_url`; either may have a query.
fn join_url(base_url: &str, path: &str) -> Result<Url, url::ParseError> {
    let Some((base, query)) = base_url.split_once('?') else {
        return Url::parse(&format!("{base_url}{path}"));
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    Url::parse(&format!("{base}{path}{separator}{query}"))
}

/// The error for a request that got no answer. Its message does not contain the failure's own words,
/// because they may show the address.
fn connection_error(failure: ExchangeError) -> Error {
    let message = match &failure {
        ExchangeError::ConnectTimeout => {
            "connecting to the upstream took too long (timeouts.connect)"
        }
        ExchangeError::Connect(..) => "the upstream cannot be reached",
        ExchangeError::Closed(_) | ExchangeError::Malformed(_) => {
            "the upstream closed the connection without an answer"
        }
    };
    Error::new(ErrorCode::UpstreamUnavailable, message).with_source(failure)
}

#[cfg(test)]
mod tests {
    use super::join_url;

    #[test]
    fn a_query_is_appended_after_the_path() {
        for (base_url, path, expected) in [
            ("http://h/v1", "/x", "http://h/v1/x"),
            ("http://h", "/x?alt=sse", "http://h/x?alt=sse"),
            (
                "http://h/d?api-version=1",
                "/x",
                "http://h/d/x?api-version=1",
            ),
            (
                "http://h/d?api-version=1",
                "/x?alt=sse",
                "http://h/d/x?alt=sse&api-version=1",
            ),
        ] {
            let url = join_url(base_url, path);
            assert_eq!(url.as_ref().map(url::Url::as_str), Ok(expected));
        }
    }
}
