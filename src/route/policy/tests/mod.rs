//! The policy against plain expectations.

mod health;

use std::time::{Duration, Instant};

use super::*;

const RETRY: RetrySettings = RetrySettings {
    attempts: 2,
    backoff: Duration::from_millis(250),
    max_backoff: Duration::from_secs(4),
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn candidate(index: usize, priority: u32, weight: u32) -> Candidate {
    Candidate {
        index,
        priority,
        weight,
        id: mix(index as u64 + 1),
        availability: Availability::Available,
        first_token: None,
        open_attempts: 0,
        last_asked: None,
    }
}

fn policy(strategy: Strategy) -> Policy {
    Policy::new(strategy, RETRY, 8, 1)
}

#[test]
fn weights_share_smoothly() {
    let candidates = [candidate(0, 0, 3), candidate(1, 0, 1), candidate(2, 1, 9)];
    let mut policy = policy(Strategy::Weighted);
    let now = Instant::now();
    let order: Vec<_> = (0..8)
        .map(|_| policy.order(&candidates, None, now))
        .collect();
    let first: Vec<_> = order.iter().map(|order| order[0]).collect();
    assert_eq!(first, [0, 0, 1, 0, 0, 0, 1, 0]);
    assert!(order.iter().all(|order| order[2] == 2), "{order:?}");
}

#[test]
fn an_unavailable_target_gives_its_share_to_the_others() {
    let mut candidates = [candidate(0, 0, 5), candidate(1, 0, 2), candidate(2, 0, 1)];
    candidates[0].availability = Availability::Open;
    let mut policy = policy(Strategy::Weighted);
    let mut counts = [0; 3];
    for _ in 0..300 {
        let order = policy.order(&candidates, None, Instant::now());
        assert_eq!(order[0], 0, "it is passed over first");
        counts[order[1]] += 1;
    }
    assert_eq!(counts, [0, 200, 100]);
}

#[test]
fn the_fastest_target_gets_most_and_every_other_one_is_explored() {
    let mut policy = policy(Strategy::Fastest);
    let mut now = Instant::now();
    let mut candidates = [candidate(0, 0, 1), candidate(1, 0, 1), candidate(2, 0, 1)];
    for (candidate, first_token) in candidates.iter_mut().zip([0.5, 0.1, 2.0]) {
        candidate.first_token = Some(first_token);
    }
    let mut counts = [0; 3];
    for _ in 0..600 {
        let chosen = policy.order(&candidates, None, now)[0];
        counts[chosen] += 1;
        candidates[chosen].last_asked = Some(now);
        now += Duration::from_millis(100);
    }
    // Two of three are compared: the slowest is only explored, once in eight seconds of this minute.
    assert!((7..=8).contains(&counts[2]), "{counts:?}");
    assert!(counts[1] > 330, "{counts:?}");
    // Open attempts make a fast target slow.
    candidates[1].open_attempts = 9;
    let places = (0..100).map(|_| policy.order(&candidates, None, now)[0]);
    assert!(places.filter(|&place| place == 1).count() < 50);
}

#[test]
fn a_session_keeps_its_target_and_returns_to_it() {
    let mut policy = policy(Strategy::Weighted);
    let now = Instant::now();
    let all = [candidate(0, 0, 2), candidate(1, 0, 1), candidate(2, 0, 1)];
    let home = |policy: &mut Policy, session: u64, without: Option<usize>| {
        let mut candidates = all.to_vec();
        candidates.retain(|candidate| Some(candidate.index) != without);
        let order = policy.order(&candidates, Some(mix(session)), now);
        candidates[order[0]].index
    };
    let mut counts = [0; 3];
    for session in 0..4000 {
        let target = home(&mut policy, session, None);
        assert_eq!(home(&mut policy, session, None), target);
        counts[target] += 1;
        // Another target that leaves moves nothing; its own moves it, and no further.
        let other = (target + 1) % 3;
        assert_eq!(home(&mut policy, session, Some(other)), target);
        assert_ne!(home(&mut policy, session, Some(target)), target);
    }
    assert!((1900..2100).contains(&counts[0]), "{counts:?}");
    assert!((900..1100).contains(&counts[1]), "{counts:?}");
}

#[test]
fn a_plan_retries_only_what_may_be_retried() {
    let mut policy = policy(Strategy::Weighted);
    let all = |_| Availability::Available;
    let mut plan = Plan::new(3, Vec::new());
    let mut asked = Vec::new();
    loop {
        match plan.next(&mut policy, all) {
            Step::Ask(target) => {
                asked.push(target);
                plan.record_failure(target, target != 1, None);
            }
            Step::Wait(pause) => assert!(pause <= RETRY.backoff, "{pause:?}"),
            Step::PassOver(..) => panic!("all are available"),
            Step::Stop => break,
        }
    }
    assert_eq!(asked, [0, 1, 2, 0, 2]);
}

#[test]
fn a_plan_waits_as_long_as_a_target_asks_if_that_is_not_too_long() {
    for (asked, expected) in [(2, Step::Wait(seconds(2))), (5, Step::Stop)] {
        let mut policy = policy(Strategy::Weighted);
        let mut plan = Plan::new(1, Vec::new());
        let all = |_| Availability::Available;
        assert_eq!(plan.next(&mut policy, all), Step::Ask(0));
        plan.record_failure(0, true, Some(seconds(asked)));
        assert_eq!(plan.next(&mut policy, all), expected);
    }
}

#[test]
fn a_plan_passes_over_what_is_not_available_unless_nothing_is() {
    let steps = |availability: [Availability; 3]| {
        let mut policy = policy(Strategy::Weighted);
        let mut plan = Plan::new(3, Vec::new());
        let mut steps = Vec::new();
        loop {
            let step = plan.next(&mut policy, |target| availability[target]);
            if step == Step::Stop {
                return steps;
            }
            steps.push(step);
            if let Step::Ask(target) = step {
                plan.record_failure(target, false, None);
            }
        }
    };
    use Availability::{Available, Open, Resting};
    assert_eq!(
        steps([Open, Available, Resting]),
        [
            Step::PassOver(0, Open),
            Step::Ask(1),
            Step::Ask(2),
            Step::Ask(0)
        ]
    );
    assert_eq!(
        steps([Open, Resting, Resting]),
        [Step::Ask(1), Step::Ask(2), Step::Ask(0)]
    );
    assert_eq!(steps([Open, Open, Open]), [Step::Ask(0)]);
    assert_eq!(steps([Available, Open, Open]), [Step::Ask(0), Step::Ask(1)]);
}

#[test]
fn retries_and_hedges_are_a_fifth_of_the_requests() {
    let mut policy = policy(Strategy::Weighted);
    let mut added = 0;
    for _ in 0..1000 {
        policy.begin_request();
        let mut plan = Plan::new(2, Vec::new());
        let all = |_| Availability::Available;
        assert_eq!(plan.next(&mut policy, all), Step::Ask(0));
        added += usize::from(plan.hedge(&mut policy, all).is_some());
        plan.record_failure(0, true, None);
        plan.record_failure(1, true, None);
        let mut is_retry = false;
        while let step @ (Step::Ask(_) | Step::Wait(_)) = plan.next(&mut policy, all) {
            // What comes before the pause is the failover.
            added += usize::from(is_retry && matches!(step, Step::Ask(_)));
            is_retry |= matches!(step, Step::Wait(_));
        }
    }
    assert!((200..=210).contains(&added), "{added}");
}
