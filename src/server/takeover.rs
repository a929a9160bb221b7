//! Going on with the streams of replicas that are gone.

use std::sync::Arc;

use crate::app::{App, Gateway};
use crate::dialect::{NATIVE, native};
use crate::limit::Estimate;
use crate::model::{Error, ErrorCode, Request, RequestId};
use crate::stream::{Conditions, Held, Keeping, Orphan, Outlet, Receipt, Subject};

/// Goes on with every stream that this replica takes over, for as long as the gateway runs. What
/// cannot be gone on with ends in an error.
pub async fn succeed(gateway: Arc<Gateway>) {
    while let Some(orphan) = gateway.registry.orphan().await {
        let app = gateway.app();
        let Some(replicas) = &app.replicas else {
            // Its readers were told when the replicas parted.
            continue;
        };
        match going_on(&gateway, &app, &orphan).await {
            Ok((request, outlet, conditions, keeping)) => {
                tracing::info!(stream = orphan.id.hint(), "a stream is taken over");
                replicas.go_on(orphan, request, outlet, conditions, keeping);
            }
            Err(error) => {
                tracing::warn!(
                    stream = orphan.id.hint(),
                    code = error.code().as_str(),
                    message = error.message(),
                    "a stream that was taken over cannot be gone on with"
                );
                // Why is for the operator; the client is told what happened to its stream.
                replicas.give_up(orphan);
            }
        }
    }
}

type GoingOn = (Request, Outlet, Conditions, Keeping);

async fn going_on(gateway: &Gateway, app: &Arc<App>, orphan: &Orphan) -> Result<GoingOn, Error> {
    let cannot = |why| Error::new(ErrorCode::Internal, why);
    let text = orphan.text().zip(orphan.request.as_ref());
    let (text, request) = text.ok_or_else(|| cannot("its text is not known"))?;
    let mut asked = NATIVE.parse(request)?;
    asked.stream = true;
    let caller = app.keys.find_by_name(&orphan.owner);
    let caller = caller.ok_or_else(|| cannot("its key is none any more"))?;
    let (model, route) = app.route(&asked.model, caller)?;
    if !model.continues {
        return Err(cannot("the model is not gone on with any more"));
    }
    let estimate = Estimate::of(&asked, model.reserve_tokens);
    let account = app.account(caller);
    let admitted = app.limiter.admit_takeover(account.as_ref(), estimate).await;
    let permit = admitted.map_err(|refused| refused.error)?;
    let subject = Subject {
        stream: orphan.id,
        request: RequestId::random(),
        dialect: NATIVE.name(),
        model: model.name.clone(),
        key: caller.name.clone(),
    };
    let open = gateway.in_flight.token();
    let held = Held { permit, open };
    let receipt = Receipt::new(subject, held, Arc::clone(&gateway.metrics));
    let mut outlet = Outlet::new(native::going_on(orphan.id, orphan.next), receipt);
    // This is one more.
    outlet.take_over(text, u32::from(orphan.next.epoch).saturating_sub(1));
    let mut memory = gateway.memory.reservation();
    // Another replica admitted the request: it is counted here and not refused.
    memory.count_built(request.len());
    let conditions = gateway.conditions(app, NATIVE, route, model.continues, memory);
    let request = Some(request.clone());
    let keeping = gateway.keeping(app, orphan.id, &orphan.owner, &asked.model, request);
    Ok((asked, outlet, conditions, keeping))
}
