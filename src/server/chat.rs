//! Answers prompt requests, for every dialect.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, EXPECT, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde_json::json;

use super::admission::Admitted;
use super::parsing;
use super::refusal::{Refusal, write_limit_headers};
use super::stream_builder::{StreamBuilder, StreamParts};
use crate::app::Gateway;
use crate::config::ModelConfig;
use crate::dialect::{AnswerInfo, Dialect, native};
use crate::limit::{Estimate, MemoryReservation};
use crate::model::{Error, ErrorCode, Request, RequestId, StreamId};
use crate::route::Route;
use crate::stream::{ClientSink, Retention, StreamSettings, collect, open, open_in_background};
use crate::upstream::Trace;

/// The deadline for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long, and up to how many bytes, the body of a refused request is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
const DISCARD_CAP: usize = 16 * 1024 * 1024;

/// Where a request's prompt comes from.
pub(super) enum Prompt {
    Body {
        body: Body,
        /// The model that the path names, if it names one.
        model: Option<String>,
        /// Whether the body of a refused request must be read; see [`discard_body`].
        discards: bool,
    },
    /// The query of a `GET`.
    Query {
        model: Option<String>,
        prompt: Option<String>,
    },
}

impl Prompt {
    /// The body of a request with this head.
    pub(super) fn body(head: &Parts, body: Body, model: Option<String>) -> Self {
        Self::Body {
            body,
            model,
            discards: head.version != Version::HTTP_2 && !head.headers.contains_key(EXPECT),
        }
    }

    /// Discards the prompt of a request that is refused without reading it.
    pub(super) async fn discard(self) {
        if let Self::Body {
            body,
            discards: true,
            ..
        } = self
        {
            discard_body(body).await;
        }
    }
}

/// Answers an admitted request.
pub(super) async fn answer(
    gateway: &Gateway,
    dialect: &'static dyn Dialect,
    admitted: Admitted,
    request_id: &RequestId,
    headers: &HeaderMap,
    prompt: Prompt,
) -> Result<Response, Refusal> {
    let limits = admitted.permit.limits();
    let refused = |error| Refusal::new(error, limits);
    let mut memory = gateway.memory.reservation();
    memory.reserve_headers(headers).map_err(refused)?;
    let (body, path_model) = match prompt {
        Prompt::Query { model, prompt } => (native::body_from_query(model, prompt), None),
        Prompt::Body {
            body,
            model,
            discards,
        } => {
            let limit = admitted.app.config.limits.body;
            let body = read_body(body, discards, headers, limit, &mut memory).await;
            (body, model)
        }
    };
    let body = body.map_err(refused)?;
    let app = Arc::clone(&admitted.app);
    let caller = &admitted.caller;
    let parsed = parsing::parse(dialect, &app, caller, body, path_model, &mut memory).await;
    let (mut request, body) = parsed.map_err(refused)?;
    dialect.read_headers(headers, &mut request);
    let (model, route) = app
        .route(&request.model, &admitted.caller)
        .map_err(refused)?;
    if let (true, Some(native)) = (model.continues, &mut request.native_fields) {
        // Another target could not continue the vendor's own events.
        native.verbatim = false;
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
        request_id,
        headers,
    };
    let prepared = context.prepare(admitted, model, route, request, body, memory);
    let mut response = prepared.answer().await.map_err(refused)?;
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
struct RequestContext<'a> {
    gateway: &'a Gateway,
    dialect: &'a dyn Dialect,
    request_id: &'a RequestId,
    headers: &'a HeaderMap,
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
            request_id,
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
            request_id: request_id.clone(),
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
            trace: trace(request_id, headers),
            sink,
            settings,
            retention: dialect.supports_resume().then_some(retention),
            in_background: prefers_async(headers),
            headers: dialect.headers(&request),
            request,
        }
    }
}

impl PreparedAnswer {
    async fn answer(self) -> Result<Response, Error> {
        let Self {
            request,
            trace,
            sink,
            settings,
            retention,
            ..
        } = self;
        let headers = self.headers;
        let body = match retention {
            _ if !request.stream => collect(request, trace, sink, settings).await?.into(),
            // Without a window nobody could read the stream later, so the answer is the stream.
            Some(retention) if self.in_background && !retention.window.is_zero() => {
                let stream = retention.stream;
                open_in_background(request, trace, sink, settings, retention);
                return Ok(accepted_response(stream));
            }
            retention => Body::new(open(request, trace, sink, settings, retention).await?),
        };
        let mut response = Response::new(body);
        *response.headers_mut() = headers;
        Ok(response)
    }
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

fn trace(request: &RequestId, headers: &HeaderMap) -> Trace {
    Trace {
        request: Some(request.clone()),
        traceparent: headers.get("traceparent").cloned(),
        tracestate: headers.get("tracestate").cloned(),
    }
}

/// Refuses a body that is still encoded: the router has decoded what it can, and removed the header.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] with the status 415.
fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    let encoding = headers.get(CONTENT_ENCODING);
    if encoding.is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "content-encoding: send the body as gzip or zstd, or without an encoding";
    let error = Error::new(ErrorCode::InvalidRequest, message);
    Err(error.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// Reads the whole body, at most `limit` bytes. Each piece is reserved in `memory` as it arrives.
async fn read_body(
    mut body: Body,
    discards: bool,
    headers: &HeaderMap,
    limit: usize,
    memory: &mut MemoryReservation,
) -> Result<Bytes, Error> {
    let read = async {
        check_encoding(headers)?;
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large(limit));
        }
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Error::new(
                    ErrorCode::InvalidRequest,
                    "the request body ended early, or it is not encoded as content-encoding says",
                )
            })?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if piece.len() > limit - whole.len() {
                return Err(too_large(limit));
            }
            memory.reserve(piece.len())?;
            whole.extend_from_slice(&piece);
        }
        Ok(Bytes::from(whole))
    };
    let whole = match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(whole) => whole,
        Err(_) => Err(Error::new(
            ErrorCode::RequestTimeout,
            format!("the request body did not arrive within {BODY_TIMEOUT:?}"),
        )),
    };
    if discards
        && let Err(error) = &whole
        && matches!(
            error.code(),
            ErrorCode::PayloadTooLarge | ErrorCode::Overloaded
        )
    {
        discard_body(body).await;
    }
    whole
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorCode::PayloadTooLarge,
        format!("the request body is larger than the limit of {limit} bytes"),
    )
}

/// Reads and drops the body of a refused request, within bounds: a client that is still sending when
/// its connection is closed would see a reset in place of the refusal. Not needed over HTTP/2, which
/// stops the one body with RST_STREAM, and for a client that sent `expect: 100-continue`, which waits
/// for permission to send.
async fn discard_body(mut body: Body) {
    let discarding = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_CAP {
                break;
            }
        }
    };
    // At the deadline the refusal is sent all the same.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, discarding).await;
}
