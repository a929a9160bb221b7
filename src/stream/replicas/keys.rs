//! The names of everything in the store.

use crate::model::{Ordinal, RequestId, StreamId};
use crate::store::PREFIX;

/// Names, as one replica uses them.
pub(super) struct Keys {
    replica: String,
}

impl Keys {
    /// For a replica with a name that nobody else has.
    pub(super) fn new() -> Self {
        let random = RequestId::random();
        Self {
            replica: random.as_str().trim_start_matches("req_").to_owned(),
        }
    }

    /// This replica's name.
    pub(super) fn replica_name(&self) -> &str {
        &self.replica
    }

    /// The entry with which a stream's first maker begins.
    pub(super) const FIRST_ENTRY: &'static str = "0-1";

    /// The entry that ends with the event at `ordinal`.
    pub(super) fn event_entry(ordinal: Ordinal) -> String {
        let Ordinal { epoch, number } = ordinal;
        format!("{epoch}-{}", number.saturating_add(2))
    }

    /// The entry with which somebody takes a stream over: behind everything that those before may
    /// write, whenever they do.
    pub(super) fn claim_entry(epoch: u8) -> String {
        format!("{epoch}-1")
    }

    pub(super) fn log(&self, id: StreamId) -> String {
        format!("{PREFIX}stream:{id}")
    }

    pub(super) fn ended(&self, id: StreamId) -> String {
        format!("{PREFIX}stream:{id}:past")
    }

    pub(super) fn viewed(&self, id: StreamId) -> String {
        format!("{PREFIX}stream:{id}:viewed")
    }

    /// This replica's sign of life.
    pub(super) fn own_alive(&self) -> String {
        self.alive(&self.replica)
    }

    /// A replica's sign of life.
    pub(super) fn alive(&self, replica: &str) -> String {
        format!("{PREFIX}replica:{replica}")
    }

    pub(super) fn own_commands(&self) -> String {
        self.commands(&self.replica)
    }

    pub(super) fn commands(&self, replica: &str) -> String {
        format!("{PREFIX}replica:{replica}:commands")
    }
}
