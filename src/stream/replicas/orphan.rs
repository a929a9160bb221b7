//! A stream whose producer is gone and which this replica has taken over.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::dialect::native::log_codec::parse_events;
use crate::model::{Ordinal, StreamId};
use crate::stream::stream::Stream;

/// How often a stream may be taken over and continued.
const MAX_CONTINUATIONS: u8 = 3;

/// A stream for this replica to continue.
pub struct Orphan {
    pub id: StreamId,
    pub(in crate::stream) stream: Arc<Stream>,
    /// The name of the key that made it.
    pub owner: String,
    /// The model's name as the client sent it.
    pub(super) model: String,
    /// The ordinal of the next event.
    pub next: Ordinal,
    /// The client's request in the native dialect; `None` if the stream may not be continued.
    pub request: Option<Bytes>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

impl Orphan {
    /// The text from which it can be continued. `None` if it cannot be: it may not be continued, has no text
    /// or more than text, or its log is incomplete.
    pub fn text(&self) -> Option<String> {
        if self.request.is_none() || self.next.epoch > MAX_CONTINUATIONS {
            return None;
        }
        let mut text = String::new();
        for write in self.stream.all_writes()? {
            for event in parse_events(&write) {
                match event.name {
                    "start" | "reasoning" | "citation" => {}
                    "token" => {
                        let token: Token<'_> = serde_json::from_str(event.data).ok()?;
                        text.push_str(&token.text);
                    }
                    _ => return None,
                }
            }
        }
        (!text.is_empty()).then_some(text)
    }
}
