//! Continues the streams of replicas that are gone.

use std::sync::Arc;

use http::HeaderMap;

use super::admission::observe;
use super::stream_builder::{StreamBuilder, StreamParts};
use crate::app::{App, Gateway};
use crate::dialect::NATIVE;
use crate::dialect::native::log_codec;
use crate::limit::Estimate;
use crate::model::{Error, ErrorCode, Request};
use crate::stream::Orphan;

/// Continues every stream that this replica takes over, for as long as the gateway runs. A stream that
/// cannot be continued ends in an error.
pub async fn run_takeovers(gateway: Arc<Gateway>) {
    while let Some(orphan) = gateway.orphans.next().await {
        let app = gateway.app();
        let Some(replicas) = &app.replicas else {
            // Its reads ended when this replica stopped following.
            continue;
        };
        match prepare(&gateway, &app, &orphan).await {
            Ok((request, parts)) => {
                tracing::info!(
                    stream = orphan.id.hint(),
                    "this replica has taken over a stream and continues it"
                );
                let StreamParts {
                    sink,
                    settings,
                    retention,
                } = parts;
                replicas.continue_stream(orphan, request, sink, settings, retention);
            }
            Err(error) => {
                tracing::warn!(
                    stream = orphan.id.hint(),
                    code = error.code().as_str(),
                    message = error.message(),
                    "a stream that this replica has taken over cannot be continued"
                );
                // The log has the reason; the client gets the error of the lost replica.
                replicas.end_orphan(orphan);
            }
        }
    }
}

async fn prepare(
    gateway: &Gateway,
    app: &Arc<App>,
    orphan: &Orphan,
) -> Result<(Request, StreamParts), Error> {
    let cannot = |why| Error::new(ErrorCode::Internal, why);
    let text = orphan.text().zip(orphan.request.as_ref());
    let (text, body) =
        text.ok_or_else(|| cannot("its text is not complete in the shared state"))?;
    let mut request = NATIVE.parse(body)?;
    request.stream = true;
    let caller = app.keys.find_by_name(&orphan.owner);
    let caller = caller.ok_or_else(|| cannot("its API key is no longer configured"))?;
    let (model, route) = app.route(&request.model, caller)?;
    if !model.continues {
        return Err(cannot("`continue` is no longer on for its model"));
    }
    let estimate = Estimate::of(&request, model.reserve_tokens);
    let account = app.account(caller);
    let admitted = app.limiter.admit_takeover(account.as_ref(), estimate).await;
    let permit = admitted.map_err(|refused| refused.error)?;
    let mut memory = gateway.memory.reservation();
    // Another replica admitted the request: it is counted here and not refused.
    memory.count_admitted(body.len());
    let observation = observe(gateway, NATIVE.name(), &HeaderMap::new());
    observation.set_caller(&caller.name);
    observation.set_model(&model.name);
    let builder = StreamBuilder {
        gateway,
        app,
        dialect: NATIVE,
        caller,
        model,
        stream: orphan.id,
        observation,
        route,
        permit,
        open: gateway.in_flight.token(),
        memory,
    };
    let encoder = log_codec::continuing_encoder(orphan.id, orphan.next);
    let mut parts = builder.build(encoder, &request.model, Some(body.clone()));
    // The next continuation counts itself.
    let continued = u32::from(orphan.next.epoch).saturating_sub(1);
    parts.sink.take_over(text, continued);
    Ok((request, parts))
}
