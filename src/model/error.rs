//! Errors that know where they come from, whether another try can help, and what the client reads.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// The contract's error codes, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Gone,
    PayloadTooLarge,
    RateLimited,
    Overloaded,
    Draining,
    UpstreamRejected,
    UpstreamRateLimited,
    UpstreamAuth,
    UpstreamUnavailable,
    UpstreamTimeout,
    UpstreamError,
    BadUpstreamData,
    StreamInterrupted,
    StreamStalled,
    StreamTooLong,
    Internal,
}

/// Who caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Client,
    Gateway,
    Upstream,
}

/// How long a client should wait before it asks a draining gateway's successor.
const DRAIN_RETRY: Duration = Duration::from_secs(1);

/// The longest message about an error of the client, in bytes: it may quote what the client sent.
const MAX_MESSAGE: usize = 2048;

/// What went wrong, in the words that the client gets. A message never carries a credential and
/// never more of an upstream's body than its own error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: ErrorCode,
    message: Box<str>,
    status: StatusCode,
    retry_after: Option<Duration>,
    /// Boxed, so that a `Result` with this error stays small.
    details: Option<Box<Details>>,
}

/// What few errors have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Details {
    field: Option<Box<str>>,
    source: Option<Source>,
    should_retry: Option<bool>,
    upstream_status: Option<StatusCode>,
    unanswered: bool,
    vendor_refusal: Option<VendorRefusal>,
}

/// An upstream's refusal as it came, for clients that speak its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorRefusal {
    /// The upstream's protocol.
    pub wire: &'static str,
    pub status: StatusCode,
    /// Its content type, and its advice on another try.
    pub headers: HeaderMap,
    /// Without credentials.
    pub body: String,
}

/// The cause of an error. It is for the operator's log; clients never see it.
#[derive(Clone)]
struct Source(Arc<dyn std::error::Error + Send + Sync>);

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Whether the same request may succeed when it is sent again later.
    pub fn retryable(self) -> bool {
        self.row().3
    }

    pub fn origin(self) -> Origin {
        self.row().2
    }

    /// The status that the code has before the stream began.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// Name, status, origin, retryable.
    fn row(self) -> (&'static str, StatusCode, Origin, bool) {
        use Origin::{Client, Gateway, Upstream};
        match self {
            Self::InvalidRequest => ("invalid_request", StatusCode::BAD_REQUEST, Client, false),
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, Client, false),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, Client, false),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND, Client, false),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                Client,
                false,
            ),
            Self::RequestTimeout => ("request_timeout", StatusCode::REQUEST_TIMEOUT, Client, true),
            Self::Gone => ("gone", StatusCode::GONE, Client, false),
            Self::PayloadTooLarge => (
                "payload_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                Client,
                false,
            ),
            Self::RateLimited => ("rate_limited", StatusCode::TOO_MANY_REQUESTS, Gateway, true),
            Self::Overloaded => ("overloaded", StatusCode::SERVICE_UNAVAILABLE, Gateway, true),
            Self::Draining => ("draining", StatusCode::SERVICE_UNAVAILABLE, Gateway, true),
            Self::UpstreamRejected => (
                "upstream_rejected",
                StatusCode::BAD_REQUEST,
                Upstream,
                false,
            ),
            Self::UpstreamRateLimited => (
                "upstream_rate_limited",
                StatusCode::TOO_MANY_REQUESTS,
                Upstream,
                true,
            ),
            Self::UpstreamAuth => ("upstream_auth", StatusCode::BAD_GATEWAY, Upstream, false),
            Self::UpstreamUnavailable => (
                "upstream_unavailable",
                StatusCode::BAD_GATEWAY,
                Upstream,
                true,
            ),
            Self::UpstreamTimeout => (
                "upstream_timeout",
                StatusCode::GATEWAY_TIMEOUT,
                Upstream,
                true,
            ),
            Self::UpstreamError => ("upstream_error", StatusCode::BAD_GATEWAY, Upstream, true),
            Self::BadUpstreamData => ("bad_upstream_data", StatusCode::BAD_GATEWAY, Upstream, true),
            Self::StreamInterrupted => (
                "stream_interrupted",
                StatusCode::BAD_GATEWAY,
                Upstream,
                true,
            ),
            Self::StreamStalled => ("stream_stalled", StatusCode::BAD_GATEWAY, Upstream, true),
            Self::StreamTooLong => ("stream_too_long", StatusCode::BAD_GATEWAY, Gateway, false),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, Gateway, true),
        }
    }
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if code.origin() == Origin::Client && message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push('…');
        }
        Self {
            code,
            message: message.into_boxed_str(),
            status: code.status(),
            retry_after: None,
            details: None,
        }
    }

    /// A 400 that names the field: `messages[2].content: expected …`.
    pub fn invalid(field: &str, problem: impl fmt::Display) -> Self {
        Self {
            details: Some(Box::new(Details {
                field: Some(field.into()),
                ..Details::default()
            })),
            ..Self::new(ErrorCode::InvalidRequest, format!("{field}: {problem}"))
        }
    }

    /// The gateway is shutting down.
    pub fn draining() -> Self {
        Self::new(ErrorCode::Draining, "the gateway is shutting down")
            .with_retry_after(Some(DRAIN_RETRY))
    }

    /// A stream broke off, for the reason `why`.
    pub fn interrupted(why: impl Into<String>) -> Self {
        Self::new(ErrorCode::StreamInterrupted, why)
    }

    /// How long to wait before another try, if it is known.
    #[must_use]
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// The same error in other words.
    #[must_use]
    pub fn map_message(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.message = change(&self.message).into_boxed_str();
        self
    }

    /// The upstream's own status, for [`ErrorCode::UpstreamRejected`].
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds the cause, which clients do not see. It must not contain a credential.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        let details = self.details.get_or_insert_default();
        details.source = Some(Source(Arc::from(source)));
        self
    }

    /// The upstream's own advice whether to try again.
    #[must_use]
    pub fn with_retry_advice(mut self, retry: Option<bool>) -> Self {
        if retry.is_some() {
            self.details.get_or_insert_default().should_retry = retry;
        }
        self
    }

    /// The status with which the upstream answered.
    #[must_use]
    pub fn with_upstream_status(mut self, status: StatusCode) -> Self {
        self.details.get_or_insert_default().upstream_status = Some(status);
        self
    }

    /// The outcome of one attempt: the upstream's status if it answered with one, else the code.
    pub fn attempt_outcome(&self) -> Cow<'static, str> {
        match self.upstream_status() {
            Some(status) => Cow::Owned(status.as_u16().to_string()),
            None => Cow::Borrowed(self.code.as_str()),
        }
    }

    /// The request was sent, and the upstream may have processed it, but there was no answer.
    #[must_use]
    pub fn with_no_answer(mut self) -> Self {
        self.details.get_or_insert_default().unanswered = true;
        self
    }

    /// Whether the same upstream may be asked again at once or after a pause: nothing was sent to it, or
    /// it answered with a failure that may pass.
    pub fn allows_retry(&self) -> bool {
        let details = self.details.as_deref();
        if details.is_some_and(|details| details.unanswered || details.should_retry == Some(false))
        {
            return false;
        }
        match details.and_then(|details| details.upstream_status) {
            Some(status) => matches!(status.as_u16(), 408 | 429 | 500 | 502..=504 | 529),
            None => matches!(
                self.code,
                ErrorCode::UpstreamUnavailable
                    | ErrorCode::UpstreamRateLimited
                    | ErrorCode::UpstreamError
                    | ErrorCode::BadUpstreamData
            ),
        }
    }

    /// See [`Error::with_upstream_status`].
    pub fn upstream_status(&self) -> Option<StatusCode> {
        self.details.as_ref()?.upstream_status
    }

    /// See [`Error::with_retry_advice`].
    pub fn should_retry(&self) -> Option<bool> {
        self.details.as_ref()?.should_retry
    }

    /// Adds the upstream's own refusal.
    #[must_use]
    pub fn with_vendor_refusal(mut self, refusal: VendorRefusal) -> Self {
        self.details.get_or_insert_default().vendor_refusal = Some(refusal);
        self
    }

    /// The upstream's own refusal, if a client that speaks `wire` gets it as it is.
    pub fn vendor_refusal(&self, wire: &str) -> Option<&VendorRefusal> {
        let refusal = self.details.as_ref()?.vendor_refusal.as_ref()?;
        (refusal.wire == wire).then_some(refusal)
    }

    /// The message and every cause of it, for the log.
    pub fn explanation(&self) -> String {
        let mut text = self.message.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let words = cause.to_string();
            // Some errors print their cause, or the words of the message, themselves.
            if words.ends_with(&text) {
                text.clone_from(&words);
            } else if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            next = cause.source();
        }
        text
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The field of the client's request that is wrong, where it is one.
    pub fn field(&self) -> Option<&str> {
        self.details.as_ref()?.field.as_deref()
    }

    /// The HTTP status, where the stream has not begun.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// [`Error::retry_after`] in whole seconds, rounded up, as headers and bodies carry it.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.details.as_ref()?.source.as_ref()?;
        Some(&*source.0)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for Source {}
