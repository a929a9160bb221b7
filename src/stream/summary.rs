//! A stream's status, parsed from its log.

use serde::Deserialize;
use serde_json::Value;

use super::stream::Stream;
use crate::dialect::native::log_codec::{last_event, parse_events};

/// What `GET /v1/streams/{id}` returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// `running`, `complete`, `error` or `cancelled`.
    pub state: &'static str,
    /// The joined texts of its tokens; `None` if some events were dropped.
    pub text: Option<String>,
    /// From its terminal event.
    pub usage: Value,
    /// From its terminal event.
    pub finish_reason: Value,
    /// From its terminal event.
    pub error: Value,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

impl Summary {
    pub fn of(stream: &Stream) -> Self {
        let ended = stream.is_ended();
        let text = stream.all_writes().map(|writes| {
            let events = writes.iter().flat_map(|write| parse_events(write));
            let tokens = events.filter(|event| event.name == "token");
            tokens
                .filter_map(|event| serde_json::from_str(event.data).ok())
                .map(|token: Token<'_>| token.text)
                .collect()
        });
        let newest = stream.last_write();
        let terminal = newest.as_deref().filter(|_| ended).and_then(last_event);
        let data: Value = terminal
            .and_then(|terminal| serde_json::from_str(terminal.data).ok())
            .unwrap_or_default();
        let state = match terminal {
            None => "running",
            Some(terminal) if terminal.name == "error" => "error",
            Some(_) if data["finish_reason"] == "cancelled" => "cancelled",
            Some(_) => "complete",
        };
        Self {
            state,
            text,
            usage: data["usage"].clone(),
            finish_reason: data["finish_reason"].clone(),
            error: data["error"].clone(),
        }
    }
}
