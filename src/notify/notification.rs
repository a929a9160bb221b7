//! What can be published.

use serde_json::{Map, Value, json};

/// One event for all listeners.
#[derive(Debug, Clone, PartialEq)]
pub enum Notification {
    /// A target is not asked any more, because it failed too often.
    UpstreamDown {
        upstream: String,
        /// The upstream's own name for the model.
        model: String,
        reason: String,
    },
    /// A target that was down answers again.
    UpstreamUp {
        upstream: String,
        model: String,
        reason: String,
    },
    /// This replica shuts down: new requests are refused, open streams may finish.
    Draining {
        /// How long open streams may continue.
        seconds: u64,
    },
    /// A new configuration is in force.
    ConfigReloaded,
    /// What an operator wants the listeners to know.
    Announcement(Map<String, Value>),
}

impl Notification {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UpstreamDown { .. } => "upstream_down",
            Self::UpstreamUp { .. } => "upstream_up",
            Self::Draining { .. } => "draining",
            Self::ConfigReloaded => "config_reloaded",
            Self::Announcement(_) => "announcement",
        }
    }

    /// The event's data: a JSON object on one line.
    pub(super) fn data(&self) -> String {
        let data = match self {
            Self::UpstreamDown {
                upstream,
                model,
                reason,
            }
            | Self::UpstreamUp {
                upstream,
                model,
                reason,
            } => json!({"upstream": upstream, "model": model, "reason": reason}),
            Self::Draining { seconds } => json!({"seconds": seconds}),
            Self::ConfigReloaded => json!({}),
            Self::Announcement(data) => return Value::Object(data.clone()).to_string(),
        };
        data.to_string()
    }
}
