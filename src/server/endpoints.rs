//! The routes of requests that open no stream of a dialect: counting tokens, and requests that are
//! passed on.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, Request};

use super::admission::{Admitted, admit, observe};
use super::body::Prompt;
use super::chat::RequestContext;
use super::count;
use super::passing::{self, PassedPath};
use super::paths::PathModel;
use super::refusal::{Refusal, respond_observed};
use super::service::Peer;
use crate::app::Gateway;
use crate::dialect::{self, CountEndpoint, Dialect};
use crate::limit::Admission;

/// The paths of [`add_routes`].
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    let counting = dialect::ALL
        .iter()
        .filter_map(|(_, dialect)| dialect.counting());
    let counting = counting.map(|endpoint| endpoint.path);
    counting.chain(passing::PATHS.iter().map(|path| path.path))
}

/// Adds the routes.
pub(super) fn add_routes(mut router: Router<Arc<Gateway>>) -> Router<Arc<Gateway>> {
    for (_, dialect) in dialect::ALL {
        let dialect: &'static dyn Dialect = *dialect;
        if let Some(endpoint) = dialect.counting() {
            let handler =
                move |gateway, peer, request| post_count(dialect, endpoint, gateway, peer, request);
            router = router.route(endpoint.path, post(handler));
        }
    }
    for path in passing::PATHS {
        let handler = move |gateway, peer, request| post_passed(path, gateway, peer, request);
        router = router.route(path.path, post(handler));
    }
    router
}

async fn post_count(
    dialect: &'static dyn Dialect,
    endpoint: CountEndpoint,
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request<Body>,
) -> Response {
    let (headers, prompt) = split(request);
    let observation = observe(&gateway, dialect.name(), &headers);
    let context = RequestContext {
        gateway: &gateway,
        dialect,
        observation: &observation,
        headers: &headers,
    };
    let admitted = admit_prompt(&context, &peer, Admission::Request, prompt).await;
    let result = match admitted {
        Ok((admitted, prompt)) => count::answer(&context, endpoint, admitted, prompt).await,
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, dialect, &gateway.metrics, &observation)
}

async fn post_passed(
    path: &'static PassedPath,
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request<Body>,
) -> Response {
    let (headers, prompt) = split(request);
    let dialect = path.dialect();
    let observation = observe(&gateway, path.name(), &headers);
    let context = RequestContext {
        gateway: &gateway,
        dialect,
        observation: &observation,
        headers: &headers,
    };
    let admitted = admit_prompt(&context, &peer, Admission::Stream, prompt).await;
    let result = match admitted {
        Ok((admitted, prompt)) => passing::answer(&context, path, admitted, prompt).await,
        Err(refusal) => Err(refusal),
    };
    respond_observed(result, dialect, &gateway.metrics, &observation)
}

/// The headers of a `POST`, and its prompt.
pub(super) fn split(request: Request<Body>) -> (HeaderMap, Prompt) {
    let (mut head, body) = request.into_parts();
    let model = head.extensions.remove().map(|PathModel(model)| model);
    let prompt = Prompt::body(&head, body, model);
    (head.headers, prompt)
}

/// Admits a request. The prompt of one that is refused is discarded.
async fn admit_prompt(
    context: &RequestContext<'_>,
    peer: &Peer,
    admission: Admission,
    prompt: Prompt,
) -> Result<(Admitted, Prompt), Refusal> {
    match admit(context.gateway, peer, context.headers, admission).await {
        Ok(admitted) => {
            context.observation.set_caller(&admitted.caller.name);
            Ok((admitted, prompt))
        }
        Err(refusal) => {
            prompt.discard().await;
            Err(refusal)
        }
    }
}
