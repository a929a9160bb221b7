//! Classifies a non-2xx answer. The wires parse its words; the status decides.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use super::retry_after::requested_wait;
use crate::model::{Error, ErrorCode};
use crate::wire::Refusal;

/// The error for an answer of `status`. `refusal` is its parsed body, with credentials already
/// removed; `None` if the body is not in the wire's own form.
pub(super) fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    refusal: Option<&Refusal>,
) -> Error {
    let message = |fallback: &str| {
        refusal.map_or_else(|| fallback.to_owned(), |refusal| refusal.message.clone())
    };
    match status.as_u16() {
        // The client gets no detail, because the account is the operator's. A 407 comes from a
        // proxy on the way to the upstream, which asks for a credential too.
        401 | 402 | 407 => credential_refused(),
        403 if !refusal.is_some_and(is_about_content) => credential_refused(),
        400 if refusal.is_some_and(is_about_credential) => credential_refused(),
        408 => Error::new(
            ErrorCode::UpstreamUnavailable,
            message("the upstream answered 408: it gave up waiting for the request"),
        ),
        429 => Error::new(
            ErrorCode::UpstreamRateLimited,
            message("the upstream answered 429: its rate limit is reached"),
        )
        .with_retry_after(retry_after(headers, refusal)),
        400..=499 => Error::new(
            ErrorCode::UpstreamRejected,
            message("the upstream refused the request and gave no reason"),
        )
        .with_status(status),
        300..=399 => Error::new(
            ErrorCode::UpstreamUnavailable,
            format!(
                "the upstream answered {} (a redirect), which the gateway does not follow; the operator must correct its base_url",
                status.as_u16()
            ),
        ),
        _ => Error::new(
            ErrorCode::UpstreamUnavailable,
            message(&format!("the upstream answered {}", status.as_u16())),
        )
        .with_retry_after(retry_after(headers, refusal)),
    }
}

fn retry_after(headers: &HeaderMap, refusal: Option<&Refusal>) -> Option<Duration> {
    let from_body = refusal.and_then(|refusal| refusal.retry_after);
    requested_wait(headers, from_body, SystemTime::now())
}

fn credential_refused() -> Error {
    Error::new(
        ErrorCode::UpstreamAuth,
        "the upstream refused the gateway's credential or account",
    )
}

/// Whether a 403 is about moderated content and not about the account.
fn is_about_content(refusal: &Refusal) -> bool {
    mentions(
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

/// Whether a 400 is about a bad key (Gemini, xAI) or an account without credit (Anthropic,
/// DashScope, xAI).
fn is_about_credential(refusal: &Refusal) -> bool {
    mentions(
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

fn mentions(refusal: &Refusal, words: &[&str]) -> bool {
    let kind = refusal.kind.as_deref().unwrap_or_default().to_lowercase();
    let message = refusal.message.to_lowercase();
    words
        .iter()
        .any(|word| kind.contains(word) || message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str) -> Refusal {
        Refusal {
            message: message.to_owned(),
            kind: None,
            retry_after: None,
        }
    }

    #[test]
    fn the_status_decides_and_words_make_exceptions() {
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
}
