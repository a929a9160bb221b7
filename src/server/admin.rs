//! The routes of the admin listener, which never shares a port with the clients.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::admission::request_id;
use super::refusal::{Refusal, refuse, respond};
use super::{notifications, origin};
use crate::app::Gateway;
use crate::dialect::NATIVE;
use crate::limit::RateLimits;
use crate::model::RequestId;

/// Every path of the admin listener.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/notifications", post(announce))
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(&gateway),
            check_caller,
        ))
        // Probes may come by any name. They are added after the check, which they do not get.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(gateway)
}

/// The admin listener has no keys, so web pages of other sites must not call it.
async fn check_caller(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let checked = origin::check(&request, &gateway.app().config);
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let refusal = Refusal::new(error, RateLimits::default());
            refuse(&refusal, NATIVE, &RequestId::random(), &gateway.metrics)
        }
    }
}

/// Prometheus' text format, or OpenMetrics for clients that ask for it.
async fn metrics(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    let (kind, text) = match accepted.any(|kinds| kinds.contains("application/openmetrics-text")) {
        true => (OPEN_METRICS, gateway.metrics.open_metrics()),
        false => (PROMETHEUS, gateway.metrics.text()),
    };
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// Publishes an announcement.
async fn announce(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let id = request_id(request.headers());
    let result = notifications::announce(&gateway, request).await;
    let result = result.map_err(|error| Refusal::new(error, RateLimits::default()));
    respond(result, NATIVE, &gateway.metrics, &id)
}

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// 503 as soon as the gateway drains, so that load balancers send no new clients here.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    if gateway.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else {
        "ready\n".into_response()
    }
}
