//! Limits: requests per key and address, open streams, tokens; and that a refusal costs nothing.

mod crowds;
mod oracle;
mod policies;
mod rates;
mod replicas;
mod tokens;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use sluicegate::limit::{
    Account, Admission, KeySettings, LimitRefusal, LocalLimits, Permit, Settings,
};
use sluicegate::model::Rate;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const MINUTE: Duration = Duration::from_secs(60);

type Limits = LocalLimits<FakeRelativeClock>;

fn rate(amount: u64, per: Duration) -> Rate {
    Rate { amount, per }
}

fn a_minute(amount: u64) -> Option<Rate> {
    Some(rate(amount, MINUTE))
}

fn app(requests: Option<Rate>, streams: Option<u64>) -> Vec<KeySettings> {
    vec![KeySettings {
        name: "app".to_owned(),
        requests,
        tokens: None,
        streams,
    }]
}

fn limiter(settings: &Settings) -> (Limits, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (LocalLimits::with_clock(settings, clock.clone()), clock)
}

/// A limiter of one address's requests only.
fn per_address(rate: Rate) -> (Limits, FakeRelativeClock) {
    limiter(&Settings {
        per_address: Some(rate),
        ..Settings::default()
    })
}

fn request(
    limiter: &Limits,
    caller: Option<&Account>,
    admission: Admission,
) -> Result<Permit, LimitRefusal> {
    limiter.admit(limiter.admit_address(HOME)?, caller, admission)
}

fn remaining(limiter: &Limits, address: IpAddr) -> u64 {
    let address_permit = limiter.admit_address(address).expect("nothing is left");
    limiter
        .give_back(address_permit)
        .requests
        .unwrap()
        .remaining
}
