//! The commands of one round trip, and what their replies are for.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value, from_redis_value};

use super::millis;
use crate::model::StreamId;

/// How many commands from other replicas one round trip takes.
const MAX_COMMANDS: usize = 64;
/// How many entries of a followed stream one round trip takes.
const MAX_ENTRIES: usize = 256;

/// The commands of one round trip to the store.
#[derive(Default)]
pub(super) struct Batch {
    commands: Vec<Cmd>,
    pending: Vec<PendingReply>,
}

/// What a command's reply is for.
pub(super) enum PendingReply {
    Ignored,
    /// This replica's key is renewed.
    LeaseRenewal,
    Commands,
    /// The store has the stream's first entry.
    Registered(StreamId),
    /// The store has the stream up to this position.
    Append {
        stream: StreamId,
        position: u64,
    },
    /// Who wrote the stream's newest entry, after the store refused one that ends at this position.
    Newest {
        stream: StreamId,
        position: u64,
    },
    /// The terminal events of a stream whose producer is gone.
    Ending(StreamId),
    /// Whether the stream's producer is alive.
    Liveness(StreamId),
    /// Whether the stream has ended.
    Ended(StreamId),
    /// New entries of a followed stream.
    Entries(StreamId),
}

/// A part of a stream in the store.
pub(super) struct LogEntry {
    pub(super) id: String,
    /// Whole events; empty in the first entry of an epoch.
    pub(super) bytes: Bytes,
    pub(super) owner: String,
    /// The model's name; only in the stream's first entry.
    pub(super) model: Option<String>,
    /// The replica that produces the stream.
    pub(super) producer: String,
    /// The client's request, if another replica may take the stream over.
    pub(super) request: Option<Bytes>,
}

/// What the store did with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppendOutcome {
    Stored,
    /// The store has a newer entry: either this one again, or another replica's takeover.
    Outdated,
    Failed,
}

type Fields = Vec<(String, Vec<u8>)>;

impl Batch {
    pub(super) fn add(&mut self, command: Cmd, reply: PendingReply) {
        self.commands.push(command);
        self.pending.push(reply);
    }

    /// Renews the key that says that this replica is alive.
    pub(super) fn add_lease_renewal(&mut self, key: String, lease: Duration) {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(1).arg("PX").arg(millis(lease));
        self.add(command, PendingReply::LeaseRenewal);
    }

    pub(super) fn add_command_fetch(&mut self, key: String) {
        let mut command = redis::cmd("LPOP");
        command.arg(key).arg(MAX_COMMANDS);
        self.add(command, PendingReply::Commands);
    }

    /// Fetches a stream's entries after the entry `after`.
    pub(super) fn add_log_fetch(&mut self, stream: StreamId, key: String, after: &str) {
        let mut command = redis::cmd("XRANGE");
        let begin = format!("({after}");
        command
            .arg(key)
            .arg(begin)
            .arg("+")
            .arg("COUNT")
            .arg(MAX_ENTRIES);
        self.add(command, PendingReply::Entries(stream));
    }

    /// The commands, and what their replies are for.
    pub(super) fn into_parts(self) -> (Vec<Cmd>, Vec<PendingReply>) {
        (self.commands, self.pending)
    }
}

impl LogEntry {
    /// How often the stream had been taken over.
    pub(super) fn epoch(&self) -> u8 {
        let (epoch, _) = self.id.split_once('-').unwrap_or_default();
        epoch.parse().unwrap_or_default()
    }
}

/// What the store did with an entry. It accepts only growing ids.
pub(super) fn append_outcome(answer: Option<&Value>) -> AppendOutcome {
    let error = match answer {
        Some(Value::ServerError(error)) => error,
        Some(_) => return AppendOutcome::Stored,
        None => return AppendOutcome::Failed,
    };
    let outdated = "equal or smaller than the target stream top item";
    match error.details() {
        Some(details) if details.contains(outdated) => AppendOutcome::Outdated,
        _ => AppendOutcome::Failed,
    }
}

/// Parses the reply to `XRANGE` or `XREVRANGE`.
pub(super) fn parse_entries(answer: Value) -> Vec<LogEntry> {
    let entries: Vec<(String, Fields)> = from_redis_value(answer).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
    let entry = |(id, fields): (String, Fields)| {
        let mut entry = LogEntry {
            id,
            bytes: Bytes::new(),
            owner: String::new(),
            model: None,
            producer: String::new(),
            request: None,
        };
        for (name, value) in fields {
            match name.as_str() {
                "events" => entry.bytes = value.into(),
                "owner" => entry.owner = text(value),
                "model" => entry.model = Some(text(value)),
                "replica" => entry.producer = text(value),
                "request" => entry.request = Some(value.into()),
                _ => {}
            }
        }
        entry
    };
    entries.into_iter().map(entry).collect()
}
