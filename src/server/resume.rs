//! Existing streams: resuming, reading along, status, cancelling. No request handled here asks a
//! model.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::admission::ReadAccess;
use super::refusal::Refusal;
use crate::access::Caller;
use crate::app::Gateway;
use crate::dialect::NATIVE;
use crate::model::{Error, ErrorCode, EventId, Ordinal, Request, StreamId};
use crate::stream::{
    Heartbeat, JoinOutcome, Lookup, Multiplex, Positions, Reader, ReaderLimit, ReaderLimits,
    ReaderPermit, Stream, Subscription, SubscriptionSource, Summary, Viewer,
};

/// How many streams one connection may carry.
const MAX_STREAMS: usize = 64;

/// The `retry-after` for a reader over the limit: streams last seconds.
const READER_RETRY: Duration = Duration::from_secs(1);

/// The value of `last-event-id`; `None` where it is absent or empty.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get("last-event-id")?.as_bytes();
    (!value.is_empty()).then_some(value)
}

/// Resumes a stream after the event that `id` names.
pub(super) async fn resume(
    gateway: &Gateway,
    access: &ReadAccess,
    id: &[u8],
) -> Result<Response, Refusal> {
    let id = event_id(id).map_err(|error| access.refusal(error))?;
    read_stream(gateway, access, id.stream, Some(id.ordinal)).await
}

/// One stream from its first event, or after the last event that the client has.
pub(super) async fn events(
    gateway: &Gateway,
    access: &ReadAccess,
    stream: &str,
    last_event_id: Option<&[u8]>,
    after: Option<&str>,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    let stream = path_stream_id(stream).map_err(refused)?;
    let seen = match (last_event_id, after) {
        (Some(id), _) => {
            let id = event_id(id).map_err(refused)?;
            if id.stream != stream {
                return Err(refused(invalid_event_id(
                    "is the id of an event of another stream",
                )));
            }
            Some(id.ordinal)
        }
        (None, Some(after)) => Some(
            Ordinal::parse(after)
                .ok_or_else(|| refused(Error::invalid("after", "is not an event number: send the number behind the dot in an event's id, such as 17")))?,
        ),
        (None, None) => None,
    };
    read_stream(gateway, access, stream, seen).await
}

/// A stream's state, text and usage so far.
pub(super) async fn status(
    gateway: &Gateway,
    access: &ReadAccess,
    id: &str,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    let id = path_stream_id(id).map_err(refused)?;
    let found = find(gateway, access, id, None).await.map_err(refused)?;
    let stream = readable(found).map_err(refused)?;
    Ok(summary_response(access, id, &Summary::of(&stream)))
}

/// Cancels a stream for all its viewers. A stream that has ended stays as it is.
pub(super) async fn cancel(
    gateway: &Gateway,
    access: &ReadAccess,
    caller: &Caller,
    id: &str,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    let id = path_stream_id(id).map_err(refused)?;
    let found = find(gateway, access, id, None).await.map_err(refused)?;
    let stream = found_stream(found).map_err(refused)?;
    if !stream.is_owned_by(&caller.name) {
        let error = "this stream was opened with another API key, and only that key can cancel it";
        return Err(refused(Error::new(ErrorCode::Forbidden, error)));
    }
    stream.cancel();
    if let Some(replicas) = &access.app.replicas
        && stream.is_remote()
        && !stream.is_ended()
    {
        replicas.cancel(id, &stream).await.map_err(refused)?;
    }
    Ok(summary_response(access, id, &Summary::of(&stream)))
}

/// Several streams over one connection. A stream that cannot be read becomes an error event, unless
/// none can be read: then the request is refused.
pub(super) async fn multiplexed(
    gateway: &Gateway,
    access: &ReadAccess,
    streams: &[String],
    last_event_id: Option<&[u8]>,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    if streams.is_empty() || streams.len() > MAX_STREAMS {
        let problem = format!("give between 1 and {MAX_STREAMS} streams, each as `stream=ID`");
        return Err(refused(Error::invalid("stream", problem)));
    }
    let positions = match last_event_id {
        None => None,
        Some(id) => Some(
            std::str::from_utf8(id)
                .ok()
                .and_then(Positions::parse)
                .ok_or_else(|| refused(invalid_event_id("is not an event id of this path")))?,
        ),
    };
    let mut subscriptions: Vec<Subscription> = Vec::with_capacity(streams.len());
    let mut problem = None;
    for stream in streams {
        let stream = stream_id(stream).map_err(refused)?;
        if subscriptions
            .iter()
            .any(|subscription| subscription.stream == stream)
        {
            continue;
        }
        let seen = positions
            .as_ref()
            .and_then(|positions| positions.position_of(stream));
        let source = match open_reader(gateway, access, stream, seen).await {
            Ok(Some(reader)) => SubscriptionSource::Reader(reader),
            Ok(None) => SubscriptionSource::Finished,
            Err(error) if error.code() == ErrorCode::Overloaded => return Err(refused(error)),
            Err(error) => {
                problem = Some(error.clone());
                SubscriptionSource::Failed(error)
            }
        };
        subscriptions.push(Subscription {
            stream,
            seen,
            source,
        });
    }
    if subscriptions
        .iter()
        .all(|subscription| matches!(subscription.source, SubscriptionSource::Finished))
    {
        return Ok(no_content(access));
    }
    let readable =
        |subscription: &Subscription| matches!(subscription.source, SubscriptionSource::Reader(_));
    match problem {
        Some(error) if !subscriptions.iter().any(readable) => Err(refused(error)),
        _ => {
            let multiplex = Multiplex::new(subscriptions, heartbeat(access));
            Ok(stream_response(access, Body::new(multiplex)))
        }
    }
}

async fn read_stream(
    gateway: &Gateway,
    access: &ReadAccess,
    stream: StreamId,
    seen: Option<Ordinal>,
) -> Result<Response, Refusal> {
    let reader = open_reader(gateway, access, stream, seen).await;
    let reader = reader.map_err(|error| access.refusal(error))?;
    Ok(match reader {
        Some(reader) => stream_response(access, Body::new(Viewer::new(reader, heartbeat(access)))),
        None => no_content(access),
    })
}

/// A reader of the stream; `None` where the client has all of it.
async fn open_reader(
    gateway: &Gateway,
    access: &ReadAccess,
    stream: StreamId,
    seen: Option<Ordinal>,
) -> Result<Option<Reader>, Error> {
    let reader = try_open_reader(gateway, access, stream, seen).await;
    gateway.metrics.record_resume(match &reader {
        Ok(Some(_)) => "resumed",
        Ok(None) => "complete",
        Err(error) => error.code().as_str(),
    });
    reader
}

async fn try_open_reader(
    gateway: &Gateway,
    access: &ReadAccess,
    id: StreamId,
    seen: Option<Ordinal>,
) -> Result<Option<Reader>, Error> {
    let stream = match find(gateway, access, id, seen).await? {
        Some(Lookup::Ended { last }) if seen.is_some() && seen == last => return Ok(None),
        found => readable(found)?,
    };
    match Reader::join(&stream, seen, reader_permit(gateway, access, &stream)?) {
        JoinOutcome::Reader(reader) => Ok(Some(reader)),
        JoinOutcome::UpToDate => Ok(None),
        JoinOutcome::Gone => Err(gone(
            "the events after that one are no longer kept: read the stream from its first event, or send the request again",
        )),
        JoinOutcome::UnknownEvent => Err(Error::new(
            ErrorCode::InvalidRequest,
            "`last-event-id` or `after` names an event that the stream has not sent yet",
        )),
    }
}

/// Looks the stream up on this replica, and then on the others: a replica that took the stream over
/// may have continued it without this replica's knowledge.
async fn find(
    gateway: &Gateway,
    access: &ReadAccess,
    id: StreamId,
    seen: Option<Ordinal>,
) -> Result<Option<Lookup>, Error> {
    let found = gateway.registry.find(id);
    let Some(replicas) = &access.app.replicas else {
        return Ok(found);
    };
    let epoch = match &found {
        None => return replicas.find(id, access.started).await,
        Some(Lookup::Stream(stream)) => stream.epoch(),
        Some(Lookup::Ended { last }) => last.map_or(0, |last| last.epoch),
        Some(Lookup::Abandoned) => 0,
    };
    if seen.is_some_and(|seen| seen.epoch > epoch) {
        return Ok(replicas.find(id, access.started).await?.or(found));
    }
    Ok(found)
}

/// The stream, if it can be read.
fn readable(found: Option<Lookup>) -> Result<Arc<Stream>, Error> {
    let stream = found_stream(found)?;
    if stream.is_readable() {
        Ok(stream)
    } else {
        Err(gone(
            "only the client that opened this stream can read it, because `resume.window` is 0",
        ))
    }
}

/// The stream, if it runs or can be read.
fn found_stream(found: Option<Lookup>) -> Result<Arc<Stream>, Error> {
    match found {
        Some(Lookup::Stream(stream)) => Ok(stream),
        Some(Lookup::Ended { .. }) => Err(gone("the stream has ended and is no longer kept")),
        Some(Lookup::Abandoned) => Err(gone(
            "the stream was cancelled after its last reader left, and is no longer kept",
        )),
        None => Err(not_found()),
    }
}

/// A place for one more reader of `stream`.
fn reader_permit(
    gateway: &Gateway,
    access: &ReadAccess,
    stream: &Arc<Stream>,
) -> Result<ReaderPermit, Error> {
    let limits = ReaderLimits::of(access.app.config.limits.streams);
    let (address, open) = (access.address.into(), gateway.in_flight.token());
    let permit = gateway
        .readers
        .admit(stream, address, limits, &gateway.metrics, open);
    permit.map_err(|limit| {
        let (code, message) = match limit {
            ReaderLimit::Total(limit) => (
                ErrorCode::Overloaded,
                format!(
                    "this replica has {limit} readers, as many as `limits.streams` allows; try again soon"
                ),
            ),
            ReaderLimit::Stream(limit) => (
                ErrorCode::Overloaded,
                format!(
                    "this stream has {limit} readers, as many as one stream may have here; try again soon"
                ),
            ),
            ReaderLimit::Address(limit) => (
                ErrorCode::RateLimited,
                format!(
                    "this address reads {limit} streams, as many as one address may read at once; close some or try again soon"
                ),
            ),
            ReaderLimit::Key(limit) => (
                ErrorCode::RateLimited,
                format!(
                    "the streams of this stream's API key have {limit} readers, as many as one key's streams may have at once; try again soon"
                ),
            ),
        };
        Error::new(code, message).with_retry_after(Some(READER_RETRY))
    })
}

fn heartbeat(access: &ReadAccess) -> Heartbeat {
    Heartbeat::new(access.app.config.heartbeat, NATIVE.heartbeat())
}

fn event_id(id: &[u8]) -> Result<EventId, Error> {
    let id = std::str::from_utf8(id).ok().and_then(EventId::parse);
    id.ok_or_else(|| invalid_event_id("is not an event id of this gateway"))
}

/// A path that names no stream is not found, whatever its form.
fn path_stream_id(id: &str) -> Result<StreamId, Error> {
    StreamId::parse(id).ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::new(ErrorCode::NotFound, "there is no stream with this id")
}

fn stream_id(id: &str) -> Result<StreamId, Error> {
    StreamId::parse(id)
        .ok_or_else(|| Error::invalid("stream", "is not a stream id of this gateway"))
}

fn invalid_event_id(problem: &str) -> Error {
    Error::invalid("last-event-id", problem)
}

fn gone(message: &str) -> Error {
    Error::new(ErrorCode::Gone, message)
}

fn stream_response(access: &ReadAccess, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    *headers = NATIVE.headers(&Request::default());
    access.limits.write(headers);
    response
}

/// 204 tells an `EventSource` to stop.
fn no_content(access: &ReadAccess) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    access.limits.write(response.headers_mut());
    response
}

fn summary_response(access: &ReadAccess, id: StreamId, summary: &Summary) -> Response {
    let mut body = json!({
        "stream": id.to_string(),
        "state": summary.state,
        "text": summary.text,
        "usage": summary.usage,
        "finish_reason": summary.finish_reason,
    });
    if summary.error != Value::Null {
        body["error"] = summary.error.clone();
    }
    let mut response = Json(body).into_response();
    access.limits.write(response.headers_mut());
    response
}
