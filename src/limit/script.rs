//! One call of the script `limits.lua`: several steps that run at once or not at all. The script
//! documents them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Script, ScriptInvocation};

use crate::store::{PREFIX, Store, StoreError};

/// The time in microseconds; `None` for the server's own, which all replicas share.
pub(super) type Time = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// How long a stream counts as open after its replica last renewed it.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// The beginning of every key of a limit in a cluster. One request's limits are checked together, so all limits
/// are on one server.
const TAG: &str = "sluicegate:{limits}";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits.lua")));

/// Steps in the order in which they run. Amounts are microseconds.
pub(super) struct Steps {
    call: ScriptInvocation<'static>,
    count: usize,
    /// Whether the keys get one hash tag: a script's keys must be on one server of a cluster.
    has_tag: bool,
}

/// Whether a step runs in any case, or only if another one refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    IfRefused,
}

/// The result of the steps.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The step that refused, and how long until it can succeed.
    pub(super) refused: Option<(usize, Duration)>,
    buckets: Vec<(f64, String)>,
}

impl Steps {
    /// `now` is the server's own time where it is `None`.
    pub(super) fn new(now: Option<u64>, store: &Store) -> Self {
        let mut call = SCRIPT.prepare_invoke();
        call.arg(now.map_or_else(String::new, |now| now.to_string()));
        call.arg(LEASE.as_micros() as u64);
        Self {
            call,
            count: 0,
            has_tag: store.is_cluster(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn read(&mut self, key: &str) -> usize {
        self.step(key, "read", "", "", Condition::Always)
    }

    pub(super) fn take(&mut self, key: &str, cost: f64, capacity: f64) -> usize {
        self.step(key, "take", cost, capacity, Condition::Always)
    }

    pub(super) fn lease(&mut self, key: &str, stream: &str, limit: u64) -> usize {
        self.step(key, "lease", stream, limit, Condition::Always)
    }

    pub(super) fn give_back(
        &mut self,
        key: &str,
        amount: f64,
        last_full_at: &str,
        condition: Condition,
    ) -> usize {
        self.step(key, "give_back", amount, last_full_at, condition)
    }

    pub(super) fn charge(&mut self, key: &str, amount: f64) -> usize {
        self.step(key, "charge", amount, "", Condition::Always)
    }

    pub(super) fn renew(&mut self, key: &str, stream: &str) -> usize {
        self.step(key, "renew", stream, "", Condition::Always)
    }

    pub(super) fn release(&mut self, key: &str, stream: &str, condition: Condition) -> usize {
        self.step(key, "release", stream, "", condition)
    }

    /// Adds a step. Returns its index.
    fn step(
        &mut self,
        key: &str,
        kind: &str,
        first: impl redis::ToRedisArgs,
        second: impl redis::ToRedisArgs,
        condition: Condition,
    ) -> usize {
        let condition = match condition {
            Condition::Always => "",
            Condition::IfRefused => "refused",
        };
        match key.strip_prefix(PREFIX).filter(|_| self.has_tag) {
            Some(rest) => self.call.key(format!("{TAG}:{rest}")),
            None => self.call.key(key),
        }
        .arg(kind)
        .arg(first)
        .arg(second)
        .arg(condition);
        self.count += 1;
        self.count - 1
    }

    pub(super) async fn run(&self, store: &Store) -> Result<Reply, StoreError> {
        let (refused, by, buckets): (usize, f64, Vec<(f64, String)>) =
            store.script(TAG, &self.call).await?;
        Ok(Reply {
            refused: refused.checked_sub(1).map(|step| (step, micros(by))),
            buckets,
        })
    }
}

impl Reply {
    /// How much is missing of a step's bucket, in microseconds.
    pub(super) fn missing(&self, step: usize) -> f64 {
        self.buckets.get(step).map_or(0.0, |(missing, _)| *missing)
    }

    /// When a step's bucket was last full.
    pub(super) fn last_full_at(&self, step: usize) -> String {
        let bucket = self.buckets.get(step);
        bucket.map_or_else(String::new, |(_, since)| since.clone())
    }
}

/// Rounded up, so that a client that waits this long does not come too early.
pub(super) fn micros(amount: f64) -> Duration {
    // A cast of a float takes the nearest that fits.
    Duration::from_micros(amount.max(0.0).ceil() as u64)
}
