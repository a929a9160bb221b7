//! Commands of one turn, and what their answers are for.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value, from_redis_value};

use super::millis;
use crate::model::StreamId;

/// How many commands of others one turn takes.
const COMMANDS: usize = 64;
/// How many entries of a followed stream one turn takes.
const ENTRIES: usize = 256;

/// One round trip.
pub(super) struct Batch {
    pipeline: Pipeline,
    asks: Vec<Ask>,
}

/// What a command's answer is for.
pub(super) enum Ask {
    Nothing,
    Commands,
    /// The stream is stored up to this position.
    Append {
        stream: StreamId,
        position: u64,
    },
    /// Whether the stream's replica lives, and whether the stream has ended.
    Life(StreamId),
    /// What a followed stream has said since.
    Entries(StreamId),
}

/// A part of a stream as it is stored.
pub(super) struct Entry {
    pub(super) id: String,
    /// Whole events.
    pub(super) bytes: Bytes,
    pub(super) owner: String,
    /// The replica that makes the stream.
    pub(super) producer: String,
}

type Fields = Vec<(String, Vec<u8>)>;

impl Batch {
    pub(super) fn new() -> Self {
        let mut pipeline = redis::pipe();
        // One command that is refused says nothing about the others.
        pipeline.ignore_errors();
        Self {
            pipeline,
            asks: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, command: Cmd, ask: Ask) {
        self.pipeline.add_command(command);
        self.asks.push(ask);
    }

    /// Says for a while that this replica lives.
    pub(super) fn renew(&mut self, key: String, lease: Duration) {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(1).arg("PX").arg(millis(lease));
        self.add(command, Ask::Nothing);
    }

    pub(super) fn take_commands(&mut self, key: String) {
        let mut command = redis::cmd("LPOP");
        command.arg(key).arg(COMMANDS);
        self.add(command, Ask::Commands);
    }

    /// What a stream has said behind the entry `after`.
    pub(super) fn fetch(&mut self, stream: StreamId, key: String, after: &str) {
        let mut command = redis::cmd("XRANGE");
        let begin = format!("({after}");
        command
            .arg(key)
            .arg(begin)
            .arg("+")
            .arg("COUNT")
            .arg(ENTRIES);
        self.add(command, Ask::Entries(stream));
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(super) fn into_asks(self) -> Vec<Ask> {
        self.asks
    }
}

/// Whether an entry's events are in the store now. A turn whose answer was lost is repeated, and what
/// it has stored is refused then, because ids only grow and are those of the last events.
pub(super) fn appended(answer: &Value) -> bool {
    match answer {
        Value::ServerError(error) => error.details().is_some_and(|details| {
            details.contains("equal or smaller than the target stream top item")
        }),
        _ => true,
    }
}

/// The entries in the answer to `XRANGE`.
pub(super) fn entries(answer: Value) -> Vec<Entry> {
    let entries: Vec<(String, Fields)> = from_redis_value(answer).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
    let entry = |(id, fields): (String, Fields)| {
        let mut entry = Entry {
            id,
            bytes: Bytes::new(),
            owner: String::new(),
            producer: String::new(),
        };
        for (name, value) in fields {
            match name.as_str() {
                "events" => entry.bytes = value.into(),
                "owner" => entry.owner = text(value),
                "replica" => entry.producer = text(value),
                _ => {}
            }
        }
        entry
    };
    entries.into_iter().map(entry).collect()
}
