//! Commands of one turn, and what their answers are for.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value, from_redis_value};

use super::millis;
use crate::model::StreamId;

/// How many commands of others one turn takes.
const MAX_COMMANDS: usize = 64;
/// How many entries of a followed stream one turn takes.
const MAX_ENTRIES: usize = 256;

/// One round trip.
pub(super) struct Batch {
    pipeline: Pipeline,
    pending: Vec<PendingReply>,
}

/// What a command's answer is for.
pub(super) enum PendingReply {
    Ignored,
    Commands,
    /// Others know the stream.
    Registered(StreamId),
    /// The stream is stored up to this position.
    Append {
        stream: StreamId,
        position: u64,
    },
    /// Who wrote the stream's newest entry, where it was refused to be stored up to this position.
    Newest {
        stream: StreamId,
        position: u64,
    },
    /// Whether the stream's replica lives, and whether the stream has ended.
    Liveness(StreamId),
    /// What a followed stream has said since.
    Entries(StreamId),
}

/// A part of a stream as it is stored.
pub(super) struct LogEntry {
    pub(super) id: String,
    /// Whole events; none where a replica begins to make the stream.
    pub(super) bytes: Bytes,
    pub(super) owner: String,
    /// The model's name, in the first entry.
    pub(super) model: Option<String>,
    /// The replica that makes the stream.
    pub(super) producer: String,
    /// What the client asked for, where another replica may take the stream over.
    pub(super) request: Option<Bytes>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppendOutcome {
    Stored,
    /// There is a newer one: this one is there already, or somebody has taken the stream over.
    Outdated,
    Failed,
}

type Fields = Vec<(String, Vec<u8>)>;

impl Batch {
    pub(super) fn new() -> Self {
        let mut pipeline = redis::pipe();
        // One command that is refused says nothing about the others.
        pipeline.ignore_errors();
        Self {
            pipeline,
            pending: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, command: Cmd, reply: PendingReply) {
        self.pipeline.add_command(command);
        self.pending.push(reply);
    }

    /// Says for a while that this replica lives.
    pub(super) fn add_lease_renewal(&mut self, key: String, lease: Duration) {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(1).arg("PX").arg(millis(lease));
        self.add(command, PendingReply::Ignored);
    }

    pub(super) fn add_command_fetch(&mut self, key: String) {
        let mut command = redis::cmd("LPOP");
        command.arg(key).arg(MAX_COMMANDS);
        self.add(command, PendingReply::Commands);
    }

    /// What a stream has said behind the entry `after`.
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

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(super) fn into_pending(self) -> Vec<PendingReply> {
        self.pending
    }
}

impl LogEntry {
    /// How often the stream had been taken over.
    pub(super) fn epoch(&self) -> u8 {
        let (epoch, _) = self.id.split_once('-').unwrap_or_default();
        epoch.parse().unwrap_or_default()
    }
}

/// What the store did with an entry. Ids only grow.
pub(super) fn append_outcome(answer: &Value) -> AppendOutcome {
    let Value::ServerError(error) = answer else {
        return AppendOutcome::Stored;
    };
    let outdated = "equal or smaller than the target stream top item";
    match error.details() {
        Some(details) if details.contains(outdated) => AppendOutcome::Outdated,
        _ => AppendOutcome::Failed,
    }
}

/// The entries in the answer to `XRANGE` or `XREVRANGE`.
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
