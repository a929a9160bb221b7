//! Rate limits that a vendor states in its answers.

use http::HeaderMap;

/// The headers in which vendors state their rate limits, bounded.
pub(super) fn rate_limits(headers: &HeaderMap) -> HeaderMap {
    const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];
    const MAX_HEADERS: usize = 32;
    const MAX_VALUE: usize = 128;
    let stated = headers.iter().filter(|(name, value)| {
        let has_prefix = PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
        has_prefix && value.len() <= MAX_VALUE
    });
    let stated = stated.take(MAX_HEADERS);
    stated
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
