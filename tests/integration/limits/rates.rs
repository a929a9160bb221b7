//! Requests of one address: how many pass, when the next one passes, and how much is remembered.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use sluicegate::limit::{AddressPermit, Settings};
use sluicegate::model::ErrorCode;

use super::{HOME, MINUTE, a_minute, limiter, per_address, rate};

#[test]
fn a_burst_is_the_rates_amount() {
    let (limiter, _clock) = per_address(rate(10, MINUTE));
    let passed = (0..40)
        .filter(|_| limiter.admit_address(HOME).is_ok())
        .count();
    assert_eq!(passed, 10);
}

#[test]
fn requests_over_hours_pass_at_the_rate() {
    for (limit, gap) in [
        (rate(10, MINUTE), Duration::from_millis(700)),
        (rate(600, MINUTE), Duration::from_millis(13)),
        (rate(7, Duration::from_secs(1)), Duration::from_millis(20)),
        (rate(1, Duration::from_secs(3600)), Duration::from_secs(11)),
        (rate(1_000_003, MINUTE), Duration::from_micros(59)),
    ] {
        let (limiter, clock) = per_address(limit);
        let mut time = Duration::ZERO;
        let mut passed = 0_u64;
        let asked = 1_000_000.min(7_200_000_000_000 / gap.as_nanos());
        for _ in 0..asked {
            passed += u64::from(limiter.admit_address(HOME).is_ok());
            clock.advance(gap);
            time += gap;
        }
        let due = limit.amount as f64 * (1.0 + time.as_secs_f64() / limit.per.as_secs_f64());
        let due = due.min(asked as f64);
        assert!(
            (passed as f64 - due).abs() <= 1.0 + due / 1000.0,
            "{limit:?}: {passed} passed in {time:?}, {due} were due"
        );
    }
}

#[test]
fn no_rate_is_too_large_or_too_small() {
    let amounts = [0, 1, 2, u64::from(u32::MAX), 1 << 32, u64::MAX];
    let times = [
        Duration::ZERO,
        Duration::from_nanos(1),
        MINUTE,
        Duration::MAX,
    ];
    for amount in amounts {
        for per in times {
            let (limiter, clock) = per_address(rate(amount, per));
            for step in [0, 1, 1_000_000_000, 1 << 60] {
                clock.advance(Duration::from_nanos(step));
                let first = limiter.admit_address(HOME);
                assert!(
                    step > 0 || first.is_ok(),
                    "{amount} in {per:?}: a first request was refused"
                );
                limiter.admit_address(HOME).ok();
            }
        }
    }
    // A larger burst than the arithmetic can count: the burst is cut, not the rate.
    let day = Duration::from_secs(86_400);
    let (limiter, _clock) = per_address(rate(8_640_000_000_000, day));
    let status = limiter
        .admit_address(HOME)
        .unwrap()
        .limits()
        .requests
        .unwrap();
    assert_eq!(status.limit, 8_640_000_000_000);
    assert_eq!(status.remaining, u64::from(u32::MAX) - 1);
    assert_eq!(status.reset, Duration::from_nanos(10));
}

proptest! {
    /// After any sequence of requests, waiting as long as a refusal says is enough for the next
    /// request, and waiting less is not.
    #[test]
    fn waiting_for_retry_after_is_enough_and_necessary(
        amount in 1_u64..50,
        seconds in 1_u64..4000,
        gaps in prop::collection::vec(0_u64..100_000, 1..200),
    ) {
        let (limiter, clock) = per_address(rate(amount, Duration::from_secs(seconds)));
        for gap in gaps {
            clock.advance(Duration::from_millis(gap));
            let Err(refused) = limiter.admit_address(HOME) else { continue };
            prop_assert_eq!(refused.error.code(), ErrorCode::RateLimited);
            let after = refused.error.retry_after().unwrap();
            prop_assert!(after > Duration::ZERO);
            clock.advance(after.saturating_sub(Duration::from_nanos(1)));
            prop_assert!(limiter.admit_address(HOME).is_err());
            clock.advance(Duration::from_nanos(1));
            prop_assert!(limiter.admit_address(HOME).is_ok());
        }
    }

    /// A request that is given back at once leaves no trace.
    #[test]
    fn giving_back_leaves_no_trace(
        amount in 1_u64..20,
        steps in prop::collection::vec((0_u64..20_000, 0_usize..6), 1..100),
    ) {
        let (with, clock_with) = per_address(rate(amount, MINUTE));
        let (without, clock_without) = per_address(rate(amount, MINUTE));
        for (gap, given_back) in steps {
            clock_with.advance(Duration::from_millis(gap));
            clock_without.advance(Duration::from_millis(gap));
            let held: Vec<AddressPermit> = (0..given_back).map_while(|_| with.admit_address(HOME).ok()).collect();
            for address_permit in held {
                with.give_back(address_permit);
            }
            let (with, without) = (with.admit_address(HOME), without.admit_address(HOME));
            prop_assert_eq!(with.map(|a| a.limits()).ok(), without.map(|a| a.limits()).ok());
        }
    }

    /// Giving back late never admits more than the rate and the time that was held allow.
    #[test]
    fn giving_back_late_gives_no_more_than_was_taken(
        amount in 1_u64..20,
        steps in prop::collection::vec((0_u64..20_000, any::<bool>()), 1..200),
    ) {
        let (limiter, clock) = per_address(rate(amount, MINUTE));
        let weight = MINUTE / u32::try_from(amount).unwrap();
        let mut time = Duration::ZERO;
        let mut too_much = Duration::ZERO;
        let mut kept = 0_u32;
        let mut held = VecDeque::new();
        for (gap, give_back) in steps {
            clock.advance(Duration::from_millis(gap));
            time += Duration::from_millis(gap);
            if let Ok(address_permit) = limiter.admit_address(HOME) {
                held.push_back((time, address_permit));
                kept += 1;
            }
            if give_back && let Some((taken_at, address_permit)) = held.pop_front() {
                too_much += weight.min(time - taken_at);
                limiter.give_back(address_permit);
                kept -= 1;
            }
            prop_assert!(weight * kept <= MINUTE + time + too_much);
        }
    }
}

#[test]
fn a_request_that_came_back_by_itself_is_not_given_back_again() {
    let (limiter, clock) = per_address(rate(10, MINUTE));
    let late = limiter.admit_address(HOME).unwrap();
    clock.advance(MINUTE);
    assert_eq!(
        limiter
            .admit_address(HOME)
            .unwrap()
            .limits()
            .requests
            .unwrap()
            .remaining,
        9
    );
    assert_eq!(limiter.give_back(late).requests.unwrap().remaining, 9);
}

#[test]
fn a_flood_of_addresses_is_forgotten_and_limited() {
    let (limiter, clock) = limiter(&Settings {
        per_address: a_minute(60),
        addresses: 10_000,
        ..Settings::default()
    });
    // Within one second, so that nothing can be forgotten.
    let flood = |count: u32| {
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        (0..count)
            .filter(|n| {
                limiter
                    .admit_address(Ipv4Addr::from(first + n).into())
                    .is_ok()
            })
            .count()
    };
    let passed = flood(1_000_000);
    assert!(limiter.addresses() <= 10_000, "{}", limiter.addresses());
    assert!(limiter.addresses() > 9_000, "{}", limiter.addresses());
    // One cell for each, and 64 overflow cells.
    assert!(passed <= 10_000 + 64 * 60, "{passed} passed");

    clock.advance(Duration::from_secs(1));
    let newcomer = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    let passed = (0..5_000_u32)
        .filter(|n| limiter.admit_address(Ipv4Addr::from(n + 1).into()).is_ok())
        .count();
    assert_eq!(passed, 5_000, "the flood was not forgotten");
    assert!(limiter.addresses() <= 10_000);
    assert_eq!(
        (0..100)
            .filter(|_| limiter.admit_address(newcomer).is_ok())
            .count(),
        60
    );
}

#[test]
fn without_room_all_addresses_share_one_allowance() {
    let (limiter, _clock) = limiter(&Settings {
        per_address: a_minute(5),
        addresses: 0,
        ..Settings::default()
    });
    let passed = (1..100_u32).filter(|n| limiter.admit_address(Ipv4Addr::from(*n).into()).is_ok());
    assert_eq!(passed.count(), 5);
    assert_eq!(limiter.addresses(), 0);
}

#[test]
fn ipv6_addresses_count_by_network() {
    let (limiter, _clock) = per_address(rate(4, MINUTE));
    let left = |address: &str| {
        let address_permit = limiter.admit_address(address.parse().unwrap()).unwrap();
        address_permit.limits().requests.unwrap().remaining
    };
    assert_eq!(left("2001:db8:0:1::1"), 3);
    assert_eq!(left("2001:db8:0:1:ffff:ffff:ffff:ffff"), 2);
    assert_eq!(left("2001:db8:0:2::1"), 3);
    assert_eq!(left("192.0.2.1"), 3);
    assert_eq!(left("::ffff:192.0.2.1"), 2);
    assert_eq!(left("192.0.2.2"), 3);
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    assert_eq!(left(&loopback.to_string()), 3);
}
