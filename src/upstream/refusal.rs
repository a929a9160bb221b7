//! What a non-2xx answer means. The wires read the words; the status decides.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use crate::model::{Error, ErrorCode};
use crate::wire::Refusal;

/// The longest wait that an upstream may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The error for an answer of `status`. `refusal` is what its body says, already without
/// credentials; `None` where the body says nothing in the wire's own form.
pub(super) fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    refusal: Option<&Refusal>,
) -> Error {
    let message = |fallback: &str| {
        refusal.map_or_else(|| fallback.to_owned(), |refusal| refusal.message.clone())
    };
    match status.as_u16() {
        // No detail: the account is the operator's, and no concern of the client.
        // A 407 is a proxy's on the way there, which wants a credential too.
        401 | 402 | 407 => account_refused(),
        403 if !refusal.is_some_and(is_about_content) => account_refused(),
        400 if refusal.is_some_and(is_about_credential) => account_refused(),
        408 => Error::new(
            ErrorCode::UpstreamUnavailable,
            message("the upstream timed the request out"),
        ),
        429 => Error::new(
            ErrorCode::UpstreamRateLimited,
            message("the upstream is rate limiting"),
        )
        .with_retry_after(wait(headers, refusal)),
        400..=499 => Error::new(
            ErrorCode::UpstreamRejected,
            message("the upstream refused the request"),
        )
        .with_status(status),
        300..=399 => Error::new(
            ErrorCode::UpstreamUnavailable,
            format!("the upstream redirects ({status}), which is not followed"),
        ),
        _ => Error::new(
            ErrorCode::UpstreamUnavailable,
            message(&format!("the upstream answered {}", status.as_u16())),
        )
        .with_retry_after(wait(headers, refusal)),
    }
}

/// The longest wait that headers or body ask for.
fn wait(headers: &HeaderMap, refusal: Option<&Refusal>) -> Option<Duration> {
    let said = refusal.and_then(|refusal| refusal.retry_after);
    let said = said.map(|wait| wait.min(LONGEST_WAIT));
    retry_after(headers, SystemTime::now()).max(said)
}

fn account_refused() -> Error {
    Error::new(
        ErrorCode::UpstreamAuth,
        "the upstream refused the gateway's credential or account",
    )
}

/// A 403 that a moderation gave, not the account.
fn is_about_content(refusal: &Refusal) -> bool {
    says(
        refusal,
        &[
            "moderation",
            "content_policy",
            "content policy",
            "flagged",
            "safety",
            "usage guidelines",
        ],
    )
}

/// A 400 for a bad key (Gemini, xAI), or an account without money (Anthropic, DashScope, xAI).
fn is_about_credential(refusal: &Refusal) -> bool {
    says(
        refusal,
        &[
            "api key",
            "api_key",
            "authentication_error",
            "unauthenticated",
            "credit balance",
            "available credits",
            "good standing",
        ],
    )
}

fn says(refusal: &Refusal, words: &[&str]) -> bool {
    let kind = refusal.kind.as_deref().unwrap_or_default().to_lowercase();
    let message = refusal.message.to_lowercase();
    words
        .iter()
        .any(|word| kind.contains(word) || message.contains(word))
}

/// `retry-after-ms`, and `retry-after` as seconds or as a date (RFC 9110, section 10.2.3). The longer
/// one where they differ: Azure sends 0 ms beside 1 s.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| {
        let seconds: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    let milliseconds = text("retry-after-ms")
        .and_then(|text| text.parse().ok())
        .map(Duration::from_millis);
    let plain = text("retry-after").and_then(|text| {
        seconds(text).or_else(|| {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        })
    });
    milliseconds.max(plain).map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn refusal(message: &str) -> Refusal {
        Refusal {
            message: message.to_owned(),
            kind: None,
            retry_after: None,
        }
    }

    #[test]
    fn the_status_decides_and_the_words_make_exceptions() {
        use ErrorCode::{UpstreamAuth, UpstreamRateLimited, UpstreamRejected, UpstreamUnavailable};
        for (status, words, code) in [
            (401, "Incorrect key", UpstreamAuth),
            (402, "pay", UpstreamAuth),
            (407, "log in", UpstreamAuth),
            (403, "no access", UpstreamAuth),
            (403, "flagged by moderation", UpstreamRejected),
            (400, "API key not valid", UpstreamAuth),
            (400, "Your credit balance is too low", UpstreamAuth),
            (400, "bad temperature", UpstreamRejected),
            (408, "too slow", UpstreamUnavailable),
            (404, "no such model", UpstreamRejected),
            (429, "slow down", UpstreamRateLimited),
            (307, "", UpstreamUnavailable),
            (500, "oops", UpstreamUnavailable),
            (529, "overloaded", UpstreamUnavailable),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = classify(status, &HeaderMap::new(), Some(&refusal(words)));
            assert_eq!(error.code(), code, "{status} {words}");
            if code != UpstreamAuth {
                assert!(error.message().contains(words), "{status} {words}");
            } else {
                assert!(!error.message().contains(words), "{status} {words}");
            }
            if code == UpstreamRejected {
                assert_eq!(error.status(), status);
            }
        }
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 10:00:00 GMT").unwrap();
        for (name, value, wait) in [
            ("retry-after", "7", Some(7000)),
            ("retry-after", "0.5", Some(500)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "Sun, 22 Nov 2026 10:00:09 GMT", Some(9000)),
            ("retry-after", "Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            (
                "retry-after",
                "99999999999",
                Some(LONGEST_WAIT.as_millis() as u64),
            ),
            ("retry-after", "-1", None),
            ("retry-after", "soon", None),
            ("retry-after", "NaN", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let wait = wait.map(Duration::from_millis);
            assert_eq!(retry_after(&headers, now), wait, "{name}: {value}");
        }
    }

    #[test]
    fn the_longest_wait_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after-ms", HeaderValue::from_static("0"));
        headers.insert("retry-after", HeaderValue::from_static("1"));
        let mut refusal = refusal("slow down");
        assert_eq!(wait(&headers, Some(&refusal)), Some(Duration::from_secs(1)));
        refusal.retry_after = Some(Duration::from_secs(34));
        assert_eq!(wait(&headers, Some(&refusal)), refusal.retry_after);
        refusal.retry_after = Some(Duration::MAX);
        assert_eq!(wait(&headers, Some(&refusal)), Some(LONGEST_WAIT));
    }
}
