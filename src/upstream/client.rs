//! One upstream: its address, its credential, its connections.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::exchange::{self, Body, Endpoint, ExchangeError, Response};
use super::ingest::Ingest;
use super::refusal::classify;
use super::scrub::{scrub, sensitive_value};
use super::sigv4;
use crate::model::{Credential, Error, ErrorCode, ReasoningSigner, Request, Sink, Vendor};
use crate::wire::{Outgoing, Wire};

/// How much of a refusal's body is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// A header's value that is shorter, in bytes, is a switch or a version and no credential.
const MIN_SECRET_LENGTH: usize = 8;
/// How long a refusal's body may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A model API that requests can be sent to.
pub struct Upstream {
    pub name: String,
    pub wire: &'static dyn Wire,
    /// Without a `/` at its end. A query goes behind the wire's own path.
    pub base_url: String,
    pub credential: Option<Credential>,
    /// Sent with every request.
    pub headers: HeaderMap,
    pub vendor: Vendor,
    /// Whose seals it reads: those of its preset's vendor, else its own.
    pub signer: ReasoningSigner,
    /// Where `base_url` leads to.
    pub endpoint: Endpoint,
    /// Bounds one frame of an answer, in bytes.
    pub frame_cap: usize,
}

/// What a request takes along so that it can be followed: W3C trace context, as the client sent it.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub traceparent: Option<HeaderValue>,
    pub tracestate: Option<HeaderValue>,
}

/// An answer that has begun: its status was good, its events are still to come. Dropping it closes
/// the connection.
pub struct Answer {
    body: Body,
    ingest: Ingest,
    secrets: Vec<SecretString>,
    /// What broke it, where that came with the last events.
    failure: Option<Box<Error>>,
}

impl Upstream {
    /// Sends `request` for `model` and waits for the answer's head.
    ///
    /// # Errors
    /// The upstream's refusal, or that it could not be reached; [`ErrorCode::InvalidRequest`] for
    /// what its wire cannot express.
    pub async fn open(
        &self,
        request: &Request,
        model: &str,
        trace: &Trace,
    ) -> Result<Answer, Error> {
        let wire = self.wire.name();
        let client_headers = request.headers_for(wire).cloned();
        let request = self.signer.verify(request.for_wire(wire)?);
        let mut outgoing = self.wire.request(&request, model, &self.vendor)?;
        outgoing.headers.extend(client_headers.unwrap_or_default());
        let answer = self.send(outgoing, trace).await?;
        if !answer.status.is_success() {
            let text = read_refusal(answer.body).await;
            let mut refusal = self.wire.refusal(&text);
            if let Some(refusal) = &mut refusal {
                refusal.message = scrub(&refusal.message, &self.secrets());
            }
            return Err(classify(answer.status, &answer.headers, refusal.as_ref()));
        }
        if let Some(encoding) = answer.headers.get(CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(Error::new(
                ErrorCode::BadUpstreamData,
                "the upstream compressed its answer, which was not asked for",
            ));
        }
        let mut ingest = Ingest::new(self.wire, self.frame_cap);
        if request.answers.is_some() {
            ingest.expect_alternatives();
        }
        Ok(Answer {
            body: answer.body,
            ingest,
            secrets: self.secrets(),
            failure: None,
        })
    }

    /// Sends what a wire made of a request and waits for the answer's head, whatever it says.
    ///
    /// # Errors
    /// [`ErrorCode::UpstreamUnavailable`].
    pub async fn send(&self, outgoing: Outgoing, trace: &Trace) -> Result<Response, Error> {
        let mut headers = outgoing.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in [
            ("traceparent", &trace.traceparent),
            ("tracestate", &trace.tracestate),
        ] {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        headers.extend(self.headers.clone());
        let url = join_url(&self.base_url, &outgoing.path)
            .map_err(|_| Error::new(ErrorCode::Internal, "the upstream's address is no URL"))?;
        let body = outgoing.body.to_string().into_bytes();
        match &self.credential {
            None => {}
            Some(Credential::Bearer(secret)) => {
                let value = format!("Bearer {}", secret.expose_secret());
                headers.insert(AUTHORIZATION, sensitive_value(&value)?);
            }
            Some(Credential::Header(name, secret)) => {
                headers.insert(*name, sensitive_value(secret.expose_secret())?);
            }
            // Last: the signature covers what was set before.
            Some(Credential::SigV4(key)) => {
                sigv4::sign(&mut headers, &url, &body, key, SystemTime::now())?;
            }
        }
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let request = exchange::Request::post(target, self.endpoint.host(), &headers, body);
        let sent = self.endpoint.send(&request).await;
        sent.map_err(|failure| connection_error(&failure))
    }

    /// What is never shown, although the upstream may quote it: the credential, and the values of
    /// the configured headers, which may be credentials too.
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
    /// Reads once what the upstream has ready and hands its events to `sink`. `true` is the end: the
    /// answer's finish was handed over.
    ///
    /// # Errors
    /// What broke the answer, in a read of its own: the events before it came with the last one. The
    /// answer must not be read again after that.
    pub fn poll_read(
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
                tracing::debug!(%error, "answer broke off");
                ingest.flush(sink);
                Err(Error::new(
                    ErrorCode::StreamInterrupted,
                    "the connection to the upstream broke before its answer ended",
                ))
            }
        };
        if let Err(error) = read {
            let error = error.map_message(|text| scrub(text, &self.secrets));
            self.failure = Some(Box::new(error));
        }
        Poll::Ready(Ok(self.ingest.is_finished()))
    }

    /// The answer is given up: hands what was held back until more is known to `sink`. An answer that
    /// broke by itself has done so.
    pub fn flush(&mut self, sink: &mut dyn Sink) {
        self.ingest.flush(sink);
    }

    /// How many lines had invalid UTF-8 that became U+FFFD.
    pub fn repaired_lines(&self) -> u64 {
        self.ingest.repaired_lines()
    }

    /// What is left of a finished answer's body, to be read to its end so that the connection can
    /// be used again.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

/// `path` below `base_url`; either may have a query.
fn join_url(base_url: &str, path: &str) -> Result<Url, url::ParseError> {
    let Some((base, query)) = base_url.split_once('?') else {
        return Url::parse(&format!("{base_url}{path}"));
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    Url::parse(&format!("{base}{path}{separator}{query}"))
}

/// The first bytes of a refusal's body, within a time: the status alone says enough.
async fn read_refusal(mut body: Body) -> Vec<u8> {
    let mut text = Vec::new();
    let read = async {
        while text.len() < MAX_REFUSAL_BYTES {
            let read = poll_fn(|context| {
                body.poll_read(context, |bytes| {
                    text.extend_from_slice(
                        &bytes[..bytes.len().min(MAX_REFUSAL_BYTES - text.len())],
                    );
                })
            });
            if read.await.unwrap_or(true) {
                break;
            }
        }
    };
    // Too slow a body is used as far as it came.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read).await;
    text
}

/// A request that got no answer. The failure's own words would show the address; what it is about is
/// enough.
fn connection_error(failure: &ExchangeError) -> Error {
    let message = match failure {
        ExchangeError::ConnectTimeout => "connecting to the upstream took too long",
        ExchangeError::Connect(_) => "the upstream cannot be reached",
        ExchangeError::Closed(_) | ExchangeError::Malformed(_) => {
            "the upstream closed the connection without an answer"
        }
    };
    tracing::debug!(error = %failure, "request failed");
    Error::new(ErrorCode::UpstreamUnavailable, message)
}

#[cfg(test)]
mod tests {
    use super::join_url;

    #[test]
    fn a_query_stays_behind_the_path() {
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
