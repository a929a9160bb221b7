//! Passes a client's body to one target after another until the answer of one begins.

use tokio::time::timeout;

use super::attempt::{first_token_timeout, now};
use super::failover::{allows_failover, combine_errors, no_target};
use super::health::TrackedAttempt;
use super::{Route, Target};
use crate::metrics::Metrics;
use crate::model::Error;
use crate::upstream::{PassedRequest, PassedStart, Trace};

impl Route {
    /// Tries the targets in the order of the model's policy and returns the one whose answer began, with
    /// that answer.
    ///
    /// # Errors
    /// As [`Route::open`].
    pub async fn pass(
        &self,
        request: &PassedRequest<'_>,
        trace: &Trace,
        metrics: &Metrics,
    ) -> Result<(&Target, PassedStart, TrackedAttempt), Error> {
        let mut failure = None;
        let mut plan = self.begin_plan(now());
        while let Some(place) = self.next_target(&mut plan, trace).await {
            if failure.is_some() {
                match plan.is_retry(place) {
                    true => metrics.record_retry(&self.model),
                    false => metrics.record_failover(&self.model),
                }
            }
            let target = &self.targets[place];
            let limit = self.timeouts.first_token;
            let asking = trace.begin_attempt(
                &target.upstream.name,
                target.upstream.provider,
                &target.model,
            );
            let mut health = target.begin_attempt(tokio::time::Instant::now());
            let asked = target.upstream.pass(request, &target.model, &asking);
            let answer = timeout(limit, asked).await;
            let error = match answer.unwrap_or_else(|_| Err(first_token_timeout(limit))) {
                Ok(start) => {
                    asking.end_attempt("ok");
                    metrics.record_attempt(&target.upstream.name, "ok");
                    health.record_first_content(now());
                    self.record_affinity(&plan, place, metrics);
                    return Ok((target, start, health));
                }
                Err(error) => error,
            };
            health.record_end(Some(&error));
            target.report_failure(&error, &asking, metrics);
            if !allows_failover(&error) {
                return Err(error);
            }
            plan.record_failure(place, error.allows_retry(), error.retry_after());
            failure = Some(combine_errors(failure, error));
        }
        Err(failure.unwrap_or_else(no_target))
    }
}
