//! Errors as HTTP responses, in the dialect of the request.

use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::dialect::{Dialect, RateStatus};
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, Origin, RequestId};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Why a request is refused, and the state of the limits that counted it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: Error,
    pub(super) limits: RateLimits,
}

impl Refusal {
    pub(super) fn new(error: Error, limits: RateLimits) -> Self {
        Self { error, limits }
    }
}

/// The response to a request, with its id.
pub(super) fn respond(
    result: Result<Response, Refusal>,
    dialect: &dyn Dialect,
    metrics: &Metrics,
    request: &RequestId,
) -> Response {
    match result {
        Ok(mut response) => {
            set_request_id(&mut response, dialect, request);
            response
        }
        Err(refusal) => refuse(&refusal, dialect, request, metrics),
    }
}

/// The response to a refused request; counts and logs the refusal.
pub(super) fn refuse(
    refusal: &Refusal,
    dialect: &dyn Dialect,
    request: &RequestId,
    metrics: &Metrics,
) -> Response {
    let error = &refusal.error;
    let code = error.code();
    metrics.record_refusal(code.as_str());
    // A message about the client's request may quote it, and prompts must not be logged.
    let logged = (code.origin() != Origin::Client).then(|| error.message());
    tracing::info!(
        request = request.as_str(),
        dialect = dialect.name(),
        code = code.as_str(),
        status = error.status().as_u16(),
        message = logged,
        "request refused"
    );
    let vendor = dialect.wire().and_then(|wire| error.vendor_refusal(wire));
    let (status, body) = match vendor {
        Some(vendor) => (vendor.status, vendor.body.clone().into_bytes()),
        None => (error.status(), dialect.refusal(error, request)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == ErrorCode::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if code == ErrorCode::Draining {
        // The client's next connection reaches another replica.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.extend(dialect.refusal_headers(error, request));
    if let Some(vendor) = vendor {
        headers.extend(vendor.headers.clone());
    }
    write_limit_headers(refusal.limits, dialect, headers);
    set_request_id(&mut response, dialect, request);
    response
}

/// Writes the state of the limits in the dialect's headers.
pub(super) fn write_limit_headers(
    limits: RateLimits,
    dialect: &dyn Dialect,
    headers: &mut HeaderMap,
) {
    limits.write(headers);
    let now = SystemTime::now();
    for (counted, status) in limits.each() {
        let status = RateStatus {
            limit: status.limit,
            remaining: status.remaining,
            reset: now + status.reset,
        };
        dialect.limit_headers(counted, status, headers);
    }
}

/// Sets the request's id in its response.
pub(super) fn set_request_id(response: &mut Response, dialect: &dyn Dialect, request: &RequestId) {
    let Ok(value) = HeaderValue::from_str(request.as_str()) else {
        return;
    };
    if let Some(name) = dialect.request_id_header() {
        response.headers_mut().insert(name, value.clone());
    }
    response.headers_mut().insert(REQUEST_ID, value);
}
