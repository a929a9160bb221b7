//! Limits over replicas, on a real server: two limiters that share only its state.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::limit::{
    Admission, Estimate, KeySettings, LimitRefusal, Limiter, Permit, Settings, SharedState,
};
use sluicegate::metrics::Metrics;
use sluicegate::model::{ErrorCode, Rate, Usage};
use sluicegate::store::{DEADLINE, Store};

use super::{HOME, a_minute, rate};
use crate::valkey::Valkey;

const HOUR: Duration = Duration::from_secs(3_600);
/// Far longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

fn key(requests: Option<Rate>, tokens: Option<Rate>, streams: Option<u64>) -> Settings {
    Settings {
        keys: vec![KeySettings {
            name: "app".to_owned(),
            requests,
            tokens,
            streams,
        }],
        ..Settings::default()
    }
}

pub fn state(valkey: &Valkey, deny: bool) -> SharedState {
    let metrics = Arc::<Metrics>::default();
    SharedState {
        store: Arc::new(Store::new(valkey.client(), Arc::clone(&metrics))),
        metrics,
        deny,
    }
}

pub async fn up(state: &SharedState) {
    let up = tokio::time::timeout(TIMEOUT, state.store.wait_until_up());
    up.await.expect("the server does not answer");
}

/// A connected replica.
async fn replica(valkey: &Valkey, settings: &Settings) -> Arc<Limiter> {
    let state = state(valkey, true);
    up(&state).await;
    Arc::new(Limiter::new(settings, Some(state), Arc::default()))
}

async fn ask(limiter: &Limiter, admission: Admission) -> Result<Permit, LimitRefusal> {
    let caller = limiter.account("app");
    limiter.admit(HOME, caller.as_ref(), admission).await
}

async fn prompt(limiter: &Limiter, tokens: u64) -> Result<Permit, LimitRefusal> {
    let caller = limiter.account("app");
    let permit = limiter
        .admit(HOME, caller.as_ref(), Admission::Stream)
        .await?;
    let estimate = Estimate {
        prompt: 0,
        output: Some(tokens),
        default_output: 0,
    };
    limiter.reserve(permit, caller.as_ref(), estimate).await
}

/// How many of `count` concurrent requests pass, spread over the replicas.
async fn passed<F>(replicas: &[Arc<Limiter>], count: usize, ask: fn(Arc<Limiter>) -> F) -> usize
where
    F: Future<Output = Result<Permit, LimitRefusal>> + Send + 'static,
{
    let asked = replicas.iter().cycle().take(count).cloned();
    let asked: Vec<_> = asked.map(|limiter| tokio::spawn(ask(limiter))).collect();
    let mut permits = Vec::new();
    for asked in asked {
        match asked.await.unwrap() {
            Ok(permit) => permits.push(permit),
            Err(refused) => assert_eq!(refused.error.code(), ErrorCode::RateLimited),
        }
    }
    permits.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_of_forty_concurrent_requests_pass_a_limit_of_ten() {
    let valkey = Valkey::start();
    let settings = key(Some(rate(10, HOUR)), None, None);
    let replicas = [
        replica(&valkey, &settings).await,
        replica(&valkey, &settings).await,
    ];
    let ask = |limiter: Arc<Limiter>| async move { ask(&limiter, Admission::Request).await };
    assert_eq!(passed(&replicas, 40, ask).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_of_forty_requests_of_one_address_pass_a_limit_of_ten() {
    let valkey = Valkey::start();
    let settings = Settings {
        per_address: Some(rate(10, HOUR)),
        ..Settings::default()
    };
    let replicas = [
        replica(&valkey, &settings).await,
        replica(&valkey, &settings).await,
    ];
    let ask = |limiter: Arc<Limiter>| async move { ask(&limiter, Admission::Request).await };
    assert_eq!(passed(&replicas, 40, ask).await, 10);
    // Requests without a valid key are counted too.
    assert!(replicas[0].admit_address(HOME).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn five_of_fifty_concurrent_prompts_pass_a_budget_for_five() {
    let valkey = Valkey::start();
    let settings = key(Some(rate(100, HOUR)), Some(rate(500, HOUR)), None);
    let replicas = [
        replica(&valkey, &settings).await,
        replica(&valkey, &settings).await,
    ];
    let ask = |limiter: Arc<Limiter>| async move { prompt(&limiter, 100).await };
    assert_eq!(passed(&replicas, 50, ask).await, 5);
    // The refused ones took no request, and the unused tokens came back.
    for limiter in &replicas {
        limiter.flush().await;
    }
    let permit = ask_once(&replicas[1]).await;
    assert_eq!(permit.limits().requests.unwrap().remaining, 94);
    assert_eq!(permit.limits().tokens.unwrap().remaining, 500);
}

async fn ask_once(limiter: &Limiter) -> Permit {
    ask(limiter, Admission::Request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_counted_together() {
    let valkey = Valkey::start();
    let settings = key(None, None, Some(3));
    let replicas = [
        replica(&valkey, &settings).await,
        replica(&valkey, &settings).await,
    ];
    let [one, two] = &replicas;
    let mut held = vec![
        ask(one, Admission::Stream).await.unwrap(),
        ask(two, Admission::Stream).await.unwrap(),
        ask(one, Admission::Stream).await.unwrap(),
    ];
    for limiter in &replicas {
        let refused = ask(limiter, Admission::Stream).await.unwrap_err();
        assert_eq!(refused.error.code(), ErrorCode::RateLimited);
        assert!(refused.error.retry_after().is_some());
        assert!(ask(limiter, Admission::Request).await.is_ok());
    }
    assert_eq!((one.open_streams(), two.open_streams()), (2, 1));
    held.pop();
    one.flush().await;
    held.push(ask(two, Admission::Stream).await.unwrap());
    assert!(ask(one, Admission::Stream).await.is_err());
}

/// The test moves the time, so that it does not wait for a lease to expire.
#[test]
fn the_streams_of_a_killed_replica_stop_counting() {
    let valkey = Valkey::start();
    let settings = key(None, None, Some(1));
    let seconds = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let time = {
        let seconds = Arc::clone(&seconds);
        move || seconds.load(std::sync::atomic::Ordering::Relaxed) * 1_000_000
    };
    let limiter = |state| {
        let clock = governor::clock::MonotonicClock;
        Limiter::with_time(&settings, clock, state, time.clone())
    };
    let killed = tokio::runtime::Runtime::new().unwrap();
    let held = killed.block_on(async {
        let state = state(&valkey, true);
        up(&state).await;
        ask(&limiter(state), Admission::Stream).await.unwrap()
    });
    killed.shutdown_background();
    let alive = tokio::runtime::Runtime::new().unwrap();
    alive.block_on(async {
        let state = state(&valkey, true);
        up(&state).await;
        let limiter = limiter(state);
        seconds.fetch_add(19, std::sync::atomic::Ordering::Relaxed);
        assert!(ask(&limiter, Admission::Stream).await.is_err());
        seconds.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        assert!(ask(&limiter, Admission::Stream).await.is_ok());
    });
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_exact_on_the_servers_clock() {
    let valkey = Valkey::start();
    // One comes back every 300 ms, by the server's own clock.
    let settings = key(Some(rate(10, Duration::from_secs(3))), None, None);
    let limiter = replica(&valkey, &settings).await;
    let mut waits = 0;
    while waits < 4 {
        if let Err(refused) = ask(&limiter, Admission::Request).await {
            let after = refused.error.retry_after().unwrap();
            assert!(after <= Duration::from_millis(300), "{after:?}");
            tokio::time::sleep(after).await;
            assert!(ask(&limiter, Admission::Request).await.is_ok());
            waits += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_stored_expires() {
    let valkey = Valkey::start();
    let settings = Settings {
        per_address: a_minute(60),
        ..key(a_minute(600), a_minute(600), Some(1_000))
    };
    let limiter = replica(&valkey, &settings).await;
    let caller = limiter.account("app");
    let mut held = Vec::new();
    for address in 0..200_u32 {
        let address: IpAddr = std::net::Ipv4Addr::from(address << 8).into();
        let permit = limiter.admit(address, caller.as_ref(), Admission::Stream);
        held.push(permit.await.unwrap());
        let estimate = Estimate {
            prompt: 1,
            output: None,
            default_output: 1,
        };
        let permit = held.pop().unwrap();
        held.push(
            limiter
                .reserve(permit, caller.as_ref(), estimate)
                .await
                .unwrap(),
        );
    }
    let mut own = valkey.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut own)
        .await
        .unwrap();
    // The addresses', those of the key's three limits, and the probe.
    assert!(keys.len() <= 204, "{}", keys.len());
    for key in keys {
        assert!(key.starts_with("sluicegate:"), "{key}");
        let lives: i64 = redis::cmd("PTTL")
            .arg(&key)
            .query_async(&mut own)
            .await
            .unwrap();
        // -2: it expired meanwhile.
        assert!(
            (0..=60_000).contains(&lives) || lives == -2,
            "{key}: {lives}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_each_process_counts_alone() {
    let mut valkey = Valkey::start();
    let settings = key(Some(rate(10, HOUR)), Some(rate(1_000, HOUR)), Some(2));
    let state = state(&valkey, false);
    up(&state).await;
    let limiter = Arc::new(Limiter::new(&settings, Some(state.clone()), Arc::default()));
    let first = prompt(&limiter, 100).await.unwrap();
    valkey.kill();
    // This request finds the server gone; the open stream counts here too.
    let second = prompt(&limiter, 100).await.unwrap();
    assert_eq!(second.limits().requests.unwrap().remaining, 9);
    assert_eq!(
        prompt(&limiter, 100).await.unwrap_err().error.code(),
        ErrorCode::RateLimited
    );
    drop(first);
    let begun = Instant::now();
    let mut passed = 0;
    for _ in 0..1_000 {
        passed += usize::from(ask(&limiter, Admission::Request).await.is_ok());
    }
    assert_eq!(passed, 9);
    assert!(begun.elapsed() < DEADLINE * 100, "{:?}", begun.elapsed());
    let text = state.metrics.text();
    let counted = "sluicegate_limits_without_store_total{decision=\"local\"}";
    assert!(text.contains(counted), "{text}");
    valkey.restart();
    up(&state).await;
    // The server starts empty; the local counts do not apply any more.
    assert_eq!(
        ask_once(&limiter)
            .await
            .limits()
            .requests
            .unwrap()
            .remaining,
        9
    );
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_requests_are_refused_if_the_config_says_so() {
    let valkey = Valkey::start();
    let settings = key(Some(rate(10, HOUR)), None, None);
    let state = state(&valkey, true);
    up(&state).await;
    let limiter = Limiter::new(&settings, Some(state.clone()), Arc::default());
    ask_once(&limiter).await;
    valkey.stall();
    let begun = Instant::now();
    for _ in 0..1_000 {
        let refused = ask(&limiter, Admission::Stream).await.unwrap_err();
        assert_eq!(refused.error.code(), ErrorCode::Overloaded);
        assert!(refused.error.retry_after().is_some());
    }
    assert!(begun.elapsed() < DEADLINE * 100, "{:?}", begun.elapsed());
    assert_eq!(limiter.open_streams(), 0);
    let counted = "sluicegate_limits_without_store_total{decision=\"denied\"} 1000";
    assert!(state.metrics.text().contains(counted));
    valkey.resume();
    up(&state).await;
    // The command that had no answer was carried out all the same.
    let left = ask_once(&limiter)
        .await
        .limits()
        .requests
        .unwrap()
        .remaining;
    assert!((7..=8).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_count_of_tokens_frees_a_shared_budget() {
    let valkey = Valkey::start();
    let counts = [1 << 32, (1 << 53) - 1, 1 << 53, u64::MAX];
    for (number, count) in (0..).zip(counts) {
        // Rates that differ are different buckets. The last one needs a century for one token.
        for rate in [
            rate(100 + number, HOUR),
            rate(1, Duration::MAX - Duration::from_nanos(number)),
        ] {
            let state = state(&valkey, true);
            up(&state).await;
            let settings = key(None, Some(rate), None);
            let limiter = Limiter::new(&settings, Some(state.clone()), Arc::default());
            for _ in 0..2 {
                let Ok(mut permit) = prompt(&limiter, 1).await else {
                    break;
                };
                let usage = Usage {
                    input: Some(count),
                    output: Some(count),
                    ..Usage::default()
                };
                permit.settle(Some(usage), count);
            }
            limiter.flush().await;
            let refused = prompt(&limiter, 1).await.unwrap_err();
            assert_eq!(refused.error.code(), ErrorCode::RateLimited, "{count}");
            assert_eq!(refused.limits.tokens.unwrap().remaining, 0);
            let lost = "sluicegate_limits_lost_settlements_total 0";
            assert!(state.metrics.text().contains(lost));
        }
    }
}
