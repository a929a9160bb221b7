//! The routes of the client listener.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{ALLOW, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use tower::util::MapRequest;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

use super::admission::{admit, admit_key_holder, admit_reader, observe, request_id};
use super::body::Prompt;
use super::chat;
use super::endpoints::split;
use super::paths;
use super::raw_head::HeadFault;
use super::refusal::{Refusal, respond, respond_observed};
use super::service::Peer;
use super::{endpoints, models, notifications, origin, resume, web};
use crate::app::Gateway;
use crate::dialect::{self, Dialect, NATIVE};
use crate::limit::{Admission, RateLimits};
use crate::model::{Error, ErrorCode};

/// The response headers that web pages may read in every dialect.
const CORS_RESPONSE_HEADERS: &[&str] = &[
    "retry-after",
    "traceparent",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-sluicegate-adapted",
    "x-sluicegate-attempts",
    "x-sluicegate-estimated",
];

/// The paths that belong to no dialect, as the refusal of an unknown path lists them.
const OTHER_PATHS: &str = "GET /, GET /v1/models, GET /v1/models/{name}, GET /v1/streams, \
                           GET and DELETE /v1/streams/{id}, GET /v1/streams/{id}/events, \
                           GET /v1/events, GET /v1/notifications";

/// Answers `GET` and `POST`, but not `HEAD`, which the router would list in `allow`.
const STREAMS: &str = "/v1/streams";

/// Every dialect on its path, and the routes that belong to no dialect.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let mut router = web::router()
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*name}", get(find_model));
    for (path, dialect) in dialect::ALL {
        let dialect: &'static dyn Dialect = *dialect;
        let handler = move |gateway, peer, request| post_prompt(dialect, gateway, peer, request);
        router = router.route(path, post(handler));
        for path in dialect.empty_routes() {
            router = router.route(path, get(StatusCode::NO_CONTENT));
        }
    }
    let router = endpoints::add_routes(router)
        // `get` alone would answer HEAD too, and ask a model for it.
        .route(STREAMS, get(get_stream).head(method_not_allowed))
        .route("/v1/streams/{id}", get(get_status).delete(cancel_stream))
        .route("/v1/streams/{id}/events", get(get_events))
        .route("/v1/events", get(get_multiplexed))
        .route("/v1/notifications", get(get_notifications))
        .fallback(path_not_found)
        // Routes that are added after this call do not get the fallback.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&gateway),
            check_head,
        ))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(cors_layer(&gateway))
        .with_state(gateway);
    // A path is put into the router's form before the router looks at it.
    Router::new().fallback_service(MapRequest::new(router, paths::normalize))
}

/// Refuses a request whose head can be understood in two ways, and one of a web page that must not
/// call this gateway.
async fn check_head(gateway: State<Arc<Gateway>>, request: Request<Body>, next: Next) -> Response {
    let raw = request.extensions().get::<HeadFault>();
    let fault = raw
        .map(|fault| fault.0)
        .or_else(|| paths::fault(request.headers()));
    let error = fault.map(|fault| Error::new(ErrorCode::InvalidRequest, fault));
    let app = gateway.app();
    let config = &app.config;
    let check = || match origin::is_unprotected(config) {
        true => origin::check(&request, config).err(),
        false => None,
    };
    match error.or_else(check) {
        None => next.run(request).await,
        Some(error) => refuse_unrouted(error, gateway, request).await,
    }
}

/// The router moves a handler's future several times, so this one is in a box.
fn post_prompt(
    dialect: &'static dyn Dialect,
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request<Body>,
) -> Pin<Box<dyn Future<Output = Response> + Send>> {
    let (headers, prompt) = split(request);
    Box::pin(async move { answer_prompt(dialect, &gateway, &peer, headers, prompt).await })
}

/// For `EventSource`, which can only send `GET`.
async fn get_stream(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(mut query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let prompt = Prompt::Query {
        model: query.remove("model"),
        prompt: query.remove("prompt"),
    };
    answer_prompt(NATIVE, &gateway, &peer, headers, prompt).await
}

async fn answer_prompt(
    dialect: &'static dyn Dialect,
    gateway: &Gateway,
    peer: &Peer,
    headers: HeaderMap,
    prompt: Prompt,
) -> Response {
    let observation = observe(gateway, dialect.name(), &headers);
    let result = match resume::last_event_id(&headers) {
        Some(id) => {
            prompt.discard().await;
            match admit_key_holder(gateway, peer, &headers).await {
                Ok((access, caller)) => {
                    observation.set_caller(&caller.name);
                    resume::resume(gateway, &access, id).await
                }
                Err(refusal) => Err(refusal),
            }
        }
        None => match admit(gateway, peer, &headers, Admission::Stream).await {
            Ok(admitted) => {
                observation.set_caller(&admitted.caller.name);
                chat::answer(gateway, dialect, admitted, &observation, &headers, prompt).await
            }
            Err(refusal) => {
                // Not held while the body is discarded.
                drop(headers);
                prompt.discard().await;
                Err(refusal)
            }
        },
    };
    respond_observed(result, dialect, &gateway.metrics, &observation)
}

/// Needs no key: the stream's id is the capability to read it.
async fn get_events(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let observation = observe(&gateway, NATIVE.name(), &headers);
    let after = query.get("after").map(String::as_str);
    let last = resume::last_event_id(&headers);
    let result = match admit_reader(&gateway, &peer, &headers).await {
        Ok(access) => resume::events(&gateway, &access, &id, last, after).await,
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, NATIVE, &gateway.metrics, &observation)
}

async fn get_multiplexed(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let observation = observe(&gateway, NATIVE.name(), &headers);
    let named = query.into_iter().filter(|(name, _)| name == "stream");
    let streams: Vec<_> = named.map(|(_, stream)| stream).collect();
    let last = resume::last_event_id(&headers);
    let result = match admit_reader(&gateway, &peer, &headers).await {
        Ok(access) => resume::multiplexed(&gateway, &access, &streams, last).await,
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, NATIVE, &gateway.metrics, &observation)
}

async fn get_status(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let observation = observe(&gateway, NATIVE.name(), &headers);
    let result = match admit_reader(&gateway, &peer, &headers).await {
        Ok(access) => resume::status(&gateway, &access, &id).await,
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, NATIVE, &gateway.metrics, &observation)
}

async fn cancel_stream(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let observation = observe(&gateway, NATIVE.name(), &headers);
    let result = match admit_key_holder(&gateway, &peer, &headers).await {
        Ok((access, caller)) => {
            observation.set_caller(&caller.name);
            resume::cancel(&gateway, &access, &caller, &id).await
        }
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, NATIVE, &gateway.metrics, &observation)
}

async fn get_notifications(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    let observation = observe(&gateway, NATIVE.name(), &headers);
    let result = match admit_key_holder(&gateway, &peer, &headers).await {
        Ok((access, caller)) => {
            observation.set_caller(&caller.name);
            notifications::listen(&gateway, &access, resume::last_event_id(&headers))
        }
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, NATIVE, &gateway.metrics, &observation)
}

async fn list_models(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let form = models::Form::of(&headers, &query);
    let observation = observe(&gateway, form.dialect().name(), &headers);
    let entered = admit(&gateway, &peer, &headers, Admission::Request).await;
    let result = entered.and_then(|admitted| {
        observation.set_caller(&admitted.caller.name);
        models::list(&admitted, form, &query)
    });
    respond_observed(result, form.dialect(), &gateway.metrics, &observation)
}

async fn find_model(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let form = models::Form::of(&headers, &query);
    let observation = observe(&gateway, form.dialect().name(), &headers);
    let entered = admit(&gateway, &peer, &headers, Admission::Request).await;
    let result = entered.and_then(|admitted| {
        observation.set_caller(&admitted.caller.name);
        models::find(&admitted, form, &name)
    });
    respond_observed(result, form.dialect(), &gateway.metrics, &observation)
}

async fn path_not_found(gateway: State<Arc<Gateway>>, request: Request<Body>) -> Response {
    let prompts = dialect::ALL.iter().map(|(path, _)| *path);
    let posted = prompts.chain(endpoints::paths());
    let posted: String = posted.map(|path| format!("POST {path}, ")).collect();
    let message = format!("there is no such path; there are {posted}{OTHER_PATHS}");
    let error = Error::new(ErrorCode::NotFound, message);
    refuse_unrouted(error, gateway, request).await
}

async fn method_not_allowed(gateway: State<Arc<Gateway>>, request: Request<Body>) -> Response {
    let error = if request.headers().contains_key(UPGRADE) {
        // Codex tries WebSocket first, and changes to POST at once when it gets this status.
        let message = "this gateway does not support WebSocket; send the request with POST";
        Error::new(ErrorCode::MethodNotAllowed, message).with_status(StatusCode::UPGRADE_REQUIRED)
    } else {
        Error::new(
            ErrorCode::MethodNotAllowed,
            "this path does not support this method; the `allow` header lists those that it does",
        )
    };
    let streams = request.uri().path() == STREAMS;
    let mut response = refuse_unrouted(error, gateway, request).await;
    if streams {
        let allowed = HeaderValue::from_static("GET,POST");
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// Refuses a request that no route answers. It counts against the limit of its address.
async fn refuse_unrouted(
    error: Error,
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Response {
    let (head, body) = request.into_parts();
    let prompt = Prompt::body(&head, body, None);
    let refusal = match head.extensions.get::<ConnectInfo<Peer>>() {
        Some(ConnectInfo(peer)) => match admit_reader(&gateway, peer, &head.headers).await {
            Ok(access) => access.refusal(error),
            Err(over_limit) => over_limit,
        },
        None => Refusal::new(error, RateLimits::default()),
    };
    let dialect = dialect::at(head.uri.path());
    let response = respond(
        Err(refusal),
        dialect,
        &gateway.metrics,
        &request_id(&head.headers),
    );
    // Not held while the body is discarded.
    drop(head);
    prompt.discard().await;
    response
}

/// Allows web pages of the origins in the current configuration to call.
fn cors_layer(gateway: &Arc<Gateway>) -> CorsLayer {
    let gateway = Arc::clone(gateway);
    let allowed = move |origin: &HeaderValue, _: &Parts| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| gateway.app().config.origins.allow(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // What pages must not set was taken out of the preflight before.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed_headers())
        .max_age(Duration::from_secs(600))
}

/// The headers that web pages may read: those of every dialect, each once.
fn exposed_headers() -> Vec<HeaderName> {
    let mut names = CORS_RESPONSE_HEADERS.to_vec();
    for (_, dialect) in dialect::ALL {
        names.extend(dialect.cors_response_headers());
    }
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(HeaderName::from_static).collect()
}
