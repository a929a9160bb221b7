//! Clients that come back with `Last-Event-ID`. They never make the model answer again.

use http::HeaderMap;

use crate::model::{Error, ErrorCode, EventId};
use crate::stream::{Memory, Remembered};

/// What a client is told that was here before.
#[derive(Debug)]
pub(super) enum Return {
    /// It has everything; 204 stops an `EventSource`.
    Complete,
    Refused(Error),
}

/// `None` for a client that comes for the first time.
///
/// Streams are not kept for those who left (a resume window of 0 is the only one so far), so all
/// there is to say of a stream is whether it ended.
pub(super) fn returning(headers: &HeaderMap, memory: &Memory) -> Option<Return> {
    let value = headers.get("last-event-id")?;
    if value.is_empty() {
        return None;
    }
    let Some(id) = value.to_str().ok().and_then(EventId::parse) else {
        return Some(Return::Refused(Error::invalid(
            "last-event-id",
            "is no event id of this gateway",
        )));
    };
    Some(match memory.find(id.stream) {
        Some(Remembered::Ended) => Return::Complete,
        Some(Remembered::Running | Remembered::Abandoned) => Return::Refused(Error::new(
            ErrorCode::Gone,
            "the stream was not kept when its client left",
        )),
        None => Return::Refused(Error::new(ErrorCode::NotFound, "there is no such stream")),
    })
}
