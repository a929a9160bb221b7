//! Continues the streams of replicas that are gone.

use std::sync::Arc;

use crate::app::{App, Gateway};
use crate::dialect::NATIVE;
use crate::dialect::native::log_codec;
use crate::limit::Estimate;
use crate::model::{Error, ErrorCode, Request, RequestId};
use crate::stream::{
    ClientSink, Orphan, Retention, StreamGuards, StreamLabels, StreamRecord, StreamSettings,
};

/// Continues every stream that this replica takes over, for as long as the gateway runs. A stream that
/// cannot be continued ends in an error.
pub async fn run_takeovers(gateway: Arc<Gateway>) {
    while let Some(orphan) = gateway.registry.next_orphan().await {
        let app = gateway.app();
        let Some(replicas) = &app.replicas else {
            // Its reads ended when this replica stopped following.
            continue;
        };
        match prepare(&gateway, &app, &orphan).await {
            Ok((request, sink, settings, retention)) => {
                tracing::info!(
                    stream = orphan.id.hint(),
                    "this replica has taken over a stream and continues it"
                );
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

type Continuation = (Request, ClientSink, StreamSettings, Retention);

async fn prepare(
    gateway: &Gateway,
    app: &Arc<App>,
    orphan: &Orphan,
) -> Result<Continuation, Error> {
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
    let labels = StreamLabels {
        stream: orphan.id,
        request: RequestId::random(),
        dialect: NATIVE.name(),
        model: model.name.clone(),
        key: caller.name.clone(),
    };
    let open = gateway.in_flight.token();
    let guards = StreamGuards { permit, open };
    let record = StreamRecord::new(labels, guards, Arc::clone(&gateway.metrics));
    let mut sink = ClientSink::new(
        log_codec::continuing_encoder(orphan.id, orphan.next),
        record,
    );
    // The next continuation counts itself.
    sink.take_over(text, u32::from(orphan.next.epoch).saturating_sub(1));
    let mut memory = gateway.memory.reservation();
    // Another replica admitted the request: it is counted here and not refused.
    memory.count_built(body.len());
    let settings = gateway.stream_settings(app, NATIVE, route, model.continues, memory);
    let body = Some(body.clone());
    let retention = gateway.retention(app, orphan.id, &orphan.owner, &request.model, body);
    Ok((request, sink, settings, retention))
}
