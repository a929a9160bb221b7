//! Answers how many tokens a prompt has: as an upstream of its model counts them, else by an estimate.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, timeout};

use super::admission::Admitted;
use super::body::Prompt;
use super::chat::RequestContext;
use super::parsing;
use super::refusal::{Refusal, write_limit_headers};
use crate::dialect::CountEndpoint;
use crate::limit::Estimate;
use crate::model::{Error, ErrorCode, Request};
use crate::route::{Route, first_token_timeout};
use crate::upstream::Trace;

/// Marks a count that no upstream gave.
const ESTIMATED: HeaderName = HeaderName::from_static("x-sluicegate-estimated");

/// Answers an admitted request. It opens no stream and costs no tokens.
pub(super) async fn answer(
    context: &RequestContext<'_>,
    endpoint: CountEndpoint,
    admitted: Admitted,
    prompt: Prompt,
) -> Result<Response, Refusal> {
    let limits = admitted.permit.limits();
    let counted = count(context, endpoint, &admitted, prompt).await;
    let (tokens, estimated) = counted.map_err(|error| Refusal::new(error, limits))?;
    context.gateway.metrics.record_token_count(estimated);
    let mut response = Json((endpoint.answer)(tokens)).into_response();
    let headers = response.headers_mut();
    if estimated {
        headers.insert(ESTIMATED, HeaderValue::from_static("true"));
    }
    write_limit_headers(limits, context.dialect, headers);
    Ok(response)
}

/// The number of tokens, and whether it is an estimate.
async fn count(
    context: &RequestContext<'_>,
    endpoint: CountEndpoint,
    admitted: &Admitted,
    prompt: Prompt,
) -> Result<(u64, bool), Error> {
    let RequestContext {
        gateway,
        dialect,
        observation,
        headers,
    } = *context;
    let (app, caller) = (&admitted.app, &admitted.caller);
    let mut memory = gateway.memory.reservation();
    memory.reserve_headers(headers)?;
    let limit = app.config.limits.body;
    let (body, path_model) = prompt.read(headers, limit, &mut memory).await?;
    let parse = move |body: &Bytes| (endpoint.parse)(body);
    let parsed = parsing::parse(parse, app, caller, body, path_model, &mut memory).await;
    let (mut request, _) = parsed?;
    dialect.read_headers(headers, &mut request);
    let (model, route) = app.route(&request.model, caller)?;
    observation.set_model(&model.name);
    let trace = Trace::of(observation);
    let asked = ask_upstreams(context, &route, &request, &trace);
    let counted = match route.timeouts.total {
        // An estimate is better than an error.
        Some(total) => timeout(total, asked).await.unwrap_or(Ok(None)),
        None => asked.await,
    };
    let estimate = || Estimate::of(&request, 0).prompt;
    Ok(match counted? {
        Some(tokens) => (tokens, false),
        None => (estimate(), true),
    })
}

/// Asks the targets in order, without those that do not answer anyway; `None` if none of them counts.
///
/// # Errors
/// The refusal of an upstream that speaks the client's protocol: the request itself is wrong.
async fn ask_upstreams(
    context: &RequestContext<'_>,
    route: &Route,
    request: &Request,
    trace: &Trace,
) -> Result<Option<u64>, Error> {
    let limit = route.timeouts.first_token;
    for target in route.available_targets(Instant::now()) {
        let asking = trace.begin_attempt(
            &target.upstream.name,
            target.upstream.provider,
            &target.model,
        );
        let asked = target
            .upstream
            .count(request, &target.model, target.settings, &asking);
        let counted = timeout(limit, asked).await;
        let error = match counted.unwrap_or_else(|_| Err(first_token_timeout(limit))) {
            Ok(Some(tokens)) => {
                asking.end_attempt("ok");
                return Ok(Some(tokens));
            }
            Ok(None) => {
                asking.discard_attempt();
                continue;
            }
            Err(error) => error,
        };
        let wire = context.dialect.wire();
        let is_clients = wire.is_some_and(|wire| error.vendor_refusal(wire).is_some());
        if error.code() == ErrorCode::UpstreamRejected && is_clients {
            asking.end_attempt(&error.attempt_outcome());
            return Err(error);
        }
        target.report_failure(&error, &asking, &context.gateway.metrics);
    }
    Ok(None)
}
