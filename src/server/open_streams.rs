//! The open streams of this replica, for its operator: listing them, and cancelling one.

use std::collections::HashMap;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::app::Gateway;
use crate::model::{Error, ErrorCode};
use crate::stream::{OpenStream, PrefixMatch};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// The shortest beginning of an id that can name a stream, `st_` included.
const SHORTEST_PREFIX: usize = 7;

/// `GET /streams`: the oldest first.
pub(super) fn list(gateway: &Gateway, query: &HashMap<String, String>) -> Result<Response, Error> {
    let limit = match query.get("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| {
                Error::invalid("limit", format!("must be a number from 1 to {MAX_LIMIT}"))
            })?,
    };
    let open = gateway.open_streams.all();
    let streams: Vec<Value> = open
        .iter()
        .take(limit)
        .map(|stream| entry(stream))
        .collect();
    Ok(Json(json!({"open": open.len(), "streams": streams})).into_response())
}

/// `DELETE /streams/{prefix}`.
pub(super) fn cancel(gateway: &Gateway, prefix: &str) -> Result<Response, Error> {
    if prefix.len() < SHORTEST_PREFIX {
        let message = format!(
            "give at least the first {SHORTEST_PREFIX} characters of the stream's id; \
             GET /streams lists the open streams"
        );
        return Err(Error::new(ErrorCode::InvalidRequest, message));
    }
    match gateway.open_streams.find(prefix) {
        PrefixMatch::One(stream) => {
            let answer = entry(&stream);
            tracing::warn!(
                stream = stream.id.hint(),
                model = stream.model,
                key = stream.key,
                "the operator cancels a stream"
            );
            stream.cancel();
            Ok(Json(json!({"cancelled": answer})).into_response())
        }
        PrefixMatch::None => Err(Error::new(
            ErrorCode::NotFound,
            "no open stream of this replica has an id that begins so; GET /streams lists them",
        )),
        PrefixMatch::Several => Err(Error::new(
            ErrorCode::InvalidRequest,
            "the ids of several open streams begin so; give more of the id",
        )),
    }
}

/// Never the whole id: it is the capability to read the stream.
fn entry(stream: &OpenStream) -> Value {
    let progress = stream.progress().unwrap_or_default();
    json!({
        "id": stream.id.hint(),
        "key": stream.key,
        "dialect": stream.dialect,
        "model": stream.model,
        "upstream": progress.upstream,
        "age_seconds": (stream.age().as_secs_f64() * 10.0).round() / 10.0,
        "tokens": progress.tokens,
    })
}
