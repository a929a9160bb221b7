//! Streams that are there: clients that come back to them, others that read along, and whoever
//! cancels them. Nothing here ever makes a model answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::admission::ReadAccess;
use super::refusal::Refusal;
use crate::access::Caller;
use crate::app::Gateway;
use crate::dialect::NATIVE;
use crate::model::{Error, ErrorCode, EventId, Ordinal, Request, StreamId};
use crate::stream::{
    Found, Heartbeat, Lane, Multiplex, Positions, Reader, Return, Seat, Source, Stream, Summary,
    Viewer,
};

/// How many streams one connection may carry.
const MAX_STREAMS: usize = 64;

/// How long to wait for a reader's place; streams last seconds.
const READER_RETRY: Duration = Duration::from_secs(1);

/// The value of `last-event-id`; `None` for a client that comes for the first time.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get("last-event-id")?.as_bytes();
    (!value.is_empty()).then_some(value)
}

/// Goes on with a stream behind the event that `id` names.
pub(super) async fn resume(
    gateway: &Gateway,
    access: &ReadAccess,
    id: &[u8],
) -> Result<Response, Refusal> {
    let id = event_id(id).map_err(|error| access.refusal(error))?;
    read_stream(gateway, access, id.stream, Some(id.ordinal)).await
}

/// One stream from its first event, or from behind one that the client has.
pub(super) async fn events(
    gateway: &Gateway,
    access: &ReadAccess,
    stream: &str,
    last_event_id: Option<&[u8]>,
    after: Option<&str>,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    let stream = stream_id(stream).map_err(refused)?;
    let seen = match (last_event_id, after) {
        (Some(id), _) => {
            let id = event_id(id).map_err(refused)?;
            if id.stream != stream {
                return Err(refused(invalid_event_id(
                    "is the id of another stream's event",
                )));
            }
            Some(id.ordinal)
        }
        (None, Some(after)) => Some(
            Ordinal::parse(after)
                .ok_or_else(|| refused(Error::invalid("after", "is no number of an event")))?,
        ),
        (None, None) => None,
    };
    read_stream(gateway, access, stream, seen).await
}

/// What a stream has come to so far.
pub(super) async fn status(
    gateway: &Gateway,
    access: &ReadAccess,
    id: &str,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    let id = stream_id(id).map_err(refused)?;
    let found = find(gateway, access, id, None).await.map_err(refused)?;
    let stream = readable(found).map_err(refused)?;
    Ok(summary_response(access, id, &Summary::of(&stream)))
}

/// Ends a stream for everybody. One that has ended stays as it is.
pub(super) async fn cancel(
    gateway: &Gateway,
    access: &ReadAccess,
    caller: &Caller,
    id: &str,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    let id = stream_id(id).map_err(refused)?;
    let found = find(gateway, access, id, None).await.map_err(refused)?;
    let stream = found_stream(found).map_err(refused)?;
    if !stream.belongs_to(&caller.name) {
        let error = "this stream was made with another key";
        return Err(refused(Error::new(ErrorCode::Forbidden, error)));
    }
    stream.cancel();
    if let Some(replicas) = &access.app.replicas
        && stream.is_followed()
        && !stream.ended()
    {
        replicas.cancel(id, &stream).await.map_err(refused)?;
    }
    Ok(summary_response(access, id, &Summary::of(&stream)))
}

/// Several streams over one connection. One of them that cannot be read says so in the stream,
/// unless none can.
pub(super) async fn multiplexed(
    gateway: &Gateway,
    access: &ReadAccess,
    streams: &[String],
    last_event_id: Option<&[u8]>,
) -> Result<Response, Refusal> {
    let refused = |error| access.refusal(error);
    if streams.is_empty() || streams.len() > MAX_STREAMS {
        let problem = format!("give one to {MAX_STREAMS} streams");
        return Err(refused(Error::invalid("stream", problem)));
    }
    let positions = match last_event_id {
        None => None,
        Some(id) => Some(
            std::str::from_utf8(id)
                .ok()
                .and_then(Positions::parse)
                .ok_or_else(|| refused(invalid_event_id("is no event id of this path")))?,
        ),
    };
    let mut lanes: Vec<Lane> = Vec::with_capacity(streams.len());
    let mut problem = None;
    for stream in streams {
        let stream = stream_id(stream).map_err(refused)?;
        if lanes.iter().any(|lane| lane.stream == stream) {
            continue;
        }
        let seen = positions
            .as_ref()
            .and_then(|positions| positions.of(stream));
        let source = match open_reader(gateway, access, stream, seen).await {
            Ok(Some(reader)) => Source::Reader(reader),
            Ok(None) => Source::Over,
            Err(error) if error.code() == ErrorCode::Overloaded => return Err(refused(error)),
            Err(error) => {
                problem = Some(error.clone());
                Source::Refused(error)
            }
        };
        lanes.push(Lane {
            stream,
            seen,
            source,
        });
    }
    if lanes.iter().all(|lane| matches!(lane.source, Source::Over)) {
        return Ok(no_content(access));
    }
    let readable = |lane: &Lane| matches!(lane.source, Source::Reader(_));
    match problem {
        Some(error) if !lanes.iter().any(readable) => Err(refused(error)),
        _ => {
            let multiplex = Multiplex::new(lanes, heartbeat(access));
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

/// A reader of the stream; `None` where the client has everything.
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
        Some(Found::Ended { last }) if seen.is_some() && seen == last => return Ok(None),
        found => readable(found)?,
    };
    match Reader::join(&stream, seen, reader_permit(gateway, access)?) {
        Return::Reader(reader) => Ok(Some(reader)),
        Return::Complete => Ok(None),
        Return::Gone => Err(gone("the events behind that one are not kept any more")),
        Return::Ahead => Err(Error::new(
            ErrorCode::InvalidRequest,
            "the stream has not sent the event that `last-event-id` or `after` names",
        )),
    }
}

/// What this replica knows of the stream, or else what the others do: one that they took over may
/// have gone on there without this one's knowing it.
async fn find(
    gateway: &Gateway,
    access: &ReadAccess,
    id: StreamId,
    seen: Option<Ordinal>,
) -> Result<Option<Found>, Error> {
    let found = gateway.registry.find(id);
    let Some(replicas) = &access.app.replicas else {
        return Ok(found);
    };
    let epoch = match &found {
        None => return replicas.find(id, access.started).await,
        Some(Found::Stream(stream)) => stream.epoch(),
        Some(Found::Ended { last }) => last.map_or(0, |last| last.epoch),
        Some(Found::Abandoned) => 0,
    };
    if seen.is_some_and(|seen| seen.epoch > epoch) {
        return Ok(replicas.find(id, access.started).await?.or(found));
    }
    Ok(found)
}

/// The stream, if it can be read.
fn readable(found: Option<Found>) -> Result<Arc<Stream>, Error> {
    let stream = found_stream(found)?;
    if stream.can_be_read() {
        Ok(stream)
    } else {
        Err(gone("the stream is not kept for others than its client"))
    }
}

/// The stream, if it runs or can be read.
fn found_stream(found: Option<Found>) -> Result<Arc<Stream>, Error> {
    match found {
        Some(Found::Stream(stream)) => Ok(stream),
        Some(Found::Ended { .. }) => Err(gone("the stream has ended and is not kept any more")),
        Some(Found::Abandoned) => Err(gone("the stream was not kept when its clients left")),
        None => Err(Error::new(ErrorCode::NotFound, "there is no such stream")),
    }
}

/// Readers are bounded as streams are, and counted apart from them.
fn reader_permit(gateway: &Gateway, access: &ReadAccess) -> Result<Seat, Error> {
    let limit = access.app.config.limits.streams;
    let open = gateway.in_flight.token();
    let seat = gateway.registry.seat(limit, &gateway.metrics, open);
    seat.ok_or_else(|| {
        let error = format!("this replica may have {limit} readers at once");
        Error::new(ErrorCode::Overloaded, error).with_retry_after(Some(READER_RETRY))
    })
}

fn heartbeat(access: &ReadAccess) -> Heartbeat {
    Heartbeat::new(access.app.config.heartbeat, NATIVE.heartbeat())
}

fn event_id(id: &[u8]) -> Result<EventId, Error> {
    let id = std::str::from_utf8(id).ok().and_then(EventId::parse);
    id.ok_or_else(|| invalid_event_id("is no event id of this gateway"))
}

fn stream_id(id: &str) -> Result<StreamId, Error> {
    StreamId::parse(id).ok_or_else(|| Error::invalid("stream", "is no stream id of this gateway"))
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
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
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
