//! Tokens in one process: reserved before the answer, settled after it, with debt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;
use sluicegate::limit::{Admission, Estimate, KeySettings, LimitRefusal, Permit, Settings};
use sluicegate::model::{ErrorCode, Rate, Usage};

use super::{HOME, request};
use super::{Limits, MINUTE, a_minute, app, limiter, rate, remaining};

fn budget(tokens: Rate) -> (Limits, FakeRelativeClock) {
    limiter(&Settings {
        per_address: a_minute(1_000),
        keys: vec![KeySettings {
            tokens: Some(tokens),
            ..app(a_minute(1_000), Some(100)).remove(0)
        }],
        ..Settings::default()
    })
}

fn up_to(tokens: u64) -> Estimate {
    Estimate {
        prompt: 0,
        output: Some(tokens),
        default_output: 0,
    }
}

fn ask(limiter: &Limits, estimate: Estimate) -> Result<Permit, LimitRefusal> {
    let caller = limiter.account("app").unwrap();
    let permit = request(limiter, Some(&caller), Admission::Stream)?;
    limiter.reserve(permit, Some(&caller), estimate)
}

fn settle(mut permit: Permit, tokens: u64) {
    let usage = Usage {
        input: Some(tokens),
        output: Some(0),
        ..Usage::default()
    };
    permit.settle(Some(usage), 0);
}

fn left(limiter: &Limits) -> u64 {
    let caller = limiter.account("app").unwrap();
    let permit = request(limiter, Some(&caller), Admission::Request).unwrap();
    permit.limits().tokens.unwrap().remaining
}

#[test]
fn five_of_fifty_concurrent_requests_pass_a_budget_for_five() {
    let (limiter, _clock) = budget(rate(500, MINUTE));
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                if let Ok(permit) = ask(&limiter, up_to(100)) {
                    passed.fetch_add(1, Ordering::Relaxed);
                    settle(permit, 100);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 5);
}

#[test]
fn unused_tokens_come_back_and_overuse_becomes_debt() {
    let (limiter, clock) = budget(rate(600, MINUTE));
    settle(ask(&limiter, up_to(600)).unwrap(), 100);
    assert_eq!(left(&limiter), 500);
    // Twice the limit: a minute of debt, beside what was missing.
    settle(ask(&limiter, up_to(500)).unwrap(), 1_200);
    assert_eq!(left(&limiter), 0);
    let refused = ask(&limiter, up_to(1)).unwrap_err();
    assert_eq!(refused.error.code(), ErrorCode::RateLimited);
    let after = refused.error.retry_after().unwrap();
    assert_eq!(after, Duration::from_millis(70_100));
    assert_eq!(refused.limits.tokens.unwrap().remaining, 0);
    clock.advance(after - Duration::from_nanos(1));
    assert!(ask(&limiter, up_to(1)).is_err());
    clock.advance(Duration::from_nanos(1));
    assert!(ask(&limiter, up_to(1)).is_ok());
}

#[test]
fn a_refusal_because_of_tokens_takes_nothing_else() {
    let (limiter, _clock) = budget(rate(100, MINUTE));
    let held = ask(&limiter, up_to(100)).unwrap();
    for tokens in [1, 101] {
        for _ in 0..200 {
            let refused = ask(&limiter, up_to(tokens)).unwrap_err();
            let expected = if tokens > 100 {
                ErrorCode::InvalidRequest
            } else {
                ErrorCode::RateLimited
            };
            assert_eq!(refused.error.code(), expected);
            assert_eq!(refused.limits.requests.unwrap().remaining, 999);
        }
    }
    assert_eq!(limiter.open_streams(), 1);
    assert_eq!(remaining(&limiter, HOME), 999);
    // An answer without a settlement cost nothing.
    drop(held);
    assert_eq!(left(&limiter), 100);
}

#[test]
fn a_steady_use_under_the_limit_is_never_refused() {
    let (limiter, clock) = budget(rate(60_000, MINUTE));
    // 99 of 100 tokens each tenth of a second, each with ten times the reservation, for an hour.
    for _ in 0..36_000 {
        settle(ask(&limiter, up_to(990)).unwrap(), 99);
        clock.advance(Duration::from_millis(100));
    }
    // All that is left can be used at once.
    assert_eq!(left(&limiter), 60_000);
}

#[test]
fn a_new_configuration_keeps_the_debt() {
    let (limiter, _clock) = budget(rate(100, MINUTE));
    let settings = |tokens| Settings {
        keys: vec![KeySettings {
            tokens: Some(rate(tokens, MINUTE)),
            ..app(None, None).remove(0)
        }],
        ..Settings::default()
    };
    settle(ask(&limiter, up_to(100)).unwrap(), 150);
    let same = limiter.reconfigured(&settings(100));
    assert!(ask(&same, up_to(1)).is_err());
    let other = same.reconfigured(&settings(200));
    assert!(ask(&other, up_to(1)).is_ok());
}

/// Counts of which most are larger than any honest upstream reports.
fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..2_000_u64,
        any::<u64>(),
        prop::sample::select(vec![
            (1 << 32) - 1,
            1 << 32,
            (1 << 53) - 1,
            1 << 53,
            (1 << 63) - 1,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ]),
    ]
}

proptest! {
    #[test]
    fn no_count_of_tokens_frees_a_budget(
        amount in 1..1_000_000_u64,
        per in prop::sample::select(vec![
            Duration::from_nanos(1),
            Duration::from_secs(1),
            MINUTE,
            Duration::from_secs(86_400),
            Duration::MAX,
        ]),
        answers in prop::collection::vec((any_count(), any_count(), any_count()), 1..20),
    ) {
        let (limiter, _clock) = budget(rate(amount, per));
        for (max_tokens, input, output) in answers {
            let Ok(mut permit) = ask(&limiter, up_to(max_tokens)) else {
                continue;
            };
            let usage = Usage {
                input: Some(input),
                output: Some(output),
                ..Usage::default()
            };
            permit.settle(Some(usage), output);
            drop(permit);
            prop_assert!(left(&limiter) <= amount);
            if input.saturating_add(output) >= amount {
                prop_assert_eq!(left(&limiter), 0);
                let refused = ask(&limiter, up_to(1)).unwrap_err();
                prop_assert_eq!(refused.error.code(), ErrorCode::RateLimited);
            }
        }
    }
}
