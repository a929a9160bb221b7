//! One model of the limits, compared with both backends: this process and the shared state.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, FakeRelativeClock};
use proptest::prelude::*;
use sluicegate::limit::{
    Admission, Estimate, KeySettings, LimitRefusal, Limiter, LocalLimits, Permit, Settings,
    SharedState,
};
use sluicegate::metrics::Metrics;
use sluicegate::model::{ErrorCode, Rate, Usage};
use sluicegate::store::Store;

use crate::valkey::Valkey;

/// Each unit takes whole seconds to come back, so that all arithmetic is exact.
const REQUESTS: Rate = a_quarter_of_an_hour(6);
const ADDRESS: Rate = a_quarter_of_an_hour(9);
const TOKENS: Rate = a_quarter_of_an_hour(100);
const STREAMS: u64 = 3;

const fn a_quarter_of_an_hour(amount: u64) -> Rate {
    Rate {
        amount,
        per: Duration::from_secs(900),
    }
}

/// The next thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Wait(Duration),
    Ask {
        replica: usize,
        address: u8,
        tokens: u64,
    },
    /// One of the open streams ends, and used so many tokens.
    End {
        which: usize,
        used: u64,
    },
}

/// The result of a request: what is left of requests and tokens, and for a refusal why.
#[derive(Debug, PartialEq)]
enum Answer {
    Passed {
        requests: u64,
        tokens: u64,
    },
    Refused {
        code: ErrorCode,
        after: Option<Duration>,
        requests: u64,
        tokens: u64,
    },
}

/// A bucket in its simplest form: how much is in it, in nanoseconds of refilling.
struct Bucket {
    rate: Rate,
    left: i128,
    /// How often it was full. What was taken before the last time has come back.
    filled: u64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            left: rate.per.as_nanos() as i128,
            filled: 0,
        }
    }

    fn capacity(&self) -> i128 {
        self.rate.per.as_nanos() as i128
    }

    fn cost(&self, count: u64) -> i128 {
        self.capacity() / i128::from(self.rate.amount) * i128::from(count)
    }

    fn add(&mut self, amount: i128) {
        self.left += amount;
        if self.left >= self.capacity() {
            self.left = self.capacity();
            self.filled += 1;
        }
    }

    fn lacks(&self, count: u64) -> Option<Duration> {
        let lacking = self.cost(count) - self.left;
        (lacking > 0).then(|| Duration::from_nanos(lacking as u64))
    }

    fn remaining(&self) -> u64 {
        (self.left.max(0) / self.cost(1)) as u64
    }

    fn settle(&mut self, filled: u64, reserved: u64, used: u64) {
        if used > reserved {
            self.left -= self.cost(used - reserved);
        } else if self.filled == filled {
            self.add(self.cost(reserved - used));
        }
    }
}

/// An open stream: how often the bucket had been full when its tokens were taken, and how many.
struct Open {
    filled: u64,
    reserved: u64,
}

struct Model {
    requests: Bucket,
    addresses: [Bucket; 2],
    tokens: Bucket,
    streams: u64,
    open: Vec<Open>,
}

impl Model {
    fn new() -> Self {
        Self {
            requests: Bucket::new(REQUESTS),
            addresses: [Bucket::new(ADDRESS), Bucket::new(ADDRESS)],
            tokens: Bucket::new(TOKENS),
            streams: STREAMS,
            open: Vec::new(),
        }
    }

    fn wait(&mut self, time: Duration) {
        let [one, two] = &mut self.addresses;
        for bucket in [&mut self.requests, one, two, &mut self.tokens] {
            bucket.add(time.as_nanos() as i128);
        }
    }

    fn refused(&self, after: Option<Duration>) -> Answer {
        Answer::Refused {
            code: ErrorCode::RateLimited,
            after,
            requests: self.requests.remaining(),
            tokens: self.tokens.remaining(),
        }
    }

    /// Nothing is taken unless every policy agrees.
    fn ask(&mut self, address: u8, tokens: u64) -> Answer {
        let soon = Some(Duration::from_secs(1));
        if let Some(after) = self.addresses[usize::from(address)].lacks(1) {
            return self.refused(Some(after));
        }
        if self.open.len() as u64 >= self.streams {
            return self.refused(soon);
        }
        if let Some(after) = self.requests.lacks(1) {
            return self.refused(Some(after));
        }
        if tokens > TOKENS.amount {
            return Answer::Refused {
                code: ErrorCode::InvalidRequest,
                after: None,
                requests: self.requests.remaining(),
                tokens: self.tokens.remaining(),
            };
        }
        if let Some(after) = self.tokens.lacks(tokens) {
            return self.refused(Some(after));
        }
        let address = &mut self.addresses[usize::from(address)];
        for (bucket, count) in [
            (address, 1),
            (&mut self.requests, 1),
            (&mut self.tokens, tokens),
        ] {
            bucket.left -= bucket.cost(count);
        }
        self.open.push(Open {
            filled: self.tokens.filled,
            reserved: tokens,
        });
        Answer::Passed {
            requests: self.requests.remaining(),
            tokens: self.tokens.remaining(),
        }
    }

    fn end(&mut self, which: usize, used: u64) {
        let open = self.open.remove(which);
        self.tokens.settle(open.filled, open.reserved, used);
    }
}

fn settings(streams: Option<u64>) -> Settings {
    Settings {
        per_address: Some(ADDRESS),
        keys: vec![KeySettings {
            name: "app".to_owned(),
            requests: Some(REQUESTS),
            tokens: Some(TOKENS),
            streams,
        }],
        ..Settings::default()
    }
}

fn estimate(tokens: u64) -> Estimate {
    Estimate {
        prompt: 0,
        output: Some(tokens),
        default_output: 0,
    }
}

fn ip(address: u8) -> IpAddr {
    [192, 0, 2, address].into()
}

fn answer(asked: &Result<Permit, LimitRefusal>) -> Answer {
    let (limits, error) = match asked {
        Ok(permit) => (permit.limits(), None),
        Err(refused) => (refused.limits, Some(&refused.error)),
    };
    let requests = limits.requests.map_or(u64::MAX, |status| status.remaining);
    let tokens = limits.tokens.map_or(u64::MAX, |status| status.remaining);
    match error {
        None => Answer::Passed { requests, tokens },
        Some(error) => Answer::Refused {
            code: error.code(),
            after: error.retry_after(),
            requests,
            tokens,
        },
    }
}

fn settle(mut permit: Permit, used: u64) {
    let usage = Usage {
        input: Some(0),
        output: Some(used),
        ..Usage::default()
    };
    permit.settle(Some(usage), 0);
}

/// Both steps of a request.
async fn ask(
    limiter: &Limiter<FakeRelativeClock>,
    address: u8,
    tokens: u64,
) -> Result<Permit, LimitRefusal> {
    let caller = limiter.account("app");
    let permit = limiter.admit(ip(address), caller.as_ref(), Admission::Stream);
    limiter
        .reserve(permit.await?, caller.as_ref(), estimate(tokens))
        .await
}

fn ask_locally(
    limiter: &LocalLimits<FakeRelativeClock>,
    address: u8,
    tokens: u64,
) -> Result<Permit, LimitRefusal> {
    let caller = limiter.account("app");
    let address_permit = limiter.admit_address(ip(address))?;
    let permit = limiter.admit(address_permit, caller.as_ref(), Admission::Stream)?;
    limiter.reserve(permit, caller.as_ref(), estimate(tokens))
}

/// In one process a refusal by the address does not check the key, so its status is missing.
fn agrees(expected: &Answer, got: &Answer) -> bool {
    match (expected, got) {
        (
            Answer::Refused { code, after, .. },
            Answer::Refused {
                code: got_code,
                after: got_after,
                tokens: u64::MAX,
                ..
            },
        ) => (code, after) == (got_code, got_after),
        // A client that the request limit refused sees that none is left.
        (
            Answer::Refused {
                code,
                after,
                tokens,
                ..
            },
            Answer::Refused {
                code: got_code,
                after: got_after,
                requests: 0,
                tokens: got_tokens,
            },
        ) => (code, after, tokens) == (got_code, got_after, got_tokens),
        _ => expected == got,
    }
}

fn steps(replicas: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0..400_u64).prop_map(|seconds| Step::Wait(Duration::from_secs(seconds))),
        4 => (0..replicas, 0..2_u8, 0..=110_u64)
            .prop_map(|(replica, address, tokens)| Step::Ask { replica, address, tokens }),
        2 => (any::<usize>(), 0..=200_u64).prop_map(|(which, used)| Step::End { which, used }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limits_of_one_process_match_the_model(steps in steps(1)) {
        let clock = FakeRelativeClock::default();
        let limiter = LocalLimits::with_clock(&settings(Some(STREAMS)), clock.clone());
        let mut model = Model::new();
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Wait(time) => {
                    clock.advance(time);
                    model.wait(time);
                }
                Step::Ask { address, tokens, .. } => {
                    let asked = ask_locally(&limiter, address, tokens);
                    let (expected, got) = (model.ask(address, tokens), answer(&asked));
                    prop_assert!(agrees(&expected, &got), "{expected:?}\n{got:?}");
                    held.extend(asked.ok());
                }
                Step::End { which, used } => {
                    if !held.is_empty() {
                        let which = which % held.len();
                        settle(held.remove(which), used);
                        model.end(which, used);
                    }
                }
            }
        }
    }
}

#[test]
fn the_limits_over_replicas_match_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let valkey = Valkey::start();
    let metrics = Arc::<Metrics>::default();
    let state = || SharedState {
        store: Arc::new(Store::new(valkey.client(), Arc::clone(&metrics))),
        metrics: Arc::clone(&metrics),
        deny: true,
    };
    let stores = [state(), state()];
    let own = runtime.block_on(async {
        for state in &stores {
            state.store.wait_until_up().await;
        }
        valkey.connect().await
    });
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps(2))| {
        let played: Result<(), TestCaseError> = runtime.block_on(async {
            let flushed = redis::cmd("FLUSHALL").exec_async(&mut own.clone()).await;
            flushed.unwrap();
            play(&stores, steps).await
        });
        played?;
    });
}

/// Without streams: their leases expire while the time is moved.
async fn play(stores: &[SharedState; 2], steps: Vec<Step>) -> Result<(), TestCaseError> {
    let clock = FakeRelativeClock::default();
    let limiters = stores.each_ref().map(|state| {
        let time = clock.clone();
        let micros = move || time.now().as_u64() / 1_000;
        Limiter::with_time(&settings(None), clock.clone(), state.clone(), micros)
    });
    let mut model = Model::new();
    model.streams = u64::MAX;
    let mut held = Vec::new();
    for step in steps {
        match step {
            Step::Wait(time) => {
                clock.advance(time);
                model.wait(time);
            }
            Step::Ask {
                replica,
                address,
                tokens,
            } => {
                let asked = ask(&limiters[replica], address, tokens).await;
                // What a refusal gives back later must not affect the next request.
                limiters[replica].flush().await;
                let (expected, got) = (model.ask(address, tokens), answer(&asked));
                prop_assert!(agrees(&expected, &got), "{expected:?}\n{got:?}");
                held.extend(asked.ok().map(|permit| (replica, permit)));
            }
            Step::End { which, used } => {
                if !held.is_empty() {
                    let which = which % held.len();
                    let (replica, permit) = held.remove(which);
                    settle(permit, used);
                    limiters[replica].flush().await;
                    model.end(which, used);
                }
            }
        }
    }
    Ok(())
}
