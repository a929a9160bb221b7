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

/// What one round trip has done.
pub(super) struct Synced {
    /// Whether there is more to write than one round trip takes.
    pub(super) more: bool,
    /// Whether this replica's key was renewed.
    renewed: bool,
}

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
                Ok(Synced { renewed: true, .. }) => Some(Instant::now()),
                Ok(_) if renews => None,
                Ok(_) => renewed,
                Err(_) => None,
            };
            let pause = match synced {
                Err(_) => {
                    sleep(FAILURE_DELAY).await;
                    continue;
                }
                // There is more than one round trip takes.
                Ok(Synced { more: true, .. }) => continue,
                Ok(_) if self.work().followed.is_empty() => IDLE_INTERVAL,
                Ok(_) => FOLLOW_INTERVAL,
            };
            if timeout(pause, self.sync_requested.notified()).await.is_ok() {
                sleep(REQUESTED_DELAY).await;
            }
        }
    }

    /// One round trip.
    pub(super) async fn sync_once(&self, lease: Option<Duration>) -> Result<Synced, StoreError> {
        let _round_trip = self.round_trip.lock().await;
        let mut batch = Batch::default();
        if let Some(lease) = lease {
            batch.add_lease_renewal(self.keys.own_alive(), lease);
        }
        batch.add_command_fetch(self.keys.own_commands());
        let mut unconfirmed = self.add_ownership_checks(&mut batch);
        let (mut taken, more) = self.add_writes(&mut batch);
        self.add_follow_reads(&mut batch);
        let (commands, pending) = batch.into_parts();
        let answers = match self.store.batch(commands).await {
            Ok(answers) => answers,
            Err(error) => {
                self.work().unconfirmed.extend(unconfirmed);
                self.requeue_all(taken);
                self.handle_store_failure();
                return Err(error);
            }
        };
        let mut synced = Synced {
            more,
            renewed: lease.is_some(),
        };
        let mut liveness = HashMap::new();
        for (reply, answer) in pending.into_iter().zip(answers) {
            match (reply, answer) {
                (PendingReply::Ignored, _) | (PendingReply::Ending(_), Some(_)) => {}
                (PendingReply::LeaseRenewal, answer) => synced.renewed = is_success(&answer),
                (PendingReply::Commands, Some(answer)) => {
                    self.run_commands(&from_redis_value::<Vec<String>>(answer).unwrap_or_default())
                }
                (PendingReply::Commands, None) => {}
                (PendingReply::Ending(stream), None) => self.requeue_ending(&mut taken, stream),
                // Viewers do not wait longer for an entry that the store refused.
                (PendingReply::Registered(stream), Some(_)) => self.mark_registered(stream),
                (PendingReply::Registered(stream), None) => {
                    self.requeue_registration(&mut taken, stream);
                }
                (PendingReply::Append { stream, position }, answer) => {
                    self.apply_append(stream, position, batch::append_outcome(answer.as_ref()));
                }
                (PendingReply::Newest { stream, position }, Some(answer)) => {
                    self.resolve_ownership(stream, position, &batch::parse_entries(answer));
                }
                (PendingReply::Newest { stream, .. }, None) => {
                    let position = unconfirmed.remove(&stream);
                    self.work()
                        .unconfirmed
                        .extend(position.map(|position| (stream, position)));
                }
                (PendingReply::Liveness(stream), answer) => {
                    // A producer that cannot be asked about counts as alive.
                    let alive = !is_success(&answer) || !matches!(answer, Some(Value::Nil));
                    liveness.insert(stream, (alive, false));
                }
                (PendingReply::Ended(stream), answer) => {
                    let ended = is_success(&answer) && !matches!(answer, Some(Value::Nil));
                    liveness.entry(stream).or_insert((true, false)).1 = ended;
                }
                (PendingReply::Entries(stream), Some(answer)) => {
                    let (alive, ended) = liveness.remove(&stream).unwrap_or((true, false));
                    self.apply_followed(stream, batch::parse_entries(answer), alive, ended);
                }
                (PendingReply::Entries(stream), None) => self.handle_unreachable(stream),
            }
        }
        Ok(synced)
    }

    fn apply_append(&self, stream: StreamId, position: u64, outcome: AppendOutcome) {
        match outcome {
            AppendOutcome::Stored => self.mark_stored(stream, position),
            AppendOutcome::Outdated => {
                self.work().unconfirmed.insert(stream, position);
            }
            AppendOutcome::Failed => {
                self.release_held_back(stream);
                self.requeue(vec![stream]);
            }
        }
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

/// Whether the server answered a command without an error.
fn is_success(answer: &Option<Value>) -> bool {
    !matches!(answer, None | Some(Value::ServerError(_)))
}
