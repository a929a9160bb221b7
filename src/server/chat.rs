//! One prompt request to one answer, for every dialect.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};

use super::entry::Entry;
use super::refuse::Refusal;
use super::resume::{Return, returning};
use crate::app::Gateway;
use crate::dialect::{Dialect, Opening, native};
use crate::limit::{Estimate, RateLimits};
use crate::model::{Error, ErrorCode, RequestId, StreamId};
use crate::stream::{Conditions, Held, Outlet, Receipt, Subject, collect, open};
use crate::upstream::Trace;

/// How long a client may take to send its request's body.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long, and for how many bytes, a body that nobody wants is still read.
const DISCARD_TIME: Duration = Duration::from_secs(2);
const DISCARD_BYTES: usize = 64 * 1024 * 1024;

/// Where a request's words come from.
pub(super) enum Prompt {
    Body(Body),
    /// A `GET`'s query.
    Query {
        model: Option<String>,
        prompt: Option<String>,
    },
}

impl Prompt {
    /// Reads past the words of a request that is refused whatever they say.
    pub(super) async fn discard(self, headers: &HeaderMap) {
        if let Self::Body(body) = self {
            discard(body, headers).await;
        }
    }
}

/// Answers a request that may pass.
pub(super) async fn answer(
    gateway: &Gateway,
    dialect: &dyn Dialect,
    entry: Entry,
    request: &RequestId,
    headers: &HeaderMap,
    prompt: Prompt,
) -> Result<Response, Refusal> {
    let limits = entry.permit.limits();
    let refused = |error| Refusal::new(error, limits);
    if let Some(there_is) = returning(headers, &gateway.memory) {
        prompt.discard(headers).await;
        return match there_is {
            Return::Complete => Ok(complete(limits)),
            Return::Refused(error) => Err(refused(error)),
        };
    }
    let asked = match prompt {
        Prompt::Query { model, prompt } => native::from_query(model, prompt),
        Prompt::Body(body) => read(body, headers, entry.app.config.limits.body)
            .await
            .and_then(|body| dialect.parse(&body)),
    };
    let mut asked = asked.map_err(refused)?;
    dialect.read_headers(headers, &mut asked);
    asked.check_names().map_err(refused)?;
    let (model, route) = entry
        .app
        .route(&asked.model, &entry.caller)
        .map_err(refused)?;
    let estimate = Estimate::of(&asked, model.reserve_tokens);
    let account = entry.app.account(&entry.caller);
    let reserved = entry
        .app
        .limiter
        .reserve(entry.permit, account.as_ref(), estimate);
    let permit = reserved
        .await
        .map_err(|refused| Refusal::new(refused.error, refused.limits))?;
    let limits = permit.limits();
    let refused = |error| Refusal::new(error, limits);
    let stream = StreamId::random();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let opening = Opening {
        stream,
        model: asked.model.clone(),
        // A clock that stands before 1970 is the operator's to mend; answers go on.
        created: now.map_or(0, |since| since.as_secs()),
    };
    let subject = Subject {
        stream,
        request: request.clone(),
        dialect: dialect.name(),
        model: model.name.clone(),
        key: entry.caller.name.clone(),
    };
    let held = Held {
        permit,
        open: entry.open,
    };
    let receipt = Receipt::new(
        subject,
        held,
        Arc::clone(&gateway.metrics),
        Arc::clone(&gateway.memory),
    );
    let mut outlet = Outlet::new(dialect.encoder(&asked, opening), receipt);
    let mut headers_out = dialect.headers(&asked);
    let streamed = asked.stream;
    if streamed {
        // Nothing follows the terminal event, and every client sees that.
        headers_out.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !streamed || dialect.keeps_content() {
        outlet.bound(entry.app.config.limits.frame);
    }
    let conditions = Conditions {
        route: Arc::new(route),
        metrics: Arc::clone(&gateway.metrics),
        heartbeat: entry.app.config.heartbeat,
        beat: dialect.heartbeat(),
        cut: gateway.cut.clone(),
        recycler: gateway.recycler.clone(),
    };
    let trace = trace(headers);
    let body = if streamed {
        let stream = open(asked, trace, outlet, conditions).await;
        stream.map(Body::new)
    } else {
        let whole = collect(asked, trace, outlet, conditions).await;
        whole.map(Body::from)
    };
    let mut response = Response::new(body.map_err(refused)?);
    *response.headers_mut() = headers_out;
    limits.write(response.headers_mut());
    Ok(response)
}

/// 204: there is nothing more to come.
fn complete(limits: RateLimits) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    limits.write(response.headers_mut());
    response
}

fn trace(headers: &HeaderMap) -> Trace {
    Trace {
        traceparent: headers.get("traceparent").cloned(),
        tracestate: headers.get("tracestate").cloned(),
    }
}

/// The whole body, of `limit` bytes at most.
async fn read(mut body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Error> {
    let too_large = || {
        Error::new(
            ErrorCode::PayloadTooLarge,
            format!("the body is larger than {limit} bytes"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        discard(body, headers).await;
        return Err(too_large());
    }
    let read = Limited::new(&mut body, limit).collect();
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            discard(body, headers).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(Error::new(
            ErrorCode::InvalidRequest,
            "the body ended before it was whole",
        )),
        Err(_) => Err(Error::new(
            ErrorCode::RequestTimeout,
            format!("the body did not come within {BODY_TIME:?}"),
        )),
    }
}

/// Reads what nobody wants: a client that is still sending when its connection is closed would
/// see a reset in place of its answer. One that asks first whether to send is not told to.
async fn discard(mut body: Body, headers: &HeaderMap) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let discarding = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES {
                break;
            }
        }
    };
    // What is not read by then is the client's loss.
    let _ = tokio::time::timeout(DISCARD_TIME, discarding).await;
}
