//! Streams whose producers are gone and which this replica has taken over.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};

use super::stream::Stream;
use crate::dialect::native::log_codec::parse_events;
use crate::model::{Ordinal, StreamId};

/// How often a stream may be taken over and continued.
const MAX_CONTINUATIONS: u8 = 3;

/// How many streams may wait to be continued.
const MAX_QUEUED: usize = 256;

/// The streams that this replica has taken over and is to continue.
pub struct OrphanQueue {
    sender: mpsc::Sender<Orphan>,
    receiver: Mutex<mpsc::Receiver<Orphan>>,
}

impl Default for OrphanQueue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        Self {
            sender,
            receiver: receiver.into(),
        }
    }
}

impl OrphanQueue {
    /// # Errors
    /// The stream, if too many wait.
    pub(super) fn push(&self, orphan: Orphan) -> Result<(), Box<Orphan>> {
        let sent = self.sender.try_send(orphan);
        sent.map_err(|error| Box::new(error.into_inner()))
    }

    /// Waits for the next stream. Only one task takes them.
    pub async fn next(&self) -> Option<Orphan> {
        self.receiver.lock().await.recv().await
    }
}

/// A stream for this replica to continue.
pub struct Orphan {
    pub id: StreamId,
    pub(super) stream: Arc<Stream>,
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
