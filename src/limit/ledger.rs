//! What the shared limits are told later: what answers did cost, and which streams are still open.
//!
//! One task tells it, in batches and in order, so that whoever ends a stream only leaves a note.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use crate::store::Store;

use super::bucket::{Bucket, GiveBack};
use super::redis::Time;
use super::script::{LEASE, Steps, When};

/// How many notes may wait; at 100 bytes each. All streams of a replica may end at once.
const WAITING: usize = 16_384;
/// How many are told in one round trip.
const BATCH: usize = 256;

/// The notes, the open streams, and the task that tells of them.
#[derive(Debug)]
pub(super) struct Ledger {
    notes: mpsc::Sender<Note>,
    open: Arc<Open>,
    metrics: Arc<Metrics>,
    _teller: AbortOnDropHandle<()>,
}

/// One open stream of a key, counted in the shared state until this is dropped. A replica that is
/// gone renews nothing, and its streams stop counting within [`LEASE`].
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Arc<Ledger>,
    key: Arc<str>,
    name: Arc<str>,
}

/// The set that counts each open stream, by the stream's name.
type Open = Mutex<HashMap<Arc<str>, Arc<str>>>;

#[derive(Debug)]
enum Note {
    GiveBack(GiveBack),
    Charge(Arc<str>, f64),
    Release(Arc<str>, Arc<str>),
    /// Answered once everything before it was told.
    Told(oneshot::Sender<()>),
}

struct Teller {
    store: Arc<Store>,
    notes: mpsc::Receiver<Note>,
    open: Arc<Open>,
    metrics: Arc<Metrics>,
    time: Time,
}

impl Ledger {
    pub(super) fn new(store: Arc<Store>, metrics: Arc<Metrics>, time: Time) -> Self {
        let (notes, receiver) = mpsc::channel(WAITING);
        let open = Arc::<Open>::default();
        let teller = Teller {
            store,
            notes: receiver,
            open: Arc::clone(&open),
            metrics: Arc::clone(&metrics),
            time,
        };
        Self {
            notes,
            open,
            metrics,
            _teller: AbortOnDropHandle::new(tokio::spawn(teller.run())),
        }
    }

    /// Makes `used` of what was `reserved` when the bucket was busy since `busy_since`.
    pub(super) fn settle(&self, bucket: &Arc<Bucket>, busy_since: &str, reserved: u64, used: u64) {
        match used.cmp(&reserved) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => self.give_back(GiveBack {
                key: Arc::clone(&bucket.key),
                amount: bucket.amount(reserved - used),
                busy_since: busy_since.to_owned(),
            }),
            std::cmp::Ordering::Greater => {
                let amount = bucket.amount(used - reserved);
                self.note(Note::Charge(Arc::clone(&bucket.key), amount));
            }
        }
    }

    pub(super) fn give_back(&self, what: GiveBack) {
        self.note(Note::GiveBack(what));
    }

    /// Counts a stream as open in the set `key` from the next renewal on, if it is not yet.
    pub(super) fn lease(self: &Arc<Self>, key: Arc<str>, name: Arc<str>) -> Lease {
        lock(&self.open).insert(Arc::clone(&name), Arc::clone(&key));
        Lease {
            ledger: Arc::clone(self),
            key,
            name,
        }
    }

    /// Waits until everything that was noted so far is told, or cannot be.
    pub(super) async fn told(&self) {
        let (tell, told) = oneshot::channel();
        if self.notes.send(Note::Told(tell)).await.is_ok() {
            // Without an answer there is nobody left to tell.
            let _ = told.await;
        }
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.metrics.settlements_lost(1);
        }
    }
}

/// A name for one open stream that no other replica gives.
pub(super) fn stream_name(replica: u64) -> Arc<str> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{replica:016x}.{count:x}").into()
}

impl Lease {
    /// The set, and the stream's name in it.
    pub(super) fn entry(&self) -> (&str, &str) {
        (&self.key, &self.name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the note, so that it is not renewed after it.
        lock(&self.ledger.open).remove(&self.name);
        let note = Note::Release(Arc::clone(&self.key), Arc::clone(&self.name));
        self.ledger.note(note);
    }
}

impl Teller {
    /// Ends when the ledger is dropped.
    async fn run(mut self) {
        let mut renewal = interval(LEASE / 4);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = self.notes.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.tell(&mut batch).await;
                }
                _ = renewal.tick() => self.renew().await,
            }
        }
    }

    async fn tell(&self, batch: &mut Vec<Note>) {
        let mut steps = Steps::new((self.time)());
        let mut count = 0;
        let mut waiting = Vec::new();
        for note in batch.drain(..) {
            match note {
                Note::GiveBack(GiveBack {
                    key,
                    amount,
                    busy_since,
                }) => {
                    steps.give_back(&key, amount, &busy_since, When::Always);
                }
                Note::Charge(key, amount) => {
                    steps.charge(&key, amount);
                }
                Note::Release(key, name) => {
                    steps.release(&key, &name, When::Always);
                }
                Note::Told(tell) => {
                    waiting.push(tell);
                    continue;
                }
            }
            count += 1;
        }
        if !steps.is_empty() && steps.ask(&self.store).await.is_err() {
            self.metrics.settlements_lost(count);
        }
        for tell in waiting {
            // Whoever waited may have given up.
            let _ = tell.send(());
        }
    }

    /// Says that the open streams are open still: to a server that was started anew, and of
    /// streams that were admitted while there was none, for the first time.
    async fn renew(&self) {
        let open: Vec<_> = {
            let open = lock(&self.open);
            let open = open.iter();
            open.map(|(name, key)| (Arc::clone(name), Arc::clone(key)))
                .collect()
        };
        for some in open.chunks(BATCH) {
            let mut steps = Steps::new((self.time)());
            for (name, key) in some {
                steps.renew(key, name);
            }
            if steps.ask(&self.store).await.is_err() {
                // There is another renewal before the leases end.
                return;
            }
        }
    }
}

/// The map is whole after every statement, so a panic elsewhere leaves nothing half done.
fn lock(open: &Open) -> MutexGuard<'_, HashMap<Arc<str>, Arc<str>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
