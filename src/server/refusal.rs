//! Errors as HTTP responses, in the dialect of the request.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::access::Caller;
use crate::dialect::{Dialect, RateStatus};
use crate::limit::RateLimits;
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, RequestId};
use crate::telemetry::Observation;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every attempt, in order: its upstream, its model and its outcome.
const ATTEMPTS: HeaderName = HeaderName::from_static("x-sluicegate-attempts");

/// Why a request is refused, and the state of the limits that counted it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: Error,
    pub(super) limits: RateLimits,
    /// Whose request it is, if that is known.
    pub(super) caller: Option<Arc<Caller>>,
}

impl Refusal {
    pub(super) fn new(error: Error, limits: RateLimits) -> Self {
        Self {
            error,
            limits,
            caller: None,
        }
    }
}

/// The response to a request, with its id. Its line of the access log is written here.
pub(super) fn respond(
    result: Result<Response, Refusal>,
    dialect: &dyn Dialect,
    metrics: &Metrics,
    request: &RequestId,
) -> Response {
    let observation = Observation::new(request.clone(), dialect.name(), &HeaderMap::new(), None);
    respond_observed(result, dialect, metrics, &observation)
}

/// As [`respond`], for a request that is observed until its answer has ended.
pub(super) fn respond_observed(
    result: Result<Response, Refusal>,
    dialect: &dyn Dialect,
    metrics: &Metrics,
    observation: &Observation,
) -> Response {
    let request = observation.request();
    let mut response = match result {
        Ok(mut response) => {
            set_request_id(&mut response, dialect, request);
            response
        }
        Err(refusal) => {
            observation.set_refused(&refusal.error);
            if let Some(caller) = &refusal.caller {
                observation.set_caller(&caller.name);
            }
            refuse(&refusal, dialect, request, metrics)
        }
    };
    observation.set_status(response.status());
    let attempts = observation.attempts().map(HeaderValue::try_from);
    if let Some(Ok(attempts)) = attempts {
        response.headers_mut().insert(ATTEMPTS, attempts);
    }
    response
}

/// The response to a refused request; counts the refusal.
fn refuse(
    refusal: &Refusal,
    dialect: &dyn Dialect,
    request: &RequestId,
    metrics: &Metrics,
) -> Response {
    let error = &refusal.error;
    let code = error.code();
    metrics.record_refusal(code.as_str());
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
