//! Requests from very many addresses: the shared state stores little for each, and it expires.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use sluicegate::limit::{Limiter, Settings};
use sluicegate::model::ErrorCode;
use tokio::task::JoinSet;

use super::rate;
use super::replicas::{state, up};
use crate::valkey::Valkey;

/// How many requests run at once; all share one connection.
const AT_ONCE: usize = 64;
/// How much of the server's memory one address may take, in bytes.
const EACH: u64 = 300;
/// What the server needs beside that, in bytes: connection buffers, the script.
const BESIDE: u64 = 2 << 20;

/// Keys that expire while the test runs would be missing, so they expire long after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_addresses_are_stored_until_they_expire() {
    crowd(20_000, Duration::from_secs(3_600), false).await;
}

#[ignore = "takes minutes"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_addresses_are_stored_until_they_expire() {
    let costs = crowd(1_000_000, Duration::from_secs(150), true).await;
    let _ = writeln!(std::io::stderr(), "{costs}");
}

/// One request from each address; an address's allowance comes back within `back`. Waits for that if
/// `wait`. Returns a line with the cost.
async fn crowd(addresses: u32, back: Duration, wait: bool) -> String {
    let valkey = Valkey::start();
    let settings = Settings {
        per_address: Some(rate(1, back)),
        ..Settings::default()
    };
    let state = state(&valkey, true);
    up(&state).await;
    let limiter = Arc::new(Limiter::new(&settings, Some(state.clone()), Arc::default()));
    let mut own = valkey.connect().await;
    let (server_before, process_before) = (memory(&mut own).await, resident());
    let begun = Instant::now();
    let (next, mut asking) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
    for _ in 0..AT_ONCE {
        let (limiter, state, next) = (Arc::clone(&limiter), state.clone(), Arc::clone(&next));
        asking.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= addresses {
                    return;
                }
                while let Err(refused) = limiter.admit_address(address(number)).await {
                    match refused.error.code() {
                        // A busy machine may miss the deadline and count the request all the same.
                        ErrorCode::Overloaded => up(&state).await,
                        ErrorCode::RateLimited => break,
                        _ => panic!("{refused:?}"),
                    }
                }
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    let took = begun.elapsed();
    let (kept, expiring) = keys(&mut own).await;
    let (server, process) = (memory(&mut own).await, resident());
    // The probe's key may be there too.
    assert!(
        (addresses.into()..=u64::from(addresses) + 1).contains(&kept),
        "{kept}"
    );
    assert_eq!(expiring, kept);
    let longest = longest_life(&mut own).await;
    assert!(longest <= back, "a key lives for {longest:?} more");
    let each = (server - server_before).saturating_sub(BESIDE) / kept;
    assert!(each <= EACH, "{each} bytes for an address");
    if wait {
        wait_for_expiry(&mut own, back).await;
        // Tables shrink in steps, and may keep a part.
        let left = memory(&mut own)
            .await
            .saturating_sub(server_before + BESIDE);
        assert!(left < (server - server_before) / 4, "{left} bytes are left");
    }
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    format!(
        "{addresses} addresses in {took:?}, {each} bytes each; the server: {}, {}; this process: {}, {}",
        mib(server_before),
        mib(server),
        mib(process_before),
        mib(process)
    )
}

async fn wait_for_expiry(own: &mut MultiplexedConnection, back: Duration) {
    let deadline = Instant::now() + 2 * back + Duration::from_secs(20);
    while keys(own).await.0 > 1 {
        assert!(Instant::now() < deadline, "{:?}", keys(own).await);
        // The server expires keys by its own clock; there is no event to wait for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The longest time until a key expires.
async fn longest_life(own: &mut MultiplexedConnection) -> Duration {
    const LONGEST: &str = "local longest = 0
        for _, key in ipairs(redis.call('KEYS', '*')) do
            longest = math.max(longest, redis.call('PTTL', key))
        end
        return longest";
    let longest: u64 = redis::cmd("EVAL")
        .arg(LONGEST)
        .arg(0)
        .query_async(own)
        .await
        .unwrap();
    Duration::from_millis(longest)
}

/// Spread over the address space, and each counted on its own: an IPv6 address by its /64 network.
fn address(number: u32) -> IpAddr {
    let spread = number.wrapping_mul(0x9e37_79b1);
    if number.is_multiple_of(2) {
        Ipv4Addr::from(spread).into()
    } else {
        Ipv6Addr::from(u128::from(spread) << 64 | u128::from(number)).into()
    }
}

/// The number of keys, and how many of them expire.
async fn keys(own: &mut MultiplexedConnection) -> (u64, u64) {
    let info: String = redis::cmd("INFO")
        .arg("keyspace")
        .query_async(own)
        .await
        .unwrap();
    let number = |name: &str| {
        let (_, rest) = info.split_once(name)?;
        rest.split(',').next()?.parse().ok()
    };
    (
        number("keys=").unwrap_or(0),
        number("expires=").unwrap_or(0),
    )
}

/// The memory that the server uses.
async fn memory(own: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query_async(own)
        .await
        .unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}

/// The memory that this process uses.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}
