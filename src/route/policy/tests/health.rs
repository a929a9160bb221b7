//! One target's health against plain expectations, and its breaker against the promises that it keeps.

use std::time::{Duration, Instant};

use proptest::prelude::{Just, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::seconds;
use crate::route::policy::*;

const BREAKER: BreakerSettings = BreakerSettings {
    failures: 3,
    window: Duration::from_secs(30),
    open: Duration::from_secs(15),
};
fn fail(health: &mut Health, now: Instant) {
    let ticket = health.begin(now);
    health.end(ticket, AttemptResult::Failure, Some(&BREAKER), now);
}

fn succeed(health: &mut Health, now: Instant) {
    let ticket = health.begin(now);
    health.end(ticket, AttemptResult::Success, Some(&BREAKER), now);
}

#[test]
fn a_breaker_opens_lets_one_request_through_and_closes() {
    let now = Instant::now();
    let mut health = Health::default();
    fail(&mut health, now);
    fail(&mut health, now);
    assert_eq!(health.availability(now), Availability::Available);
    fail(&mut health, now);
    assert_eq!(health.breaker(), BreakerState::Open);
    assert_eq!(health.availability(now + seconds(14)), Availability::Open);

    let later = now + seconds(15);
    assert_eq!(health.availability(later), Availability::Available);
    let probe = health.begin(later);
    assert_eq!(health.breaker(), BreakerState::HalfOpen);
    assert_eq!(health.availability(later), Availability::Open);
    // The probe fails: it is open for another time.
    health.end(probe, AttemptResult::Failure, Some(&BREAKER), later);
    assert_eq!(health.availability(later + seconds(14)), Availability::Open);

    let last = later + seconds(15);
    let probe = health.begin(last);
    health.record_first_content(probe, last);
    assert_eq!(health.breaker(), BreakerState::Closed);
    // Old failures do not count any more.
    fail(&mut health, last);
    assert_eq!(health.breaker(), BreakerState::Closed);
}

#[test]
fn a_probe_whose_answer_breaks_off_opens_the_breaker_again() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..3).for_each(|_| fail(&mut health, now));
    let later = now + seconds(20);
    let probe = health.begin(later);
    health.record_first_content(probe, later);
    health.end(probe, AttemptResult::Failure, Some(&BREAKER), later);
    assert_eq!(health.availability(later), Availability::Open);
}

#[test]
fn a_probe_that_says_nothing_leaves_its_turn_to_the_next_request() {
    let now = Instant::now();
    for result in [AttemptResult::Neutral, AttemptResult::Outrun] {
        let mut health = Health::default();
        (0..3).for_each(|_| fail(&mut health, now));
        let later = now + seconds(15);
        let probe = health.begin(later);
        health.end(probe, result, Some(&BREAKER), later);
        assert_eq!(health.breaker(), BreakerState::Open);
        assert_eq!(health.availability(later), Availability::Available);
    }
}

#[test]
fn failures_among_many_successes_do_not_open_a_breaker() {
    let now = Instant::now();
    let mut health = Health::default();
    for _ in 0..10 {
        succeed(&mut health, now);
        succeed(&mut health, now);
        fail(&mut health, now);
    }
    assert_eq!(health.breaker(), BreakerState::Closed);
    // In a row they do, whatever came before.
    (0..3).for_each(|_| fail(&mut health, now));
    assert_eq!(health.breaker(), BreakerState::Open);
}

#[test]
fn failures_outside_the_window_do_not_count() {
    let now = Instant::now();
    let mut health = Health::default();
    for turn in 0..10 {
        fail(&mut health, now + seconds(16) * turn);
    }
    assert_eq!(health.breaker(), BreakerState::Closed);
}

#[test]
fn a_rate_limit_rests_the_target_and_does_not_open_its_breaker() {
    let now = Instant::now();
    let mut health = Health::default();
    for _ in 0..10 {
        let ticket = health.begin(now);
        let rest = AttemptResult::Rest(seconds(7));
        health.end(ticket, rest, Some(&BREAKER), now);
    }
    assert_eq!(health.breaker(), BreakerState::Closed);
    assert_eq!(health.availability(now + seconds(6)), Availability::Resting);
    assert_eq!(
        health.availability(now + seconds(7)),
        Availability::Available
    );
}

#[test]
fn an_old_probe_does_not_decide_for_a_new_one() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..3).for_each(|_| fail(&mut health, now));
    let first = health.begin(now + seconds(15));
    health.record_first_content(first, now + seconds(15));
    (0..3).for_each(|_| fail(&mut health, now + seconds(20)));
    let later = now + seconds(40);
    let second = health.begin(later);
    // The first one's client leaves: the second is still the only one.
    health.end(first, AttemptResult::Neutral, Some(&BREAKER), later);
    assert_eq!(health.availability(later), Availability::Open);
    health.record_first_content(second, later);
    succeed(&mut health, later);
    // Its answer breaks off long after others have succeeded.
    health.end(second, AttemptResult::Failure, Some(&BREAKER), later);
    assert_eq!(health.breaker(), BreakerState::Closed);
}

#[test]
fn an_attempt_that_lost_makes_its_target_only_slower() {
    let now = Instant::now();
    let mut health = Health::default();
    for (waited, expected) in [(500, 0.5), (10, 0.5), (2000, 2.0)] {
        let ticket = health.begin(now);
        let then = now + Duration::from_millis(waited);
        if expected == 0.5 && waited == 500 {
            health.record_first_content(ticket, then);
        }
        health.end(ticket, AttemptResult::Outrun, Some(&BREAKER), then);
        let average = health.first_token().unwrap_or_default();
        assert!(average >= 0.5 && average <= expected, "{waited}: {average}");
    }
}

#[test]
fn without_a_breaker_nothing_opens() {
    let now = Instant::now();
    let mut health = Health::default();
    for _ in 0..200 {
        let ticket = health.begin(now);
        health.end(ticket, AttemptResult::Failure, None, now);
    }
    assert_eq!(health.availability(now), Availability::Available);
}

#[test]
fn the_time_to_the_first_content_forgets() {
    let mut health = Health::default();
    let mut now = Instant::now();
    let mut answer = |health: &mut Health, waited: Duration, pause: Duration| {
        let ticket = health.begin(now);
        health.record_first_content(ticket, now + waited);
        health.end(ticket, AttemptResult::Success, None, now + waited);
        now += pause;
        health.first_token().unwrap_or_default()
    };
    let mut average = 0.0;
    for _ in 0..5 {
        average = answer(&mut health, seconds(2), seconds(1));
    }
    assert!((1.99..2.01).contains(&average), "{average}");
    // Two answers, ten seconds apart, are enough to find that it has recovered.
    answer(&mut health, Duration::from_millis(20), seconds(10));
    average = answer(&mut health, Duration::from_millis(20), seconds(10));
    assert!(average < 0.7, "{average}");
    assert_eq!(health.first_token_p95(), None, "there are too few");
    for _ in 0..MAX_FAILURES {
        answer(&mut health, Duration::from_millis(20), seconds(1));
    }
    let p95 = health.first_token_p95().unwrap_or_default();
    assert!(p95 < Duration::from_millis(21), "{p95:?}");
}

/// What may happen to one target.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Wait(u16),
    Begin,
    End(usize, AttemptResult),
    FirstContent(usize),
}

fn happening() -> impl Generator<Value = Happening> {
    let result = prop_oneof![
        4 => Just(AttemptResult::Failure),
        2 => Just(AttemptResult::Success),
        1 => Just(AttemptResult::Neutral),
        1 => (0_u64..40).prop_map(|pause| AttemptResult::Rest(seconds(pause))),
    ];
    prop_oneof![
        2 => (0_u16..20).prop_map(Happening::Wait),
        3 => Just(Happening::Begin),
        3 => (any::<usize>(), result).prop_map(|(which, result)| Happening::End(which, result)),
        1 => any::<usize>().prop_map(Happening::FirstContent),
    ]
}

proptest! {
    /// Whatever happens: a closed breaker with three new failures in a row is open, an open one lets
    /// exactly one request through, and open attempts are counted.
    #[test]
    fn a_breaker_keeps_its_promises(happenings in prop::collection::vec(happening(), 1..200)) {
        let mut now = Instant::now();
        let mut health = Health::default();
        let mut tickets: Vec<(Ticket, Instant)> = Vec::new();
        let mut opened: Option<Instant> = None;
        for happening in happenings {
            let before = health.breaker();
            match happening {
                Happening::Wait(count) => now += seconds(count.into()),
                Happening::Begin => {
                    let was_available = health.availability(now) != Availability::Open;
                    tickets.push((health.begin(now), now));
                    if before == BreakerState::Open && was_available {
                        prop_assert_eq!(health.breaker(), BreakerState::HalfOpen);
                    } else {
                        prop_assert_eq!(health.breaker(), before);
                    }
                }
                Happening::End(which, result) if !tickets.is_empty() => {
                    let (ticket, begun) = tickets.swap_remove(which % tickets.len());
                    health.end(ticket, result, Some(&BREAKER), now);
                    if result == AttemptResult::Success && opened.is_none_or(|opened| opened <= begun) {
                        prop_assert_eq!(health.breaker(), BreakerState::Closed);
                    }
                    if before == BreakerState::Closed && result != AttemptResult::Failure {
                        prop_assert_eq!(health.breaker(), BreakerState::Closed);
                    }
                }
                Happening::FirstContent(which) if !tickets.is_empty() => {
                    let (ticket, begun) = tickets[which % tickets.len()];
                    health.record_first_content(ticket, now);
                    let closes = opened.is_none_or(|opened| opened <= begun);
                    let expected = if closes { BreakerState::Closed } else { before };
                    prop_assert_eq!(health.breaker(), expected);
                }
                Happening::End(..) | Happening::FirstContent(_) => {}
            }
            prop_assert_eq!(health.open_attempts() as usize, tickets.len());
            match (before, health.breaker()) {
                (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open)
                    if health.availability(now) == Availability::Open =>
                {
                    opened = Some(now);
                }
                (_, BreakerState::Closed) => opened = None,
                _ => {}
            }
            // Nothing keeps a breaker open for longer than it is configured, but a probe under way.
            if let (Some(at), BreakerState::Open) = (opened, health.breaker())
                && before == BreakerState::Open
                && now < at + BREAKER.open
            {
                prop_assert_eq!(health.availability(now), Availability::Open);
            }
            let probing = health.breaker() == BreakerState::HalfOpen;
            let end = now + seconds(60);
            prop_assert_eq!(health.availability(end) == Availability::Open, probing);
        }
    }
}
