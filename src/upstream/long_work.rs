//! Work in the task of one stream that takes so long that the other tasks of its thread must not wait
//! for it.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Work on this many bytes and more is long, in bytes: a frame of this length can take 10 ms and more,
/// depending on its wire and on the client's dialect.
const LONG: usize = 256 * 1024;

/// Does work whose cost grows with `bytes`. If it is long, the other tasks of this thread continue on
/// another one meanwhile. A runtime with one thread has no other: there, they wait.
pub fn run_long_work<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let has_threads = |runtime: Handle| runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    if bytes >= LONG && Handle::try_current().is_ok_and(has_threads) {
        block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Longer than a task needs to begin.
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Whether another task of the runtime's only thread runs while there is work on `bytes`.
    async fn yields(bytes: usize, wait: Duration) -> bool {
        let work = tokio::spawn(async move {
            let (begun, has_begun) = mpsc::channel();
            // A spawned task runs next on this thread.
            tokio::spawn(async move { begun.send(()) });
            run_long_work(bytes, || has_begun.recv_timeout(wait).is_ok())
        });
        work.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_run_during_long_work_only() {
        assert!(yields(LONG, TIMEOUT).await);
        assert!(!yields(LONG - 1, Duration::from_millis(20)).await);
    }

    #[tokio::test]
    async fn long_work_runs_on_a_runtime_with_one_thread() {
        assert_eq!(run_long_work(LONG, || 1), 1);
    }

    #[test]
    fn long_work_runs_without_a_runtime() {
        assert_eq!(run_long_work(LONG, || 1), 1);
    }
}
