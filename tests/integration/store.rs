//! The connection to the shared state: how long commands wait, and when they fail at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Script, cmd, pipe};
use sluicegate::metrics::Metrics;
use sluicegate::store::{DEADLINE, Store, StoreError};

use crate::valkey::Valkey;

/// Far longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

fn store(valkey: &Valkey) -> (Store, Arc<Metrics>) {
    let metrics = Arc::<Metrics>::default();
    (Store::new(valkey.client(), Arc::clone(&metrics)), metrics)
}

async fn up(store: &Store) {
    tokio::time::timeout(TIMEOUT, store.wait_until_up())
        .await
        .unwrap();
}

async fn ping(store: &Store) -> Result<String, StoreError> {
    store.query(&cmd("PING")).await
}

fn says(metrics: &Metrics, line: &str) -> bool {
    metrics.text().lines().any(|each| each == line)
}

#[tokio::test]
async fn all_commands_share_one_connection() {
    let valkey = Valkey::start();
    let (store, metrics) = store(&valkey);
    // The first command waits for the connection.
    assert_eq!(ping(&store).await.unwrap(), "PONG");
    let mut both = pipe();
    both.cmd("SET").arg("a").arg(1).ignore();
    both.cmd("INCR").arg("a");
    let (two,): (u64,) = store.pipeline(&both).await.unwrap();
    assert_eq!(two, 2);
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for sum in [7, 12] {
        let answer: u64 = store.script("a", script.key("a").arg(5)).await.unwrap();
        assert_eq!(answer, sum);
    }
    let asked = (0..100).map(|_| ping(&store));
    for answer in asked {
        answer.await.unwrap();
    }
    let clients: String = store.query(cmd("CLIENT").arg("LIST")).await.unwrap();
    assert_eq!(clients.lines().count(), 1, "{clients}");
    assert!(
        says(&metrics, "sluicegate_store_up 1"),
        "{}",
        metrics.text()
    );
    assert!(says(&metrics, "sluicegate_store_round_trips_total 105"));
}

#[tokio::test]
async fn a_dedicated_connection_may_block() {
    let valkey = Valkey::start();
    let (store, _) = store(&valkey);
    up(&store).await;
    let mut own = store.dedicated("list").await.unwrap();
    let blocked = tokio::spawn(async move {
        let popped: (String, String) = cmd("BLPOP")
            .arg(&["list", "0"])
            .query_async(&mut own)
            .await
            .unwrap();
        popped.1
    });
    // While it blocks, other commands do not wait.
    while store
        .query::<String>(cmd("CLIENT").arg("LIST"))
        .await
        .unwrap()
        .matches("cmd=blpop")
        .count()
        == 0
    {}
    let _: u64 = store
        .query(cmd("RPUSH").arg(&["list", "word"]))
        .await
        .unwrap();
    assert_eq!(blocked.await.unwrap(), "word");
}

#[tokio::test]
async fn a_refused_command_does_not_mark_the_store_down() {
    let valkey = Valkey::start();
    let (store, metrics) = store(&valkey);
    up(&store).await;
    let _: () = store.query(cmd("SET").arg(&["a", "word"])).await.unwrap();
    let refused = store.query::<u64>(cmd("INCR").arg("a")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    let refused = store.query::<u64>(cmd("GET").arg("a")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    assert!(store.is_up());
    let counted = "sluicegate_store_failures_total{cause=\"refused\"} 2";
    assert!(says(&metrics, counted), "{}", metrics.text());
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_down() {
    let valkey = Valkey::start();
    let (store, _) = store(&valkey);
    up(&store).await;
    let mut own = valkey.connect().await;
    let copy = cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).clone();
    copy.exec_async(&mut own).await.unwrap();
    let failed = store.query::<()>(cmd("SET").arg(&["a", "1"])).await;
    assert!(matches!(failed, Err(StoreError::Unavailable)));
    assert!(!store.is_up());
    let alone = cmd("REPLICAOF").arg(&["NO", "ONE"]).clone();
    alone.exec_async(&mut own).await.unwrap();
    up(&store).await;
}

#[tokio::test]
async fn a_stalled_server_costs_one_deadline_and_then_nothing() {
    let valkey = Valkey::start();
    let (store, metrics) = store(&valkey);
    up(&store).await;
    valkey.stall();
    assert!(matches!(ping(&store).await, Err(StoreError::Unavailable)));
    assert!(!store.is_up());
    // A thousand more would take minutes if each one waited.
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(matches!(ping(&store).await, Err(StoreError::Unavailable)));
    }
    assert!(begun.elapsed() < DEADLINE * 100, "{:?}", begun.elapsed());
    assert!(says(&metrics, "sluicegate_store_up 0"));
    assert!(says(
        &metrics,
        "sluicegate_store_failures_total{cause=\"timeout\"} 1"
    ));
    valkey.resume();
    up(&store).await;
    assert_eq!(ping(&store).await.unwrap(), "PONG");
    assert!(says(&metrics, "sluicegate_store_up 1"));
}

#[tokio::test]
async fn a_restarted_server_is_connected_again() {
    let mut valkey = Valkey::start();
    let (store, _) = store(&valkey);
    up(&store).await;
    valkey.kill();
    assert!(matches!(ping(&store).await, Err(StoreError::Unavailable)));
    assert!(store.dedicated("list").await.is_err());
    valkey.restart();
    up(&store).await;
    assert_eq!(ping(&store).await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_server_that_starts_later_is_connected() {
    let mut valkey = Valkey::start();
    valkey.kill();
    let (store, _) = store(&valkey);
    assert!(matches!(ping(&store).await, Err(StoreError::Unavailable)));
    valkey.restart();
    up(&store).await;
    assert_eq!(ping(&store).await.unwrap(), "PONG");
}
