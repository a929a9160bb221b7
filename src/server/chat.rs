//! Answers prompt requests, for every dialect.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::admission::Admitted;
use super::body::Prompt;
use super::parsing;
use super::refusal::{Refusal, write_limit_headers};
use super::session::find_session;
use super::stream_builder::{StreamBuilder, StreamParts};
use crate::app::Gateway;
use crate::config::ModelConfig;
use crate::dialect::{AnswerInfo, Dialect};
use crate::limit::{Estimate, MemoryReservation};
use crate::model::{Error, Request, StreamId};
use crate::route::Route;
use crate::stream::{ClientSink, Retention, StreamSettings, collect, open, open_in_background};
use crate::telemetry::{Observation, input_messages};
use crate::upstream::Trace;

/// Names the fields of the request that were changed or left out, because the upstream does not accept
/// them as they are.
const ADAPTED: HeaderName = HeaderName::from_static("x-sluicegate-adapted");
const MAX_ADAPTED: usize = 1024;

/// Answers an admitted request.
pub(super) async fn answer(
    gateway: &Gateway,
    dialect: &'static dyn Dialect,
    admitted: Admitted,
    observation: &Observation,
    headers: &HeaderMap,
    prompt: Prompt,
) -> Result<Response, Refusal> {
    let limits = admitted.permit.limits();
    let refused = |error| Refusal::new(error, limits);
    let mut memory = gateway.memory.reservation();
    memory.reserve_headers(headers).map_err(refused)?;
    let limit = admitted.app.config.limits.body;
    let prompt = prompt.read(headers, limit, &mut memory).await;
    let (body, path_model) = prompt.map_err(refused)?;
    let arrived = Instant::now();
    let app = Arc::clone(&admitted.app);
    let caller = &admitted.caller;
    let parse = move |body: &Bytes| dialect.parse(body);
    let parsed = parsing::parse(parse, &app, caller, body, path_model, &mut memory).await;
    let (mut request, body) = parsed.map_err(refused)?;
    dialect.read_headers(headers, &mut request);
    let (model, mut route) = app
        .route(&request.model, &admitted.caller)
        .map_err(refused)?;
    if let (true, Some(native)) = (model.continues, &mut request.native_fields) {
        // Another target could not continue the vendor's own events.
        native.verbatim = false;
    }
    if route.has_choice() {
        let affinity = &model.routing.affinity;
        route.session = find_session(affinity, headers, &request, &caller.name);
    }
    observation.set_model(&model.name);
    if observation.wants_content() {
        observation.set_input(input_messages(&request));
    }
    let estimate = Estimate::of(&request, model.reserve_tokens);
    let account = admitted.app.account(&admitted.caller);
    let limiter = &admitted.app.limiter;
    let reserved = limiter.reserve(admitted.permit, account.as_ref(), estimate);
    let permit = reserved
        .await
        .map_err(|refused| Refusal::new(refused.error, refused.limits))?;
    let limits = permit.limits();
    let refused = |error| Refusal::new(error, limits);
    let admitted = Admitted { permit, ..admitted };
    let context = RequestContext {
        gateway,
        dialect,
        observation,
        headers,
    };
    let answer = {
        let mut prepared = context.prepare(admitted, model, route, request, body, memory);
        prepared.trace.arrived = Some(arrived);
        prepared.answer()
    };
    let mut response = answer.await.map_err(refused)?;
    write_limit_headers(limits, dialect, response.headers_mut());
    Ok(response)
}

/// A parsed request, and all that its answer needs.
struct PreparedAnswer {
    request: Request,
    trace: Trace,
    sink: ClientSink,
    settings: StreamSettings,
    /// For dialects whose streams can be resumed.
    retention: Option<Retention>,
    in_background: bool,
    headers: HeaderMap,
}

/// What is known about a request before its body is parsed.
pub(super) struct RequestContext<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) observation: &'a Observation,
    pub(super) headers: &'a HeaderMap,
}

impl RequestContext<'_> {
    fn prepare(
        &self,
        admitted: Admitted,
        model: &ModelConfig,
        route: Route,
        request: Request,
        body: Bytes,
        memory: MemoryReservation,
    ) -> PreparedAnswer {
        let Self {
            gateway,
            dialect,
            observation,
            headers,
        } = *self;
        let Admitted {
            app,
            caller,
            permit,
            open,
        } = admitted;
        let stream = StreamId::random();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let info = AnswerInfo {
            stream,
            model: request.model.clone(),
            // A clock before 1970 is no reason to refuse the request.
            created: now.map_or(0, |since| since.as_secs()),
        };
        let encoder = dialect.encoder(&request, info);
        let kept = model.continues && body.len() <= app.config.resume.buffer;
        let builder = StreamBuilder {
            gateway,
            app: &app,
            dialect,
            caller: &caller,
            model,
            stream,
            observation: observation.clone(),
            route,
            permit,
            open,
            memory,
        };
        let StreamParts {
            mut sink,
            settings,
            retention,
        } = builder.build(encoder, &request.model, kept.then_some(body));
        if !request.stream || dialect.buffers_content() {
            sink.limit_content(app.config.limits.frame);
        }
        PreparedAnswer {
            trace: Trace::of(observation),
            sink,
            settings,
            retention: dialect.supports_resume().then_some(retention),
            in_background: prefers_async(headers),
            headers: dialect.headers(&request),
            request,
        }
    }
}

/// An answer that has begun.
enum BegunAnswer<W, S> {
    Whole(W),
    Stream(S),
    InBackground(StreamId),
}

impl PreparedAnswer {
    /// Begins the answer with the call, so that the future does not hold all that the answer is made from.
    fn answer(self) -> impl Future<Output = Result<Response, Error>> + Send {
        let Self {
            request,
            trace,
            sink,
            settings,
            retention,
            in_background,
            headers,
        } = self;
        let report = Arc::clone(sink.report());
        let begun = match retention {
            _ if !request.stream => BegunAnswer::Whole(collect(request, trace, sink, settings)),
            // Without a window nobody could read the stream later, so the answer is the stream.
            Some(retention) if in_background && !retention.window.is_zero() => {
                let stream = retention.stream;
                open_in_background(request, trace, sink, settings, retention);
                BegunAnswer::InBackground(stream)
            }
            retention => BegunAnswer::Stream(open(request, trace, sink, settings, retention)),
        };
        async move {
            let body = match begun {
                BegunAnswer::Whole(whole) => whole.await?.into(),
                BegunAnswer::Stream(stream) => Body::new(stream.await?),
                BegunAnswer::InBackground(stream) => return Ok(accepted_response(stream)),
            };
            let mut response = Response::new(body);
            *response.headers_mut() = headers;
            // The gateway's own limits replace the vendor's of the same name.
            if let Some(limits) = report.rate_limits() {
                response.headers_mut().extend(limits.clone());
            }
            if let Some(changes) = adapted_header(report.changes()) {
                response.headers_mut().insert(ADAPTED, changes);
            }
            Ok(response)
        }
    }
}

/// The fields of the request that were changed for the upstream: at most [`MAX_ADAPTED`] bytes. `None`
/// if there are none.
fn adapted_header(changes: &[String]) -> Option<HeaderValue> {
    let is_name = |name: &&String| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
        !name.is_empty() && name.chars().all(allowed)
    };
    let mut list = String::new();
    for name in changes.iter().filter(is_name) {
        let separator = if list.is_empty() { "" } else { ", " };
        if list.len() + separator.len() + name.len() > MAX_ADAPTED {
            list.push_str(", ...");
            break;
        }
        list.push_str(separator);
        list.push_str(name);
    }
    HeaderValue::try_from(list)
        .ok()
        .filter(|list| !list.is_empty())
}

/// 202: the stream runs, and is read at `/v1/streams/{id}/events`.
fn accepted_response(stream: StreamId) -> Response {
    let events = format!("/v1/streams/{stream}/events");
    let body = json!({"stream": stream.to_string(), "events": events});
    let headers = [
        (LOCATION, format!("/v1/streams/{stream}")),
        (
            HeaderName::from_static("preference-applied"),
            "respond-async".to_owned(),
        ),
    ];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}

/// `prefer: respond-async`: <https://www.rfc-editor.org/rfc/rfc7240#section-4.1>.
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter();
    let preferences = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    preferences
        .filter_map(|preference| preference.split(';').next())
        .any(|name| name.trim().eq_ignore_ascii_case("respond-async"))
}
