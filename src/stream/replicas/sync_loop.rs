//! The loop that synchronises this replica with the store, one round trip at a time.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Value, from_redis_value};
use tokio::time::{Instant, sleep, timeout};

use super::batch::{self, AppendOutcome, Batch, PendingReply};
use super::{Inner, LEASE, LEASE_RENEWAL};
use crate::model::StreamId;
use crate::store::StoreError;
use crate::stream::registry::Lookup;

/// The pause between round trips.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);
/// The same while a client reads another replica's stream here.
pub(super) const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);
/// The same when a viewer waits for the store.
const REQUESTED_DELAY: Duration = Duration::from_millis(10);
/// The pause after a round trip that failed.
pub(super) const FAILURE_DELAY: Duration = Duration::from_millis(250);

impl Inner {
    /// Synchronises until it is dropped.
    pub(super) async fn run(&self) {
        let mut renewed: Option<Instant> = None;
        loop {
            let due = renewed.is_none_or(|renewed| renewed.elapsed() >= LEASE_RENEWAL);
            let renews = due && !self.work().has_left;
            let synced = self.sync_once(renews.then_some(LEASE)).await;
            // A store that was down may have lost the key.
            renewed = match synced {
                Ok(_) if renews => Some(Instant::now()),
                Ok(_) => renewed,
                Err(_) => None,
            };
            let pause = match synced {
                Err(_) => {
                    sleep(FAILURE_DELAY).await;
                    continue;
                }
                // There is more than one round trip takes.
                Ok(true) => continue,
                Ok(false) if self.work().followed.is_empty() => IDLE_INTERVAL,
                Ok(false) => FOLLOW_INTERVAL,
            };
            if timeout(pause, self.sync_requested.notified()).await.is_ok() {
                sleep(REQUESTED_DELAY).await;
            }
        }
    }

    /// One round trip. Returns whether there is more to write than one takes.
    pub(super) async fn sync_once(&self, lease: Option<Duration>) -> Result<bool, StoreError> {
        let _round_trip = self.round_trip.lock().await;
        let mut batch = Batch::new();
        if let Some(lease) = lease {
            batch.add_lease_renewal(self.keys.own_alive(), lease);
        }
        batch.add_command_fetch(self.keys.own_commands());
        let unconfirmed = self.add_ownership_checks(&mut batch);
        let (taken, more) = self.add_writes(&mut batch);
        self.add_follow_reads(&mut batch);
        let answers = match self.store.pipeline::<Vec<Value>>(batch.pipeline()).await {
            Ok(answers) => answers,
            Err(error) => {
                self.work().unconfirmed.extend(unconfirmed);
                self.requeue_all(taken);
                self.handle_store_failure();
                return Err(error);
            }
        };
        let mut liveness = HashMap::new();
        for (reply, answer) in batch.into_pending().into_iter().zip(answers) {
            match reply {
                PendingReply::Ignored => {}
                PendingReply::Commands => {
                    self.run_commands(&from_redis_value::<Vec<String>>(answer).unwrap_or_default())
                }
                // Viewers do not wait longer for an entry that the store refused.
                PendingReply::Registered(stream) => self.mark_registered(stream),
                PendingReply::Append { stream, position } => match batch::append_outcome(&answer) {
                    AppendOutcome::Stored => self.mark_stored(stream, position),
                    AppendOutcome::Outdated => {
                        self.work().unconfirmed.insert(stream, position);
                    }
                    AppendOutcome::Failed => {
                        self.release_held_back(stream);
                        self.requeue(vec![stream]);
                    }
                },
                PendingReply::Newest { stream, position } => {
                    self.resolve_ownership(stream, position, &batch::parse_entries(answer));
                }
                PendingReply::Liveness(stream) => {
                    let status: (Option<Value>, Option<String>) =
                        from_redis_value(answer).unwrap_or_default();
                    liveness.insert(stream, (status.0.is_some(), status.1.is_some()));
                }
                PendingReply::Entries(stream) => {
                    let (alive, ended) = liveness.remove(&stream).unwrap_or((true, false));
                    self.apply_followed(stream, batch::parse_entries(answer), alive, ended);
                }
            }
        }
        Ok(more)
    }

    /// Carries out what other replicas have asked of this one.
    fn run_commands(&self, commands: &[String]) {
        for id in commands.iter().filter_map(|id| StreamId::parse(id)) {
            if let Some(Lookup::Stream(stream)) = self.registry.find(id) {
                stream.cancel();
            }
        }
    }
}
