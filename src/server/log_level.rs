//! The level of the log, which an operator changes while the gateway runs.

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use http::Request;

use crate::model::{Error, ErrorCode};
use crate::telemetry::log_level;

/// The longest filter, in bytes.
const MAX_FILTER: usize = 4096;

/// `GET /log-level`: the filter in force, in the form of `RUST_LOG`.
pub(super) fn show() -> Result<Response, Error> {
    let filter = log_level::get().ok_or_else(|| {
        let problem = "this process cannot change its log level";
        Error::new(ErrorCode::NotFound, problem)
    })?;
    Ok(format!("{filter}\n").into_response())
}

/// `PUT /log-level`: puts the filter in the body in force until the next change or restart.
pub(super) async fn change(request: Request<Body>) -> Result<Response, Error> {
    let body = to_bytes(request.into_body(), MAX_FILTER).await;
    let body = body.map_err(|_| {
        let problem = format!("the filter is longer than {MAX_FILTER} bytes");
        Error::new(ErrorCode::PayloadTooLarge, problem)
    })?;
    let filter = std::str::from_utf8(&body).unwrap_or_default().trim();
    if filter.is_empty() {
        let problem =
            "the body must be a filter in the form of RUST_LOG, such as `info,sluicegate=debug`";
        return Err(Error::new(ErrorCode::InvalidRequest, problem));
    }
    log_level::set(filter).map_err(|problem| {
        let problem = format!("this is no filter in the form of RUST_LOG: {problem}");
        Error::new(ErrorCode::InvalidRequest, problem)
    })?;
    tracing::warn!(filter, "the log level was changed");
    show()
}
