//! Reads an answer that is not 2xx and makes the client's error of it.

use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use secrecy::SecretString;

use super::exchange::{Body, Response};
use super::rate_limits::rate_limits;
use super::refusal::classify;
use super::scrub::scrub;
use crate::model::{Error, ErrorCode, VendorRefusal};
use crate::wire::Wire;

/// How much of a refusal's body is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// How much of a refusal's body is logged if the wire cannot parse it, in bytes.
const EXCERPT_BYTES: usize = 512;
/// The headers of a refusal that a client of the same protocol gets.
const VENDOR_HEADERS: [&str; 4] = [
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
];
/// How long reading a refusal's body may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The error of an upstream's refusal, without the `secrets`. For a client that speaks the upstream's
/// protocol, the wire `client`, the error has the refusal as it came too.
pub(super) async fn read(
    wire: &dyn Wire,
    answer: Response,
    secrets: &[SecretString],
    client: Option<&'static str>,
) -> Error {
    let (status, headers) = (answer.status, answer.headers);
    let text = read_body(answer.body).await;
    let mut refusal = wire.refusal(&text);
    if let Some(refusal) = &mut refusal {
        refusal.message = scrub(&refusal.message, secrets);
    }
    let error = classify(status, &headers, refusal.as_ref());
    let words = match refusal {
        Some(refusal) => refusal.message,
        None => excerpt(&text, secrets),
    };
    let error = error
        .with_upstream_status(status)
        .with_retry_advice(retry_advice(&headers))
        .with_source(UpstreamAnswer { status, words });
    // What is about the gateway's own credential is not the client's business, and a client must not
    // follow a redirect of the upstream.
    let is_clients = error.code() != ErrorCode::UpstreamAuth
        && (status.is_client_error() || status.is_server_error());
    let is_whole = text.len() < MAX_REFUSAL_BYTES;
    let Some(client) = client.filter(|_| is_clients && is_whole) else {
        return error;
    };
    let kept = VENDOR_HEADERS.iter().filter_map(|name| {
        let value = headers.get(*name)?;
        Some((HeaderName::from_static(name), value.clone()))
    });
    let mut kept: HeaderMap = kept.collect();
    kept.extend(rate_limits(&headers));
    error.with_vendor_refusal(VendorRefusal {
        wire: client,
        status,
        headers: kept,
        body: scrub(&String::from_utf8_lossy(&text), secrets),
    })
}

/// The first bytes of a refusal's body. A body that is too slow is cut: the status alone is enough
/// to classify it.
pub(super) async fn read_body(mut body: Body) -> Vec<u8> {
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
    // On a timeout, what was read so far is used.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read).await;
    text
}

/// The advice whether to try again that OpenAI and Anthropic give their SDKs.
fn retry_advice(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// The beginning of a refusal's body that the wire cannot parse, for the log.
fn excerpt(text: &[u8], secrets: &[SecretString]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(EXCERPT_BYTES)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    scrub(&words.join(" "), secrets)
}

/// An upstream's refusal in its own words: the cause of the error that the client gets.
#[derive(Debug)]
struct UpstreamAnswer {
    status: StatusCode,
    /// Without credentials.
    words: String,
}

impl fmt::Display for UpstreamAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status.as_u16())?;
        match self.words.as_str() {
            "" => Ok(()),
            words => write!(f, ": {words}"),
        }
    }
}

impl std::error::Error for UpstreamAnswer {}
