//! AWS Signature Version 4,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
//!
//! A request is written in a canonical form, that form is hashed, and the hash is signed with a key
//! that is valid for one day, region and service.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use url::Url;

use super::scrub::sensitive_value;
use crate::model::{Error, SigningKey};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Everything but RFC 3986's unreserved characters and the slashes between segments. The `%` of a
/// path that is already encoded is encoded again, as all services but S3 demand.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Adds the signature of a `POST` and its headers to `headers`. All headers to be signed must
/// already be there. A query of `url` must be one parameter of unreserved characters.
///
/// # Errors
/// [`crate::model::ErrorCode::Internal`] if the credential cannot be a header value.
pub(super) fn sign(
    headers: &mut HeaderMap,
    url: &Url,
    body: &[u8],
    key: &SigningKey,
    now: SystemTime,
) -> Result<(), Error> {
    let time = timestamp(now);
    headers.insert("x-amz-date", sensitive_value(&time)?);
    if let Some(token) = &key.session_token {
        headers.insert(
            "x-amz-security-token",
            sensitive_value(token.expose_secret())?,
        );
    }
    let mut signed = vec![(HOST.to_string(), host(url))];
    for (name, value) in headers.iter().filter(|(name, _)| is_signed(name)) {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        signed.push((name.to_string(), value));
    }
    let query = url.query().unwrap_or_default();
    let request = Canonical::new("POST", url.path(), query, signed, body);
    headers.insert(
        AUTHORIZATION,
        sensitive_value(&request.authorization(key, &time))?,
    );
    Ok(())
}

/// Headers that a proxy may change are left out; headers that AWS demands are included.
fn is_signed(name: &HeaderName) -> bool {
    name == CONTENT_TYPE || name.as_str().starts_with("x-amz")
}

/// The value of the `host` header.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `20150830T123600Z`
fn timestamp(now: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_seconds(now).to_string();
    text.retain(|c| !matches!(c, '-' | ':'));
    text
}

/// A request in canonical form, and the names of its signed headers.
struct Canonical {
    text: String,
    signed_headers: String,
}

impl Canonical {
    fn new(
        method: &str,
        path: &str,
        query: &str,
        mut headers: Vec<(String, String)>,
        body: &[u8],
    ) -> Self {
        // The values of a repeated name keep their order.
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        let mut lines: Vec<(String, String)> = Vec::new();
        for (name, value) in headers {
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            match lines.last_mut() {
                Some((last, values)) if *last == name => {
                    values.push(',');
                    values.push_str(&value);
                }
                _ => lines.push((name, value)),
            }
        }
        let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        let signed_headers = names.join(";");
        // An empty line ends the headers.
        let mut text = format!("{method}\n{}\n{query}\n", canonical_path(path));
        for (name, value) in &lines {
            text.push_str(name);
            text.push(':');
            text.push_str(value);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&signed_headers);
        text.push('\n');
        text.push_str(&hex(&Sha256::digest(body)));
        Self {
            text,
            signed_headers,
        }
    }

    /// The `authorization` header's value. `time` as [`timestamp`] gives it.
    fn authorization(&self, key: &SigningKey, time: &str) -> String {
        let date = time.split('T').next().unwrap_or_default();
        let scope = format!("{date}/{}/{}/aws4_request", key.region, key.service);
        let hash = hex(&Sha256::digest(self.text.as_bytes()));
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        let secret = format!("AWS4{}", key.secret_access_key.expose_secret());
        let mut day_key = mac(secret.as_bytes(), date);
        for step in [key.region.as_str(), key.service, "aws4_request"] {
            day_key = mac(day_key.as_ref(), step);
        }
        format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
            key.access_key_id.expose_secret(),
            self.signed_headers,
            hex(mac(day_key.as_ref(), &text).as_ref()),
        )
    }
}

/// Removes `.`, `..` and doubled slashes, and encodes the rest.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    let path = format!("/{}{end}", segments.join("/"));
    utf8_percent_encode(&path, ESCAPED).to_string()
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
