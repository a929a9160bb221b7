//! A stream whose maker is gone, and which this replica has taken over.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::dialect::native::log_codec::parse_events;
use crate::model::{Ordinal, StreamId};
use crate::stream::stream::Stream;

/// How often a stream may be taken over and gone on with.
const MAX_CONTINUATIONS: u8 = 3;

/// A stream to be gone on with here.
pub struct Orphan {
    pub id: StreamId,
    pub(in crate::stream) stream: Arc<Stream>,
    /// The name of the key that made it.
    pub owner: String,
    /// The model's name, as the client said it.
    pub(super) model: String,
    /// The place of the next event.
    pub next: Ordinal,
    /// What the client asked for, in the native dialect; `None` where the stream is not to be gone on
    /// with.
    pub request: Option<Bytes>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

impl Orphan {
    /// The text that it is to be gone on with behind; `None` where that cannot be: nobody asked for
    /// it, nothing was said, more than text was, or not all of it is kept.
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
