//! One upstream: its address, its credential and its connections.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::answer::Answer;
use super::exchange::{Endpoint, ExchangeError, Response};
use super::ingest::Ingest;
use super::rate_limits::rate_limits;
use super::refused_answer;
use super::request_url::{join_url, target};
use super::scrub::sensitive_value;
use super::sigv4;
use super::trace::Trace;
use crate::model::{Credential, Error, ErrorCode, ReasoningSigner, Request, Vendor};
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
                let url = join_url(&self.base_url, &path)?;
                sigv4::sign(&mut headers, &url, &body, key, SystemTime::now())?;
            }
        }
        let target = target(&self.base_url, &path)?;
        let request = self.endpoint.post(&target, &headers, body);
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
    let is_unanswered = matches!(
        failure,
        ExchangeError::Closed(_) | ExchangeError::Malformed(_)
    );
    let error = Error::new(ErrorCode::UpstreamUnavailable, message).with_source(failure);
    match is_unanswered {
        true => error.with_no_answer(),
        false => error,
    }
}
