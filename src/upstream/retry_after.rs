//! How long an upstream asks the gateway to wait when it refuses a request.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// Longer waits are shortened to this.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest wait that the headers or the body (`from_body`) ask for. If neither asks for one,
/// the time until the exhausted rate limits are reset.
pub(super) fn requested_wait(
    headers: &HeaderMap,
    from_body: Option<Duration>,
    now: SystemTime,
) -> Option<Duration> {
    parse_retry_after(headers, now)
        .max(from_body)
        .or_else(|| rate_limit_reset(headers))
        .map(|wait| wait.min(MAX_WAIT))
}

/// Parses `retry-after-ms`, and `retry-after` as seconds or as a date (RFC 9110, section 10.2.3).
/// If both are present, the longer one counts: Azure sends 0 ms beside 1 s.
fn parse_retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let milliseconds = header_text(headers, "retry-after-ms")
        .and_then(|text| text.parse().ok())
        .map(Duration::from_millis);
    let plain = header_text(headers, "retry-after").and_then(|text| {
        parse_seconds(text).or_else(|| {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        })
    });
    milliseconds.max(plain)
}

/// `x-ratelimit-reset-requests` and `x-ratelimit-reset-tokens`, each only if nothing remains of
/// that limit. <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>
fn rate_limit_reset(headers: &HeaderMap) -> Option<Duration> {
    let of = |kind: &str| {
        let remaining = header_text(headers, &format!("x-ratelimit-remaining-{kind}"));
        if remaining.is_some_and(|remaining| remaining != "0") {
            return None;
        }
        let reset = header_text(headers, &format!("x-ratelimit-reset-{kind}"))?;
        parse_seconds(reset).or_else(|| parse_go_duration(reset))
    };
    of("requests").max(of("tokens"))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn parse_seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Parses a duration in Go's notation: `6m0s`, `1h2m3.5s`, `20ms`.
fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * factor).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn waits(headers: &[(&str, &str)], from_body: Option<Duration>) -> Option<Duration> {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 10:00:00 GMT").unwrap();
        let headers = headers.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        });
        requested_wait(&headers.collect(), from_body, now)
    }

    #[test]
    fn every_form_of_retry_after_is_parsed() {
        for (name, value, wait) in [
            ("retry-after", "7", Some(7000)),
            ("retry-after", "0.5", Some(500)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "Sun, 22 Nov 2026 10:00:09 GMT", Some(9000)),
            ("retry-after", "Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            (
                "retry-after",
                "99999999999",
                Some(MAX_WAIT.as_millis() as u64),
            ),
            ("retry-after", "-1", None),
            ("retry-after", "soon", None),
            ("retry-after", "NaN", None),
            ("x-ratelimit-reset-requests", "1s", Some(1000)),
            ("x-ratelimit-reset-requests", "6m0s", Some(360_000)),
            ("x-ratelimit-reset-tokens", "1h2m3.5s", Some(3_723_500)),
            ("x-ratelimit-reset-tokens", "20ms", Some(20)),
            ("x-ratelimit-reset-tokens", "59.5", Some(59_500)),
            ("x-ratelimit-reset-tokens", "1fortnight", None),
            ("x-ratelimit-reset-tokens", "5s6", None),
            ("x-ratelimit-reset-tokens", "-5s", None),
            ("x-ratelimit-reset-tokens", "", None),
        ] {
            let wait = wait.map(Duration::from_millis);
            assert_eq!(waits(&[(name, value)], None), wait, "{name}: {value}");
        }
    }

    #[test]
    fn the_longest_wait_wins() {
        let both = [("retry-after-ms", "0"), ("retry-after", "1")];
        assert_eq!(waits(&both, None), Some(Duration::from_secs(1)));
        let from_body = Some(Duration::from_secs(34));
        assert_eq!(waits(&both, from_body), from_body);
        assert_eq!(waits(&both, Some(Duration::MAX)), Some(MAX_WAIT));
    }

    #[test]
    fn a_reset_counts_only_for_an_exhausted_limit() {
        let limits = [
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "12.5s"),
        ];
        assert_eq!(waits(&limits, None), Some(Duration::from_millis(12_500)));
        assert_eq!(waits(&limits[..2], None), None);
        let mut asked = limits.to_vec();
        asked.push(("retry-after", "3"));
        assert_eq!(waits(&asked, None), Some(Duration::from_secs(3)));
    }
}
