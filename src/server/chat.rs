//! One prompt request to one answer, for every dialect.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use super::entry::Entry;
use super::refuse::Refusal;
use super::resume::{Return, returning};
use crate::app::Gateway;
use crate::dialect::{Dialect, Opening, native};
use crate::limit::RateLimits;
use crate::model::{Error, ErrorCode, RequestId, StreamId};
use crate::stream::{Conditions, Held, Outlet, Receipt, Subject, collect, open};
use crate::upstream::Trace;

/// How long a client may take to send its request's body.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long a body that is too large is still read, so that its sender sees the answer.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Where a request's words come from.
pub(super) enum Prompt {
    Body(Body),
    /// A `GET`'s query.
    Query {
        model: Option<String>,
        prompt: Option<String>,
    },
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
    match returning(headers, &gateway.memory) {
        None => {}
        Some(Return::Complete) => return Ok(complete(limits)),
        Some(Return::Refused(error)) => return Err(refused(error)),
    }
    let asked = match prompt {
        Prompt::Query { model, prompt } => native::from_query(model, prompt),
        Prompt::Body(body) => read(body, entry.app.config.limits.body)
            .await
            .and_then(|body| dialect.parse(&body)),
    };
    let asked = asked.map_err(refused)?;
    let (model, route) = entry
        .app
        .route(&asked.model, &entry.caller)
        .map_err(refused)?;
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
        permit: entry.permit,
        open: gateway.streams.token(),
    };
    let receipt = Receipt::new(
        subject,
        held,
        Arc::clone(&gateway.metrics),
        Arc::clone(&gateway.memory),
    );
    let outlet = Outlet::new(dialect.encoder(&asked, opening), receipt);
    let headers_out = dialect.headers(&asked);
    let streamed = asked.stream;
    let conditions = Conditions {
        route: Arc::new(route),
        metrics: Arc::clone(&gateway.metrics),
        heartbeat: entry.app.config.heartbeat,
        beat: dialect.heartbeat(),
        cut: gateway.cut.clone(),
        recycler: gateway.recycler.clone(),
        largest: entry.app.config.limits.frame,
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
async fn read(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let read = Limited::new(&mut body, limit).collect();
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            discard(body, limit).await;
            Err(Error::new(
                ErrorCode::PayloadTooLarge,
                format!("the body is larger than {limit} bytes"),
            ))
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

/// A client that is still sending would not read an answer on a connection that is closed to it.
async fn discard(mut body: Body, most: usize) {
    let mut left = most;
    let discarding = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // What is not read by then is the client's loss.
    let _ = tokio::time::timeout(DISCARD_TIME, discarding).await;
}
