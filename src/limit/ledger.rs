//! What is written to the shared limits later: what answers did cost, and which streams are open.
//!
//! One task writes it, in batches and in order. The end of a stream only adds an entry to a queue,
//! so it never waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use crate::store::Store;

use super::bucket::{Bucket, GiveBack};
use super::script::{Condition, LEASE, Steps, Time};

/// How many entries may wait, of 100 bytes each. All streams of a replica may end at once.
const QUEUE: usize = 16_384;
/// How many entries one round trip writes.
const BATCH: usize = 256;

/// The queue of entries, the open streams, and the task that writes them.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: mpsc::Sender<LedgerEntry>,
    open: Arc<OpenStreams>,
    metrics: Arc<Metrics>,
    _task: AbortOnDropHandle<()>,
}

/// One open stream of a key, counted in the shared state until this is dropped. A dead replica renews
/// nothing, and its streams stop counting within [`LEASE`].
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Arc<Ledger>,
    key: Arc<str>,
    name: Arc<str>,
}

/// The set that counts each open stream, by the stream's name.
type OpenStreams = Mutex<HashMap<Arc<str>, Arc<str>>>;

#[derive(Debug)]
enum LedgerEntry {
    GiveBack(GiveBack),
    Charge(Arc<str>, f64),
    Release(Arc<str>, Arc<str>),
    /// Answered once everything before it was written.
    Flush(oneshot::Sender<()>),
}

struct LedgerTask {
    store: Arc<Store>,
    entries: mpsc::Receiver<LedgerEntry>,
    open: Arc<OpenStreams>,
    metrics: Arc<Metrics>,
    time: Time,
}

impl Ledger {
    pub(super) fn new(store: Arc<Store>, metrics: Arc<Metrics>, time: Time) -> Self {
        let (entries, receiver) = mpsc::channel(QUEUE);
        let open = Arc::<OpenStreams>::default();
        let task = LedgerTask {
            store,
            entries: receiver,
            open: Arc::clone(&open),
            metrics: Arc::clone(&metrics),
            time,
        };
        Self {
            entries,
            open,
            metrics,
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    /// Corrects what was taken from a bucket to what was used. What comes back counts only if the
    /// bucket was not full since `last_full_at`.
    pub(super) fn settle(&self, bucket: &Arc<Bucket>, last_full_at: &str, taken: u64, used: u64) {
        match used.cmp(&taken) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => self.push(LedgerEntry::GiveBack(GiveBack {
                key: Arc::clone(&bucket.key),
                amount: bucket.amount(taken - used),
                last_full_at: last_full_at.to_owned(),
            })),
            std::cmp::Ordering::Greater => {
                let amount = bucket.amount(used - taken);
                self.push(LedgerEntry::Charge(Arc::clone(&bucket.key), amount));
            }
        }
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

    /// Waits until every entry so far is written, or cannot be.
    pub(super) async fn flush(&self) {
        let (sender, flushed) = oneshot::channel();
        if self.entries.send(LedgerEntry::Flush(sender)).await.is_ok() {
            // Without an answer the task has ended.
            let _ = flushed.await;
        }
    }

    fn push(&self, entry: LedgerEntry) {
        if self.entries.try_send(entry).is_err() {
            self.metrics.record_lost_settlements(1);
        }
    }
}

/// A name for one open stream that no other replica uses.
pub(super) fn stream_name(replica: u64) -> Arc<str> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{replica:016x}.{count:x}").into()
}

impl Lease {
    /// The set, and the stream's name in it.
    pub(super) fn set_and_name(&self) -> (&str, &str) {
        (&self.key, &self.name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the entry, so that no renewal follows it.
        lock(&self.ledger.open).remove(&self.name);
        let entry = LedgerEntry::Release(Arc::clone(&self.key), Arc::clone(&self.name));
        self.ledger.push(entry);
    }
}

impl LedgerTask {
    /// Ends when the ledger is dropped.
    async fn run(mut self) {
        let mut renewal = interval(LEASE / 4);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = self.entries.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.write(&mut batch).await;
                }
                _ = renewal.tick() => self.renew().await,
            }
        }
    }

    async fn write(&self, batch: &mut Vec<LedgerEntry>) {
        let mut steps = Steps::new((self.time)(), &self.store);
        let mut count = 0;
        let mut waiting = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                LedgerEntry::GiveBack(GiveBack {
                    key,
                    amount,
                    last_full_at,
                }) => {
                    steps.give_back(&key, amount, &last_full_at, Condition::Always);
                }
                LedgerEntry::Charge(key, amount) => {
                    steps.charge(&key, amount);
                }
                LedgerEntry::Release(key, name) => {
                    steps.release(&key, &name, Condition::Always);
                }
                LedgerEntry::Flush(sender) => {
                    waiting.push(sender);
                    continue;
                }
            }
            count += 1;
        }
        if !steps.is_empty() && steps.run(&self.store).await.is_err() {
            self.metrics.record_lost_settlements(count);
        }
        for sender in waiting {
            // The receiver may have given up.
            let _ = sender.send(());
        }
    }

    /// Renews the leases of the open streams. A server that was restarted, or that was away when a
    /// stream was admitted, counts it from here on.
    async fn renew(&self) {
        let open: Vec<_> = {
            let open = lock(&self.open);
            let open = open.iter();
            open.map(|(name, key)| (Arc::clone(name), Arc::clone(key)))
                .collect()
        };
        for some in open.chunks(BATCH) {
            let mut steps = Steps::new((self.time)(), &self.store);
            for (name, key) in some {
                steps.renew(key, name);
            }
            if steps.run(&self.store).await.is_err() {
                // The next renewal comes before the leases end.
                return;
            }
        }
    }
}

/// The map is consistent after every statement, so a panic elsewhere leaves nothing half done.
fn lock(open: &OpenStreams) -> MutexGuard<'_, HashMap<Arc<str>, Arc<str>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
