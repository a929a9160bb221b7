//! The forms of one path and of one request head that clients send, as the one form that the router
//! knows.
//!
//! SDKs differ in what they put between an address and an API's path: some add `/v1`, some take it
//! for part of the address, Azure's put the model into the path.

use axum::body::Body;
use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::dialect;

/// The model that the path of a request names, in the extensions of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathModel(pub(super) String);

/// The first segments of the paths under `/v1` that belong to no dialect.
const OTHERS: &[&str] = &[
    "audio",
    "completions",
    "embeddings",
    "events",
    "images",
    "models",
    "moderations",
    "notifications",
    "rerank",
];

/// Headers that a web page must not set, because they say something about the connection or about
/// other hops, on which a gateway or a proxy relies.
const NOT_FOR_PAGES: &[&str] = &[
    "connection",
    "cookie",
    "forwarded",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
const NOT_FOR_PAGES_PREFIXES: &[&str] = &["proxy-", "sec-", "x-forwarded-", "x-real-"];

/// Puts a request's path into the router's form and takes out of a preflight what pages must not
/// set.
pub(super) fn normalize(mut request: Request<Body>) -> Request<Body> {
    if let Some((path, model)) = normal_path(request.uri().path()) {
        let query = request.uri().query();
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let mut parts = request.uri().clone().into_parts();
        // What was a path and a query still is.
        parts.path_and_query = PathAndQuery::try_from(format!("{path}{query}")).ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(model) = model {
            request.extensions_mut().insert(PathModel(model));
        }
    }
    if request.method() == Method::OPTIONS {
        filter_preflight(request.headers_mut());
    }
    request
}

/// What is wrong with a head, if anything: it must name one host, and one framing of its body.
pub(super) fn fault(headers: &HeaderMap) -> Option<&'static str> {
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Some("the request has more than one `host` header");
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (encodings.next(), encodings.next()) {
        (None, _) => None,
        (Some(value), None) if is_chunked(value) => None,
        _ => Some("`transfer-encoding` must be `chunked` and nothing else"),
    }
}

/// The router's form of a path, and the model that it names; none where it has that form already.
fn normal_path(path: &str) -> Option<(String, Option<String>)> {
    let trimmed = match path.trim_end_matches('/') {
        "" => return None,
        trimmed => trimmed,
    };
    if let Some(rest) = trimmed.strip_prefix("/openai/deployments/") {
        let (model, operation) = rest.split_once('/')?;
        let model = percent_decoded(model)?;
        return Some((format!("/v1/{operation}"), Some(model)));
    }
    let short = match trimmed.strip_prefix("/openai/v1/") {
        Some(rest) => format!("/v1/{rest}"),
        None if is_without_version(trimmed) => format!("/v1{trimmed}"),
        None => trimmed.to_owned(),
    };
    (short != path).then_some((short, None))
}

/// Whether a path is one of the gateway's but for its `/v1`.
fn is_without_version(path: &str) -> bool {
    let first = |path: &str| path.split('/').nth(1).map(str::to_owned);
    let Some(segment) = first(path) else {
        return false;
    };
    let dialects = dialect::ALL.iter();
    let mut roots = dialects.filter_map(|(path, _)| first(path.strip_prefix("/v1")?));
    OTHERS.contains(&segment.as_str()) || roots.any(|root| root == segment)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// A preflight is answered with what it asks for, so that what is not in it is not allowed.
fn filter_preflight(headers: &mut HeaderMap) {
    let asked = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = asked.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let allowed: Vec<&str> = names
        .map(str::trim)
        .filter(|name| is_for_pages(name))
        .collect();
    let allowed = HeaderValue::try_from(allowed.join(","));
    headers.remove(ACCESS_CONTROL_REQUEST_HEADERS);
    if let Ok(allowed) = allowed
        && !allowed.is_empty()
    {
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, allowed);
    }
}

fn is_for_pages(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    HeaderName::try_from(name).is_ok()
        && !NOT_FOR_PAGES.contains(&lower.as_str())
        && !NOT_FOR_PAGES_PREFIXES
            .iter()
            .any(|prefix| lower.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_into_the_routers_form() {
        for (path, normal) in [
            ("/", None),
            ("/v1/messages", None),
            ("/style.css", None),
            ("/nothing", None),
            ("/openai", None),
            ("/openai/deployments/m", None),
            ("/v1/messages/", Some("/v1/messages")),
            ("/messages", Some("/v1/messages")),
            ("/messages/count_tokens/", Some("/v1/messages/count_tokens")),
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/responses", Some("/v1/responses")),
            ("/streams/st_1/events", Some("/v1/streams/st_1/events")),
            ("/models", Some("/v1/models")),
            ("/embeddings", Some("/v1/embeddings")),
            ("/openai/v1/responses", Some("/v1/responses")),
            ("/openai/v1/chat/completions/", Some("/v1/chat/completions")),
        ] {
            let expected = normal.map(|path| (path.to_owned(), None));
            assert_eq!(normal_path(path), expected, "{path}");
        }
        let azure = "/openai/deployments/local%2Fqwen/chat/completions";
        let expected = (
            "/v1/chat/completions".to_owned(),
            Some("local/qwen".to_owned()),
        );
        assert_eq!(normal_path(azure), Some(expected));
    }

    #[test]
    fn a_query_stays_with_its_path() {
        let request = Request::get("http://h/models?limit=5").body(Body::empty());
        let uri = normalize(request.unwrap()).uri().to_string();
        assert_eq!(uri, "http://h/v1/models?limit=5");
    }

    #[test]
    fn a_preflight_keeps_what_pages_may_set() {
        let request = Request::options("/v1/messages").header(
            ACCESS_CONTROL_REQUEST_HEADERS,
            "x-stainless-os, X-Title,cookie, x-forwarded-for, sec-fetch-site,no name",
        );
        let request = normalize(request.body(Body::empty()).unwrap());
        let kept = &request.headers()[ACCESS_CONTROL_REQUEST_HEADERS];
        assert_eq!(kept, "x-stainless-os,X-Title");
    }

    #[test]
    fn a_head_names_one_host_and_one_framing() {
        let headers = |list: &[(&'static str, &'static str)]| -> HeaderMap {
            let list = list.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            list.collect()
        };
        assert_eq!(fault(&headers(&[("host", "x")])), None);
        assert_eq!(fault(&headers(&[("transfer-encoding", "Chunked")])), None);
        for list in [
            &[("host", "x"), ("host", "x")][..],
            &[("transfer-encoding", "identity, chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
        ] {
            assert!(fault(&headers(list)).is_some(), "{list:?}");
        }
    }
}
