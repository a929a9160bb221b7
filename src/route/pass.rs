//! Passes a client's body to one target after another until the answer of one begins.

use tokio::time::timeout;

use super::failover::{allows_failover, combine_errors, first_token_timeout};
use super::{Route, Target};
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode};
use crate::upstream::{PassedRequest, PassedStart, Trace};

impl Route {
    /// Tries the targets in order and returns the one whose answer began, with that answer.
    ///
    /// # Errors
    /// As [`Route::open`].
    pub async fn pass(
        &self,
        request: &PassedRequest<'_>,
        trace: &Trace,
        metrics: &Metrics,
    ) -> Result<(&Target, PassedStart), Error> {
        let mut failure = None;
        for target in &self.targets {
            if failure.is_some() {
                metrics.record_failover(&self.model);
            }
            let limit = self.timeouts.first_token;
            let asking = trace.begin_attempt(
                &target.upstream.name,
                target.upstream.provider,
                &target.model,
            );
            let asked = target.upstream.pass(request, &target.model, &asking);
            let answer = timeout(limit, asked).await;
            let error = match answer.unwrap_or_else(|_| Err(first_token_timeout(limit))) {
                Ok(start) => {
                    trace.end_attempt("ok");
                    metrics.record_attempt(&target.upstream.name, "ok");
                    return Ok((target, start));
                }
                Err(error) => error,
            };
            target.report_failure(&error, trace, metrics);
            if !allows_failover(&error) {
                return Err(error);
            }
            failure = Some(combine_errors(failure, error));
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorCode::Internal, "the model has no target")))
    }
}
