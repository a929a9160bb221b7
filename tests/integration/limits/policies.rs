//! Several policies at once: what they refuse, their messages and headers, and what a refusal costs.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use sluicegate::limit::{
    Account, AddressPermit, Admission, KeySettings, LocalLimits, Permit, Settings,
};
use sluicegate::model::ErrorCode;

use super::{HOME, MINUTE, a_minute, app, limiter, per_address, rate, remaining, request};

#[test]
fn a_burst_is_exact_under_many_threads() {
    let settings = Settings {
        per_address: a_minute(5_000),
        keys: app(a_minute(3_000), None),
        ..Settings::default()
    };
    let (limiter, _clock) = limiter(&settings);
    let (arrived, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let caller = limiter.account("app").unwrap();
                for _ in 0..1_000 {
                    let Ok(address_permit) = limiter.admit_address(HOME) else {
                        continue;
                    };
                    arrived.fetch_add(1, Ordering::Relaxed);
                    if limiter
                        .admit(address_permit, Some(&caller), Admission::Stream)
                        .is_ok()
                    {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 3_000);
    // Those that the key's limit refused gave the address its requests back.
    assert_eq!(arrived.into_inner(), 8_000);
    assert_eq!(remaining(&limiter, HOME), 2_000);
    assert_eq!(limiter.open_streams(), 0);
}

#[test]
fn a_refusal_by_one_policy_takes_nothing_from_another() {
    const NONE_LEFT: [Option<u64>; 2] = [None, Some(2)];
    // Every combination of policies that have nothing left; the rest have plenty.
    for combination in 1..8 {
        let [replica, streams, requests] =
            [0, 1, 2].map(|policy| NONE_LEFT[combination >> policy & 1]);
        let (limiter, _clock) = limiter(&Settings {
            streams: Some(replica.unwrap_or(100)),
            per_address: a_minute(100),
            keys: app(
                a_minute(requests.unwrap_or(100)),
                Some(streams.unwrap_or(100)),
            ),
            ..Settings::default()
        });
        let caller = limiter.account("app").unwrap();
        let held = [0, 1].map(|_| request(&limiter, Some(&caller), Admission::Stream).unwrap());
        let before = held[1].limits().requests.unwrap();

        for _ in 0..300 {
            let refused = request(&limiter, Some(&caller), Admission::Stream).unwrap_err();
            let expected = if replica.is_some() {
                ErrorCode::Overloaded
            } else {
                ErrorCode::RateLimited
            };
            assert_eq!(refused.error.code(), expected, "{combination:03b}");
            // The key's own status has not changed.
            assert_eq!(refused.limits.requests, Some(before), "{combination:03b}");
        }
        assert_eq!(limiter.open_streams(), 2);
        assert_eq!(caller.open_streams(), 2);
        assert_eq!(remaining(&limiter, HOME), 98);

        drop(held);
        assert_eq!((limiter.open_streams(), caller.open_streams()), (0, 0));
        let next = request(&limiter, Some(&caller), Admission::Stream);
        assert_eq!(next.is_ok(), requests.is_none(), "{combination:03b}");
    }
}

#[test]
fn a_refusal_by_the_address_takes_nothing_from_the_key() {
    let (limiter, _clock) = limiter(&Settings {
        per_address: a_minute(2),
        keys: app(a_minute(100), Some(100)),
        ..Settings::default()
    });
    let caller = limiter.account("app").unwrap();
    for _ in 0..50 {
        request(&limiter, Some(&caller), Admission::Request).ok();
    }
    let elsewhere = limiter
        .admit_address(Ipv4Addr::new(192, 0, 2, 2).into())
        .unwrap();
    let permit = limiter
        .admit(elsewhere, Some(&caller), Admission::Request)
        .unwrap();
    assert_eq!(permit.limits().requests.unwrap().remaining, 97);
}

#[test]
fn a_request_without_a_valid_key_stays_counted() {
    let (limiter, _clock) = per_address(rate(3, MINUTE));
    for left in [2, 1, 0] {
        let address_permit = limiter.admit_address(HOME).unwrap();
        assert_eq!(address_permit.limits().requests.unwrap().remaining, left);
    }
    assert!(limiter.admit_address(HOME).is_err());
    assert!(limiter.account("guessed").is_none());
}

#[test]
fn a_request_that_opens_no_stream_needs_no_place() {
    let (limiter, _clock) = limiter(&Settings {
        streams: Some(1),
        keys: app(a_minute(10), Some(1)),
        ..Settings::default()
    });
    let caller = limiter.account("app").unwrap();
    let _stream = request(&limiter, Some(&caller), Admission::Stream).unwrap();
    assert!(request(&limiter, Some(&caller), Admission::Stream).is_err());
    let permit = request(&limiter, Some(&caller), Admission::Request).unwrap();
    assert_eq!(permit.limits().requests.unwrap().remaining, 8);
    assert_eq!(limiter.open_streams(), 1);
}

#[test]
fn keys_do_not_share_limits() {
    let mut callers = app(a_minute(1), Some(1));
    callers.push(KeySettings {
        name: "other".to_owned(),
        ..callers[0].clone()
    });
    let (limiter, _clock) = limiter(&Settings {
        keys: callers,
        ..Settings::default()
    });
    let held = ["app", "other"].map(|name| {
        let caller = limiter.account(name).unwrap();
        let permit = request(&limiter, Some(&caller), Admission::Stream).unwrap();
        assert!(request(&limiter, Some(&caller), Admission::Request).is_err());
        permit
    });
    assert_eq!(limiter.open_streams(), 2);
    drop(held);
    assert_eq!(limiter.open_streams(), 0);
}

#[test]
fn streams_close_with_their_permits_also_on_a_panic() {
    let (limiter, _clock) = limiter(&Settings {
        streams: Some(20),
        keys: app(None, Some(12)),
        ..Settings::default()
    });
    let caller = limiter.account("app").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (limiter, caller) = (&limiter, caller.clone());
            scope.spawn(move || {
                for round in 0..500 {
                    let caller = (thread % 2 == 0).then_some(&caller);
                    let permit = request(limiter, caller, Admission::Stream);
                    assert!(limiter.open_streams() <= 20);
                    if round % 10 == 0 {
                        // On another thread, and by a panic.
                        std::thread::spawn(move || {
                            let _permit = permit;
                            std::panic::resume_unwind(Box::new("on purpose"));
                        })
                        .join()
                        .unwrap_err();
                    }
                }
            });
        }
    });
    assert_eq!((limiter.open_streams(), caller.open_streams()), (0, 0));
    let all: Vec<Permit> =
        std::iter::from_fn(|| request(&limiter, Some(&caller), Admission::Stream).ok()).collect();
    assert_eq!(all.len(), 12);
}

#[test]
fn refusals_name_the_limit_and_its_number() {
    let (limiter, clock) = limiter(&Settings {
        streams: Some(2),
        per_address: Some(rate(4, Duration::from_secs(3600))),
        keys: app(Some(rate(2, Duration::from_secs(1))), Some(1)),
        ..Settings::default()
    });
    let caller = limiter.account("app").unwrap();
    let refusal = |caller, admission| {
        let error = request(&limiter, caller, admission).unwrap_err().error;
        (
            error.status().as_u16(),
            error.message().to_owned(),
            error.retry_after_seconds().unwrap(),
        )
    };
    let refused = |status, message: &str, after| (status, message.to_owned(), after);

    let held = request(&limiter, Some(&caller), Admission::Stream);
    assert_eq!(
        refusal(Some(&caller), Admission::Stream),
        refused(429, "this key may have 1 stream open at once", 1)
    );
    let more = request(&limiter, None, Admission::Stream);
    assert_eq!(
        refusal(Some(&caller), Admission::Stream),
        refused(503, "this gateway may have 2 streams open at once", 1)
    );
    drop((held, more));
    request(&limiter, Some(&caller), Admission::Request).unwrap();
    assert_eq!(
        refusal(Some(&caller), Admission::Request),
        refused(429, "this key may make 2 requests a second", 1)
    );
    request(&limiter, None, Admission::Request).unwrap();
    clock.advance(Duration::from_secs(60));
    assert_eq!(
        refusal(None, Admission::Request),
        refused(429, "this address may make 4 requests an hour", 840)
    );
}

#[test]
fn headers_show_the_status_of_the_limits() {
    let settings = Settings {
        per_address: a_minute(100),
        keys: app(Some(rate(10, Duration::from_secs(3600))), None),
        ..Settings::default()
    };
    let (limiter, clock) = limiter(&settings);
    let headers = |permit: Permit| {
        let mut headers = HeaderMap::new();
        permit.limits().write(&mut headers);
        ["limit", "remaining", "reset"].map(|what| {
            let value = &headers[format!("x-ratelimit-{what}-requests")];
            value.to_str().unwrap().to_owned()
        })
    };
    let caller = limiter.account("app").unwrap();
    let first = request(&limiter, Some(&caller), Admission::Request).unwrap();
    assert_eq!(headers(first), ["10", "9", "6m0s"]);
    clock.advance(Duration::from_secs(60));
    let second = request(&limiter, Some(&caller), Admission::Request).unwrap();
    assert_eq!(headers(second), ["10", "8", "11m0s"]);
    // Without a key the headers show the address's limit.
    let anonymous = request(&limiter, None, Admission::Request).unwrap();
    assert_eq!(headers(anonymous), ["100", "98", "2s"]);

    let unlimited = LocalLimits::new(&Settings::default());
    let address_permit = unlimited.admit_address(HOME).unwrap();
    let permit = unlimited
        .admit(address_permit, None, Admission::Stream)
        .unwrap();
    let mut headers = HeaderMap::new();
    permit.limits().write(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn permits_can_be_sent_between_threads() {
    fn travels<T: Send + 'static>() {}
    travels::<Permit>();
    travels::<AddressPermit>();
    travels::<Account>();
    fn shared<T: Sync>() {}
    shared::<LocalLimits>();
}
