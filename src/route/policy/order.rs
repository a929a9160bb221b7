//! The order in which a request tries the targets of its model.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::random::{mix, unit};
use super::{Availability, Policy};

/// How targets of equal priority share the requests that belong to no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// By their weights.
    Weighted,
    /// The better one of two by its recent time to the first content and its open attempts.
    Fastest,
}

/// A target as it is when a request comes in.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its place in the model's list of targets.
    pub index: usize,
    /// Lower ones are tried first.
    pub priority: u32,
    pub weight: u32,
    /// The same for the same target on every replica.
    pub id: u64,
    pub availability: Availability,
    /// See [`Health::first_token`](super::Health::first_token).
    pub first_token: Option<f64>,
    pub open_attempts: u32,
    pub last_asked: Option<Instant>,
}

/// With [`Strategy::Fastest`], a target that was not asked for so long is asked, whatever is known of it.
pub const EXPLORE_AFTER: Duration = Duration::from_secs(8);

/// What is assumed of a target that has not answered yet, in seconds.
const UNKNOWN_FIRST_TOKEN: f64 = 1.0;

impl Policy {
    /// The positions of `candidates` in the order in which they are tried. They are sorted by priority.
    pub fn order(
        &mut self,
        candidates: &[Candidate],
        session: Option<u64>,
        now: Instant,
    ) -> Vec<usize> {
        let mut order = Vec::with_capacity(candidates.len());
        for group in candidates.chunk_by(|a, b| a.priority == b.priority) {
            let first = order.len();
            let places = match (session, self.strategy) {
                _ if group.len() == 1 => vec![0],
                (Some(session), _) => by_session(group, session),
                (None, Strategy::Weighted) => self.by_weight(group),
                (None, Strategy::Fastest) => self.by_speed(group, now),
            };
            order.extend(places.into_iter().map(|place| first + place));
        }
        order
    }

    /// Smooth weighted round robin over the available targets. The others come first, so that the request
    /// shows that they were passed over.
    fn by_weight(&mut self, group: &[Candidate]) -> Vec<usize> {
        let (mut passed, mut eligible) = split_available(group);
        if eligible.is_empty() {
            std::mem::swap(&mut passed, &mut eligible);
        }
        let mut total = 0;
        for &place in &eligible {
            let weight = i64::from(group[place].weight);
            total += weight;
            self.shares[group[place].index] += weight;
        }
        // The sort is stable: among equals the first in the list is chosen.
        eligible.sort_by_key(|&place| Reverse(self.shares[group[place].index]));
        if let Some(&chosen) = eligible.first() {
            self.shares[group[chosen].index] -= total;
        }
        passed.extend(eligible);
        passed
    }

    fn by_speed(&mut self, group: &[Candidate], now: Instant) -> Vec<usize> {
        let (mut passed, mut eligible) = split_available(group);
        if eligible.is_empty() {
            std::mem::swap(&mut passed, &mut eligible);
        }
        let cost = |place: usize| {
            let first_token = group[place].first_token.unwrap_or(UNKNOWN_FIRST_TOKEN);
            first_token * f64::from(group[place].open_attempts + 1)
        };
        let idle = |place: usize| match group[place].last_asked {
            None => Duration::MAX,
            Some(at) => now.saturating_duration_since(at),
        };
        let longest_idle = eligible
            .iter()
            .copied()
            .rev()
            .max_by_key(|&place| idle(place));
        let unexplored = longest_idle.filter(|&place| idle(place) >= EXPLORE_AFTER);
        let chosen = unexplored.or_else(|| self.better_of_two(&eligible, cost));
        eligible.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        if let Some(chosen) = chosen {
            eligible.retain(|&place| place != chosen);
            eligible.insert(0, chosen);
        }
        passed.extend(eligible);
        passed
    }

    /// Chooses two of `places` at random and returns the cheaper one. Comparing only two keeps requests
    /// that come in together from all going to one target.
    fn better_of_two(&mut self, places: &[usize], cost: impl Fn(usize) -> f64) -> Option<usize> {
        if places.len() < 2 {
            return places.first().copied();
        }
        let first = self.random.below(places.len());
        let second = (first + 1 + self.random.below(places.len() - 1)) % places.len();
        let (a, b) = (places[first], places[second]);
        Some(if cost(b) < cost(a) { b } else { a })
    }
}

/// Weighted rendezvous hashing: each session has an order of its own in which targets come, and a target
/// that leaves moves only its own sessions.
fn by_session(group: &[Candidate], session: u64) -> Vec<usize> {
    let score = |place: usize| {
        let candidate = &group[place];
        let draw = unit(mix(session ^ mix(candidate.id)));
        -draw.ln() / f64::from(candidate.weight.max(1))
    };
    let mut places: Vec<usize> = (0..group.len()).collect();
    places.sort_by(|&a, &b| score(a).total_cmp(&score(b)));
    places
}

/// The places of the targets that are not available, and of those that are.
fn split_available(group: &[Candidate]) -> (Vec<usize>, Vec<usize>) {
    (0..group.len()).partition(|&place| group[place].availability != Availability::Available)
}
