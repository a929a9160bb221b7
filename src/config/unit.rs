//! Notations with a unit: durations, sizes, counts and rates, parsed and written here.
//!
//! A parser's error is the notation that it expects; it completes "`5x` is not …".

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU64;
use std::time::Duration;

use crate::model::Rate;

const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const DURATION: &str = "a duration such as `250ms`, `5s` or `1m30s`";
const ABOVE_ZERO: &str = "a duration above zero such as `250ms`, `5s` or `1m30s`";
const OR_NONE: &str = "a duration above zero such as `5s` or `1m30s`, or `none`";
const SIZE: &str = "a size in bytes above zero such as `10MiB`, `512KiB`, `1MB` or `65536`";
const COUNT: &str = "a whole number above zero such as `50`, `200k` or `1M`";
const RATE: &str = "a rate above zero such as `600/min`, `10/s`, `200k/min`, `1M/hour` or `5/30s`";
const ADDRESS: &str = "an address such as `127.0.0.1:8080`, `[::]:8080` or `localhost:8080`";
const SWITCH: &str = "`on` or `off`";

/// The largest amount of a rate. Above it, one unit would take less than a nanosecond.
const MAX_RATE_AMOUNT: u64 = 1_000_000_000;

const SIZES: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

const PERIODS: &[(&str, u64)] = &[
    ("s", 1),
    ("sec", 1),
    ("second", 1),
    ("min", 60),
    ("m", 60),
    ("minute", 60),
    ("hour", 3600),
    ("h", 3600),
    ("day", 86_400),
    ("d", 86_400),
];

/// Parses `0`, `0s`, `250ms`, `1m30s`; at most a year.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or(DURATION)
}

/// Parses a [`parse_duration`] that is not zero.
pub fn parse_interval(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or(ABOVE_ZERO)
}

/// Parses a [`parse_interval`] or `none`.
pub fn parse_interval_or_none(text: &str) -> Result<Option<Duration>, &'static str> {
    if text == "none" {
        return Ok(None);
    }
    parse_interval(text).map(Some).map_err(|_| OR_NONE)
}

/// Parses `10MiB`, `512KiB`, `1MB`, `65536`, in any case.
pub fn parse_size(text: &str) -> Result<usize, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = SIZES
        .iter()
        .find_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?, *factor)))
        .unwrap_or((&lower, 1));
    parse_whole_number(digits.trim_end())
        .and_then(|amount| amount.checked_mul(factor))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or(SIZE)
}

/// Parses `50`, `200k`, `1M`.
pub fn parse_count(text: &str) -> Result<u64, &'static str> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    parse_whole_number(digits)
        .and_then(|amount| amount.checked_mul(factor))
        .ok_or(COUNT)
}

/// Parses a [`parse_count`] that fits `u32`.
pub fn parse_small_count(text: &str) -> Result<u32, &'static str> {
    parse_count(text).and_then(|amount| u32::try_from(amount).map_err(|_| "below 4294967296"))
}

/// Parses a number of connections, above zero.
pub fn parse_connections(text: &str) -> Result<usize, &'static str> {
    let count = parse_small_count(text).ok().filter(|count| *count > 0);
    count
        .and_then(|count| usize::try_from(count).ok())
        .ok_or("a count above zero, such as `1000`")
}

/// Parses `600/min`, `10/s`, `200k/min`, `1M/hour`, `5/30s`.
pub fn parse_rate(text: &str) -> Result<Rate, &'static str> {
    let (amount, per) = text.split_once('/').ok_or(RATE)?;
    let amount = parse_count(amount.trim()).map_err(|_| RATE)?;
    if amount > MAX_RATE_AMOUNT {
        return Err("a rate of at most 1000M");
    }
    let per = per.trim();
    let per = PERIODS
        .iter()
        .find(|(name, _)| *name == per)
        .map(|(_, seconds)| Duration::from_secs(*seconds))
        .or_else(|| parse_interval(per).ok().filter(|per| per.as_secs() > 0))
        .ok_or(RATE)?;
    Ok(Rate { amount, per })
}

/// Parses `127.0.0.1:8080`, `[::]:8080` or `localhost:8080`. A name is looked up; its first IPv4
/// address is preferred.
pub fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let known: Vec<SocketAddr> = match text.to_socket_addrs() {
        Ok(known) => known.collect(),
        Err(_) if has_name_and_port(text) => {
            return Err("an address of this host: its name was not found");
        }
        Err(_) => return Err(ADDRESS),
    };
    let preferred = known.iter().find(|address| address.is_ipv4());
    preferred.or(known.first()).copied().ok_or(ADDRESS)
}

fn has_name_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

/// Parses `on`, `off`, `true`, `false`.
pub fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(SWITCH),
    }
}

pub fn write_duration(duration: Duration) -> String {
    humantime::format_duration(duration)
        .to_string()
        .replace(' ', "")
}

pub fn write_size(bytes: usize) -> String {
    [("MiB", 1 << 20), ("KiB", 1 << 10)]
        .iter()
        .find(|(_, factor)| bytes.is_multiple_of(*factor))
        .map_or_else(
            || bytes.to_string(),
            |(suffix, factor)| format!("{}{suffix}", bytes / factor),
        )
}

pub fn write_rate(rate: Rate) -> String {
    let per = PERIODS
        .iter()
        .find(|(_, seconds)| rate.per == Duration::from_secs(*seconds))
        .map_or_else(|| write_duration(rate.per), |(name, _)| (*name).to_owned());
    format!("{}/{per}", rate.amount)
}

/// Parses digits (`parse` alone would accept a sign) to a number above zero.
fn parse_whole_number(digits: &str) -> Option<u64> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<NonZeroU64>().ok().map(NonZeroU64::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_is_parsed() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_interval("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_interval("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_interval_or_none("none"), Ok(None));
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("512KiB"), Ok(512 << 10));
        assert_eq!(parse_size("7"), Ok(7));
        assert_eq!(parse_count("200k"), Ok(200_000));
        assert_eq!(parse_count("1M"), Ok(1_000_000));
        let rate_of = |amount, seconds| Rate {
            amount,
            per: Duration::from_secs(seconds),
        };
        assert_eq!(parse_rate("600/min"), Ok(rate_of(600, 60)));
        assert_eq!(parse_rate("10/s"), Ok(rate_of(10, 1)));
        assert_eq!(parse_rate("200k/min"), Ok(rate_of(200_000, 60)));
        assert_eq!(parse_rate("1M/hour"), Ok(rate_of(1_000_000, 3600)));
        assert_eq!(parse_rate("5/30s"), Ok(rate_of(5, 30)));
    }

    #[test]
    fn addresses_may_be_names() {
        for (text, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::]:80", "[::]:80"),
            ("localhost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(parse_address(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for bad in [
            "",
            "here",
            "localhost",
            ":80",
            "localhost:99999",
            "1.2.3:80:80",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_notations_are_refused() {
        for bad in ["", "5", "-5s", "5 parsecs", "99999999999h", "none"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_interval("0s").is_err());
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            "1.5MiB",
            "MiB",
            "99999999999GiB",
            "1TiB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "k",
            "0",
            "1e3",
            "99999999999999999999",
            "18446744073709551615M",
        ] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "10",
            "10/",
            "/s",
            "0/s",
            "10/fortnight",
            "1001M/s",
            "1/10ms",
        ] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
        assert!(parse_small_count("4294967296").is_err());
        assert!(parse_switch("maybe").is_err());
    }

    #[test]
    fn written_values_parse_to_themselves() {
        for text in ["0s", "250ms", "1m30s"] {
            assert_eq!(
                parse_duration(text).map(write_duration).as_deref(),
                Ok(text)
            );
        }
        for text in ["10MiB", "512KiB", "1000000"] {
            assert_eq!(parse_size(text).map(write_size).as_deref(), Ok(text));
        }
        for text in ["600/min", "10/s", "5/30s", "7/90s"] {
            let again = parse_rate(text)
                .map(write_rate)
                .and_then(|text| parse_rate(&text));
            assert_eq!(again, parse_rate(text));
        }
    }
}
