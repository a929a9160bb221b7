//! The names of all keys and entries in the store.

use crate::model::{Ordinal, RequestId, StreamId};
use crate::store::PREFIX;

/// The keys of one replica.
pub(super) struct Keys {
    replica: String,
    /// Whether a stream's id is a hash tag, so that all keys of a stream are on one server of a cluster. Elsewhere
    /// the keys are those of version 0.1.
    has_tags: bool,
}

impl Keys {
    /// For a replica with a new random name.
    pub(super) fn new(has_tags: bool) -> Self {
        let random = RequestId::random();
        Self {
            replica: random.as_str().trim_start_matches("req_").to_owned(),
            has_tags,
        }
    }

    /// This replica's name.
    pub(super) fn replica_name(&self) -> &str {
        &self.replica
    }

    /// The first entry of a stream, in which its first producer names itself.
    pub(super) const FIRST_ENTRY: &'static str = "0-1";

    /// The entry whose last event is at `ordinal`.
    pub(super) fn event_entry(ordinal: Ordinal) -> String {
        let Ordinal { epoch, number } = ordinal;
        format!("{epoch}-{}", number.saturating_add(2))
    }

    /// The entry with which a replica takes a stream over. It is greater than every entry that earlier
    /// producers can still write.
    ///
    /// Invariant: only one replica succeeds with the claim of an epoch, because ids only grow.
    pub(super) fn claim_entry(epoch: u8) -> String {
        format!("{epoch}-1")
    }

    pub(super) fn log(&self, id: StreamId) -> String {
        match self.has_tags {
            true => format!("{PREFIX}stream:{{{id}}}"),
            false => format!("{PREFIX}stream:{id}"),
        }
    }

    pub(super) fn ended(&self, id: StreamId) -> String {
        self.log(id) + ":past"
    }

    pub(super) fn viewed(&self, id: StreamId) -> String {
        self.log(id) + ":viewed"
    }

    /// The key that says that this replica is alive.
    pub(super) fn own_alive(&self) -> String {
        self.alive(&self.replica)
    }

    /// The key that says that a replica is alive.
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
