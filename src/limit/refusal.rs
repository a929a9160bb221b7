//! The answer to a request that a limit refuses.

use std::time::Duration;

use crate::model::{Error, ErrorCode, Rate};

use super::check::FailedCheck;
use super::policy::{Limit, Resource, Subject};
use super::{Estimate, Permit, RateLimits};

/// A refusal by one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRefusal {
    /// Names the limit, its number, and when to send the request again.
    pub error: Error,
    /// The sender's status, for the headers.
    pub limits: RateLimits,
}

/// How soon the store is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl LimitRefusal {
    /// `estimate` is what a request for tokens asked for.
    pub(super) fn new(failed: &FailedCheck, estimate: Option<&Estimate>) -> Self {
        let subject = failed.policy.subject;
        let resource = failed.policy.resource;
        let error = match failed.limit {
            Limit::Rate(rate) => match estimate {
                // Waiting does not help, so this is no 429.
                Some(estimate) if failed.amount > rate.amount => {
                    too_many_tokens(subject, rate.amount, estimate)
                }
                _ => over_rate(subject, resource, rate, failed.after),
            },
            Limit::Streams(limit) => too_many_streams(subject, limit.unwrap_or(0), failed.after),
        };
        Self {
            error,
            limits: failed.limits,
        }
    }

    /// A refusal of the tokens that an admitted request asked for. What the checks did not read
    /// is as it was at the admission.
    pub(super) fn after_admission(
        failed: &FailedCheck,
        permit: &Permit,
        estimate: Estimate,
    ) -> Self {
        let refusal = Self::new(failed, Some(&estimate));
        Self {
            limits: refusal.limits.or(permit.limits),
            ..refusal
        }
    }

    /// The shared state does not answer, and the configuration refuses requests then.
    pub(super) fn without_store() -> Self {
        let message = "the gateway cannot check its limits at the moment: \
                       its shared state does not answer";
        Self {
            error: Error::new(ErrorCode::Overloaded, message).with_retry_after(Some(STORE_RETRY)),
            limits: RateLimits::default(),
        }
    }
}

fn over_rate(subject: Subject, resource: Resource, rate: Rate, after: Duration) -> Error {
    let verb = match resource {
        Resource::Tokens => "use",
        Resource::Requests | Resource::Streams => "make",
    };
    let resource = match rate.amount {
        1 => resource.name().trim_end_matches('s'),
        _ => resource.name(),
    };
    let message = format!(
        "{subject} may {verb} {} {resource} {}",
        rate.amount,
        period(rate.per)
    );
    Error::new(ErrorCode::RateLimited, message).with_retry_after(Some(after))
}

fn too_many_tokens(subject: Subject, limit: u64, estimate: &Estimate) -> Error {
    let problem = format!(
        "the prompt has about {} tokens{}, and {subject} may use {limit} at most at once",
        estimate.prompt,
        estimate
            .output
            .map_or_else(String::new, |output| format!(" and asks for {output} more")),
    );
    let field = match estimate.output {
        Some(_) => "max_tokens",
        None => "messages",
    };
    Error::invalid(field, problem)
}

fn too_many_streams(subject: Subject, limit: u64, after: Duration) -> Error {
    let code = match subject {
        Subject::Replica => ErrorCode::Overloaded,
        Subject::Key | Subject::Address => ErrorCode::RateLimited,
    };
    let streams = if limit == 1 { "stream" } else { "streams" };
    let message = format!("{subject} may have {limit} {streams} open at once");
    Error::new(code, message).with_retry_after(Some(after))
}

/// `a minute`, or `in 5m` for a period without a word of its own.
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
