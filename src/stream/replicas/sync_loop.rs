//! One task's work: a round trip to the store, again and again.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Value, from_redis_value};
use tokio::time::{Instant, sleep, timeout};

use super::batch::{self, Appended, Ask, Batch};
use super::{Inner, LEASE, RENEWAL};
use crate::model::StreamId;
use crate::store::StoreError;
use crate::stream::registry::Found;

/// How long a turn waits for more to do.
const TURN: Duration = Duration::from_millis(100);
/// The same where somebody reads another replica's stream.
pub(super) const FOLLOWING: Duration = Duration::from_millis(50);
/// The same where somebody waits for it.
const SOON: Duration = Duration::from_millis(10);
/// How long a turn waits behind one that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

impl Inner {
    /// Turn after turn, for as long as it is polled.
    pub(super) async fn run(&self) {
        let mut renewed: Option<Instant> = None;
        loop {
            let due = renewed.is_none_or(|renewed| renewed.elapsed() >= RENEWAL);
            let renews = due && !self.work().left;
            let turned = self.turn(renews.then_some(LEASE)).await;
            // A store that was gone may have forgotten it.
            renewed = match turned {
                Ok(_) if renews => Some(Instant::now()),
                Ok(_) => renewed,
                Err(_) => None,
            };
            let pause = match turned {
                Err(_) => {
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
                // More than one turn takes.
                Ok(true) => continue,
                Ok(false) if self.work().followed.is_empty() => TURN,
                Ok(false) => FOLLOWING,
            };
            if timeout(pause, self.soon.notified()).await.is_ok() {
                sleep(SOON).await;
            }
        }
    }

    /// One round trip. Says whether there is more to write than one takes.
    pub(super) async fn turn(&self, lease: Option<Duration>) -> Result<bool, StoreError> {
        let mut batch = Batch::new();
        if let Some(lease) = lease {
            batch.renew(self.keys.replica(), lease);
        }
        batch.take_commands(self.keys.own_commands());
        let doubted = self.ask_again(&mut batch);
        let (taken, more) = self.write(&mut batch);
        self.follow(&mut batch);
        let answers = match self.store.pipeline::<Vec<Value>>(batch.pipeline()).await {
            Ok(answers) => answers,
            Err(error) => {
                self.work().doubted.extend(doubted);
                self.put_back(taken);
                self.unfollowed();
                return Err(error);
            }
        };
        let mut lives = HashMap::new();
        for (ask, answer) in batch.into_asks().into_iter().zip(answers) {
            match ask {
                Ask::Nothing => {}
                Ask::Commands => {
                    self.obey(&from_redis_value::<Vec<String>>(answer).unwrap_or_default())
                }
                // One that is refused waits for nothing either.
                Ask::Known(stream) => self.known(stream),
                Ask::Append { stream, position } => match batch::appended(&answer) {
                    Appended::Stored => self.stored(stream, position),
                    Appended::Outdated => drop(self.work().doubted.insert(stream, position)),
                    Appended::Refused => {
                        self.show(stream);
                        self.unwritten(vec![stream]);
                    }
                },
                Ask::Newest { stream, position } => {
                    self.settled(stream, position, &batch::entries(answer));
                }
                Ask::Life(stream) => {
                    let life: (Option<Value>, Option<String>) =
                        from_redis_value(answer).unwrap_or_default();
                    lives.insert(stream, (life.0.is_some(), life.1.is_some()));
                }
                Ask::Entries(stream) => {
                    let (lives, past) = lives.remove(&stream).unwrap_or((true, false));
                    self.followed(stream, batch::entries(answer), lives, past);
                }
            }
        }
        Ok(more)
    }

    /// Does what others have asked of this replica.
    fn obey(&self, commands: &[String]) {
        for id in commands.iter().filter_map(|id| StreamId::parse(id)) {
            if let Some(Found::Stream(stream)) = self.registry.find(id) {
                stream.cancel();
            }
        }
    }
}
