//! How much of a limit is left, and the headers that say so.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// How much of one limit is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// How much the limit allows at once.
    pub limit: u64,
    /// How much of it is left now.
    pub remaining: u64,
    /// How long it takes until all of it is left again, if nothing more is taken.
    pub reset: Duration,
}

/// What is left of each limit that is set for a request's sender. One field for each resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    pub requests: Option<RateLimitStatus>,
    pub tokens: Option<RateLimitStatus>,
}

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

impl RateLimits {
    /// What is missing here is taken from `other`.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            requests: self.requests.or(other.requests),
            tokens: self.tokens.or(other.tokens),
        }
    }

    /// The name of each resource that is limited, and its status.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, RateLimitStatus)> {
        let requests = self.requests.map(|status| ("requests", status));
        let tokens = self.tokens.map(|status| ("tokens", status));
        requests.into_iter().chain(tokens)
    }

    /// Writes `x-ratelimit-{limit,remaining,reset}-…` for the limits that are set, in the form
    /// that OpenAI's API gives them (<https://platform.openai.com/docs/guides/rate-limits>).
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(status) = &self.requests {
            status.write(REQUESTS, headers);
        }
        if let Some(status) = &self.tokens {
            status.write(TOKENS, headers);
        }
    }
}

impl RateLimitStatus {
    fn write(&self, [limit, remaining, reset]: [HeaderName; 3], headers: &mut HeaderMap) {
        headers.insert(limit, HeaderValue::from(self.limit));
        headers.insert(remaining, HeaderValue::from(self.remaining));
        // Digits and unit letters are always a legal header value.
        if let Ok(value) = HeaderValue::try_from(GoDuration(self.reset).to_string()) {
            headers.insert(reset, value);
        }
    }
}

/// A time in Go's notation: `1h0m0s`, `6m0s`, `1s`; below a second `250ms`. Rounded up, so that a
/// client that waits this long does not come too early.
struct GoDuration(Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().div_ceil(1_000_000);
        if (1..1000).contains(&millis) {
            return write!(f, "{millis}ms");
        }
        let seconds = millis.div_ceil(1000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, _) => write!(f, "{minutes}m{seconds}s"),
            _ => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (250, "250ms"),
            (1_000, "1s"),
            (59_001, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (90_061_000, "25h1m1s"),
        ] {
            assert_eq!(GoDuration(Duration::from_millis(millis)).to_string(), text);
        }
        assert_eq!(GoDuration(Duration::from_nanos(1)).to_string(), "1ms");
        assert_eq!(
            GoDuration(Duration::from_nanos(999_000_001)).to_string(),
            "1s"
        );
    }
}
