//! What somebody reads who may not pass.

use std::time::Duration;

use crate::model::{Error, ErrorCode, Rate};

use super::{Estimate, RateLimits};

/// A refusal by one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRefusal {
    /// Names the policy and its number, and when to come again.
    pub error: Error,
    /// Where the sender stands, for the headers.
    pub limits: RateLimits,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Replica,
    Caller,
    Address,
}

/// When a stream ends is not known, so a stream limit can only say: soon.
const STREAM_RETRY: Duration = Duration::from_secs(1);
/// The store is asked again so often.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl LimitRefusal {
    pub(super) fn requests(
        policy: Policy,
        rate: Rate,
        after: Duration,
        limits: RateLimits,
    ) -> Self {
        let requests = if rate.amount == 1 {
            "request"
        } else {
            "requests"
        };
        let message = format!(
            "{} may make {} {requests} {}",
            policy.subject(),
            rate.amount,
            period(rate.per)
        );
        Self {
            error: Error::new(ErrorCode::RateLimited, message).with_retry_after(Some(after)),
            limits,
        }
    }

    pub(super) fn tokens(rate: Rate, after: Duration, limits: RateLimits) -> Self {
        let message = format!(
            "{} may use {} tokens {}",
            Policy::Caller.subject(),
            rate.amount,
            period(rate.per)
        );
        Self {
            error: Error::new(ErrorCode::RateLimited, message).with_retry_after(Some(after)),
            limits,
        }
    }

    /// No waiting helps here, so it is no 429.
    pub(super) fn too_many_tokens(estimate: &Estimate, limit: u64, limits: RateLimits) -> Self {
        let problem = format!(
            "the prompt has some {} tokens{}, and {} may use no more than {limit} at once",
            estimate.prompt,
            estimate
                .output
                .map_or_else(String::new, |output| format!(" and asks for {output} more")),
            Policy::Caller.subject(),
        );
        let field = match estimate.output {
            Some(_) => "max_tokens",
            None => "messages",
        };
        Self {
            error: Error::invalid(field, problem),
            limits,
        }
    }

    /// The shared state is gone, and the configuration says not to go on without it.
    pub(super) fn without_store() -> Self {
        let message = "the limits cannot be checked at the moment";
        Self {
            error: Error::new(ErrorCode::Overloaded, message).with_retry_after(Some(STORE_RETRY)),
            limits: RateLimits::default(),
        }
    }

    pub(super) fn streams(policy: Policy, limit: u64, limits: RateLimits) -> Self {
        let code = match policy {
            Policy::Replica => ErrorCode::Overloaded,
            Policy::Caller | Policy::Address => ErrorCode::RateLimited,
        };
        let streams = if limit == 1 { "stream" } else { "streams" };
        let message = format!(
            "{} may have {limit} {streams} open at once",
            policy.subject()
        );
        Self {
            error: Error::new(code, message).with_retry_after(Some(STREAM_RETRY)),
            limits,
        }
    }
}

impl Policy {
    fn subject(self) -> &'static str {
        match self {
            Self::Replica => "this gateway",
            Self::Caller => "this key",
            Self::Address => "this address",
        }
    }
}

/// `a minute`, or `in 5m` for what has no word of its own.
fn period(per: Duration) -> String {
    if per.subsec_nanos() == 0 {
        match per.as_secs() {
            1 => return "a second".to_owned(),
            60 => return "a minute".to_owned(),
            3_600 => return "an hour".to_owned(),
            86_400 => return "a day".to_owned(),
            _ => {}
        }
    }
    format!("in {}", humantime::format_duration(per))
}
