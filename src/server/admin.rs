//! The routes of the admin listener, which never shares a port with the clients.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::admission::request_id;
use super::live::Sampler;
use super::refusal::{Refusal, respond};
use super::{log_level, notifications, open_streams, origin, web};
use crate::app::Gateway;
use crate::dialect::NATIVE;
use crate::limit::RateLimits;
use crate::model::{self, Error, ErrorCode, RequestId};

/// Every path of the admin listener.
pub(super) fn router(gateway: Arc<Gateway>, sampler: Arc<Sampler>) -> Router {
    let stream_metrics = move |query| stream_metrics(Arc::clone(&sampler), query);
    web::admin_router()
        .route("/metrics", get(metrics))
        .route("/metrics-stream", get(stream_metrics))
        .route("/notifications", post(announce))
        .route("/log-level", get(show_log_level).put(change_log_level))
        .route("/streams", get(list_streams))
        .route("/streams/{id}", delete(cancel_stream))
        .fallback(path_not_found)
        .method_not_allowed_fallback(method_not_allowed)
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
            respond(Err(refusal), NATIVE, &gateway.metrics, &RequestId::random())
        }
    }
}

/// Prometheus' text format, or OpenMetrics for clients that ask for it.
async fn metrics(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    gateway.record_stream_buffer();
    let (kind, text) = match accepted.any(|kinds| kinds.contains("application/openmetrics-text")) {
        true => (OPEN_METRICS, gateway.metrics.open_metrics()),
        false => (PROMETHEUS, gateway.metrics.text()),
    };
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// Samples, once a second.
async fn stream_metrics(
    sampler: Arc<Sampler>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(body) = sampler.view(query.contains_key("history")) else {
        let message = "this replica has as many viewers of `/metrics-stream` as it allows\n";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    let mut response = Response::new(Body::new(body));
    *response.headers_mut() = NATIVE.headers(&model::Request::default());
    response
}

/// Publishes an announcement.
async fn announce(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let id = request_id(request.headers());
    let result = notifications::announce(&gateway, request).await;
    answer(result, &gateway, &id)
}

async fn show_log_level(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    answer(log_level::show(), &gateway, &request_id(&headers))
}

async fn change_log_level(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let id = request_id(request.headers());
    answer(log_level::change(request).await, &gateway, &id)
}

async fn list_streams(
    State(gateway): State<Arc<Gateway>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let result = open_streams::list(&gateway, &query);
    answer(result, &gateway, &request_id(&headers))
}

async fn cancel_stream(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let result = open_streams::cancel(&gateway, &id);
    answer(result, &gateway, &request_id(&headers))
}

async fn path_not_found(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let message = format!("there is no such path; there are {PATHS}");
    let error = Error::new(ErrorCode::NotFound, message);
    answer(Err(error), &gateway, &request_id(&headers))
}

async fn method_not_allowed(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let message =
        "this path does not support this method; the `allow` header lists those that it does";
    let error = Error::new(ErrorCode::MethodNotAllowed, message);
    answer(Err(error), &gateway, &request_id(&headers))
}

fn answer(result: Result<Response, Error>, gateway: &Gateway, id: &RequestId) -> Response {
    let result = result.map_err(|error| Refusal::new(error, RateLimits::default()));
    respond(result, NATIVE, &gateway.metrics, id)
}

/// The paths of the admin listener, as the refusal of an unknown path lists them.
const PATHS: &str = "GET /dashboard, GET /metrics, GET /metrics-stream, POST /notifications, \
                     GET /streams, DELETE /streams/{id}, GET and PUT /log-level, GET /livez, GET /readyz";

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
