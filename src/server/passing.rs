//! The paths of OpenAI's API, and of its neighbours, whose requests go to an upstream as the client
//! wrote them, but for the model.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;

use super::admission::Admitted;
use super::body::Prompt;
use super::chat::RequestContext;
use super::parsing::{self, Outline};
use super::refusal::{Refusal, write_limit_headers};
use super::session::find_named_session;
use crate::app::{App, Gateway};
use crate::config::ModelConfig;
use crate::dialect::{self, Dialect};
use crate::limit::{Estimate, MemoryReservation};
use crate::model::{Error, ErrorCode, Request, StreamId};
use crate::route::Route;
use crate::stream::{PassSettings, StreamGuards, StreamLabels, StreamRecord, pass};
use crate::upstream::{PassedRequest, Trace};

/// A path whose requests are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassedPath {
    pub(super) path: &'static str,
    /// The name in metrics and logs, where a dialect's would be.
    name: &'static str,
    /// The path of the dialect whose form errors have.
    dialect: &'static str,
    /// The wires whose upstreams have the path.
    wires: &'static [&'static str],
    /// Whether a model writes the answer, so that it costs tokens that a limit must know.
    is_text: bool,
    /// The refusal where no target of the model has the path.
    missing: ErrorCode,
}

const OPENAI: PassedPath = PassedPath {
    path: "",
    name: "",
    dialect: "/v1/chat/completions",
    wires: &["openai-chat", "openai-responses"],
    is_text: false,
    missing: ErrorCode::InvalidRequest,
};

/// Every path whose requests are passed on.
pub(super) const PATHS: &[PassedPath] = &[
    PassedPath {
        path: "/v1/audio/speech",
        name: "speech",
        ..OPENAI
    },
    PassedPath {
        path: "/v1/completions",
        name: "completions",
        is_text: true,
        ..OPENAI
    },
    PassedPath {
        path: "/v1/embeddings",
        name: "embeddings",
        ..OPENAI
    },
    PassedPath {
        path: "/v1/images/generations",
        name: "images",
        ..OPENAI
    },
    PassedPath {
        path: "/v1/moderations",
        name: "moderations",
        ..OPENAI
    },
    PassedPath {
        path: "/v1/rerank",
        name: "rerank",
        ..OPENAI
    },
    PassedPath {
        path: "/v1/responses/compact",
        name: "compact",
        dialect: "/v1/responses",
        wires: &["openai-responses"],
        is_text: true,
        missing: ErrorCode::NotFound,
    },
];

/// The header by which clients ask for features that are not part of OpenAI's API yet.
const BETA: HeaderName = HeaderName::from_static("openai-beta");

impl PassedPath {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn dialect(&self) -> &'static dyn Dialect {
        dialect::at(self.dialect)
    }

    /// The path at an upstream, whose base URL has the version.
    fn upstream_path(&self) -> &'static str {
        self.path.strip_prefix("/v1").unwrap_or(self.path)
    }

    /// Keeps the targets that have the path.
    ///
    /// # Errors
    /// If there is none.
    fn select_targets(&self, route: &mut Route, model: &str) -> Result<(), Error> {
        let has_path = |wire| self.wires.contains(&wire);
        route
            .targets
            .retain(|target| has_path(target.upstream.wire.name()));
        if !route.targets.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "no upstream of `{model}` has POST {}: that takes an upstream that speaks {}",
            self.path,
            self.wires.join(" or ")
        );
        Err(match self.missing {
            ErrorCode::InvalidRequest => Error::invalid("model", problem),
            code => Error::new(code, problem),
        })
    }
}

/// A request that was read and may be passed on.
struct Passing<'a> {
    body: Bytes,
    members: Members,
    model: &'a ModelConfig,
    route: Route,
    memory: MemoryReservation,
}

/// Answers an admitted request.
pub(super) async fn answer(
    context: &RequestContext<'_>,
    path: &'static PassedPath,
    admitted: Admitted,
    prompt: Prompt,
) -> Result<Response, Refusal> {
    let limits = admitted.permit.limits();
    let app = Arc::clone(&admitted.app);
    let read = read(context, path, &app, &admitted, prompt).await;
    let Passing {
        body,
        members,
        model,
        route,
        memory,
    } = read.map_err(|error| Refusal::new(error, limits))?;
    context.observation.set_model(&model.name);
    let account = app.account(&admitted.caller);
    let estimate = members.estimate(path, body.len(), model.reserve_tokens);
    let reserved = app
        .limiter
        .reserve(admitted.permit, account.as_ref(), estimate);
    let permit = reserved
        .await
        .map_err(|refused| Refusal::new(refused.error, refused.limits))?;
    let limits = permit.limits();
    let labels = StreamLabels {
        stream: StreamId::random(),
        observation: context.observation.clone(),
        dialect: path.name,
        model: model.name.clone(),
        key: admitted.caller.name.clone(),
    };
    let open = admitted.open;
    let metrics = Arc::clone(&context.gateway.metrics);
    let record = StreamRecord::new(labels, StreamGuards { permit, open }, metrics);
    let request = PassedRequest {
        path: path.upstream_path(),
        headers: upstream_headers(context.headers),
        body: &body,
        // Their refusals have one form, whichever of OpenAI's protocols the upstream speaks.
        wire: path.dialect().wire().unwrap_or_default(),
    };
    let settings = settings(context, path, &app, &members);
    let trace = Trace::of(context.observation);
    let metrics = &context.gateway.metrics;
    let passed = pass(&route, &request, &trace, metrics, record, settings).await;
    // The request is not sent again.
    drop((body, memory));
    let passed = passed.map_err(|error| Refusal::new(error, limits))?;
    let mut response = Response::new(Body::new(passed.body));
    *response.status_mut() = passed.status;
    *response.headers_mut() = passed.headers;
    write_limit_headers(limits, context.dialect, response.headers_mut());
    Ok(response)
}

/// Reads a request and finds its targets.
async fn read<'a>(
    context: &RequestContext<'_>,
    path: &PassedPath,
    app: &'a App,
    admitted: &Admitted,
    prompt: Prompt,
) -> Result<Passing<'a>, Error> {
    let mut memory = context.gateway.memory.reservation();
    memory.reserve_headers(context.headers)?;
    let limit = app.config.limits.body;
    let (body, path_model) = prompt.read(context.headers, limit, &mut memory).await?;
    let caller = &admitted.caller;
    let Outline { body, model, .. } = parsing::outline(app, caller, body, path_model).await?;
    // The bytes that the upstream gets.
    memory.reserve_built(body.len())?;
    let members = Members::parse(&body)?;
    let Some(model) = model else {
        return Err(Error::invalid("model", "is required, as a string"));
    };
    let names = Request {
        model,
        ..Request::default()
    };
    names.check_names()?;
    if caller.is_restricted() {
        members.check_routing()?;
    }
    let (config, mut route) = app.route(&names.model, caller)?;
    path.select_targets(&mut route, &names.model)?;
    route.session = find_named_session(&config.routing.affinity, context.headers, &caller.name);
    Ok(Passing {
        body,
        members,
        model: config,
        route,
        memory,
    })
}

fn settings(
    context: &RequestContext<'_>,
    path: &PassedPath,
    app: &App,
    members: &Members,
) -> PassSettings {
    let gateway: &Gateway = context.gateway;
    PassSettings {
        shutdown: gateway.shutdown.clone(),
        recycler: gateway.recycler.clone(),
        heartbeat: app.config.heartbeat,
        frame_cap: app.config.limits.frame,
        is_text: path.is_text,
        is_streamed: members.is_streamed,
        dialect: context.dialect,
        request_id: context.observation.request().clone(),
    }
}

fn upstream_headers(client: &HeaderMap) -> HeaderMap {
    let values = client.get_all(&BETA).iter();
    values.map(|value| (BETA, value.clone())).collect()
}

/// What the gateway reads of a body's members. The upstream checks them.
struct Members {
    is_streamed: bool,
    max_tokens: Option<u64>,
    /// How many answers are asked for.
    answers: u64,
    /// The names of those that are not null.
    names: Vec<String>,
}

impl Members {
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] for a body that is not an object.
    fn parse(body: &[u8]) -> Result<Self, Error> {
        let members: HashMap<String, &RawValue> =
            serde_json::from_slice(body).map_err(|error| {
                let problem = format!("the body must be a JSON object: {error}");
                Error::new(ErrorCode::InvalidRequest, problem)
            })?;
        let text = |name: &str| members.get(name).map(|value| value.get());
        let number =
            |name: &str| text(name).and_then(|text| serde_json::from_str::<u64>(text).ok());
        let answers = number("n").max(number("best_of")).unwrap_or(1).max(1);
        Ok(Self {
            is_streamed: text("stream") == Some("true"),
            max_tokens: number("max_tokens").or_else(|| number("max_output_tokens")),
            answers: answers.saturating_mul(text("prompt").map_or(1, count_prompts)),
            names: members
                .iter()
                .filter(|(_, value)| value.get() != "null")
                .map(|(name, _)| name.clone())
                .collect(),
        })
    }

    /// # Errors
    /// As [`dialect::check_routing`].
    fn check_routing(&self) -> Result<(), Error> {
        dialect::check_routing_members(self.names.iter().map(|name| (name.as_str(), false)))
    }

    /// What the request may cost. Only text that a model writes costs output tokens.
    fn estimate(&self, path: &PassedPath, bytes: usize, default_output: u64) -> Estimate {
        if !path.is_text {
            return Estimate::of_body(bytes, Some(0), 0);
        }
        let bound = self.max_tokens;
        let bound = bound.map(|bound| bound.saturating_mul(self.answers));
        Estimate::of_body(bytes, bound, default_output.saturating_mul(self.answers))
    }
}

/// How many prompts a legacy completion has: a list is one of tokens, or of prompts.
fn count_prompts(prompt: &str) -> u64 {
    let list = serde_json::from_str::<Vec<&RawValue>>(prompt).unwrap_or_default();
    match list.first() {
        Some(first) if first.get().starts_with(['"', '[']) => list.len() as u64,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_a_legacy_completion_are_counted() {
        for (body, answers) in [
            (r#"{"prompt":"a"}"#, 1),
            (r#"{"prompt":["a","b"],"n":2}"#, 4),
            (r#"{"prompt":[1,2,3],"best_of":3,"n":1}"#, 3),
            (r#"{"prompt":[[1],[2]]}"#, 2),
            (r#"{"prompt":[],"n":0}"#, 1),
            (r#"{"n":18446744073709551615,"prompt":["a","b"]}"#, u64::MAX),
        ] {
            let members = Members::parse(body.as_bytes()).unwrap();
            assert_eq!(members.answers, answers, "{body}");
        }
        assert!(Members::parse(b"[]").is_err());
        assert!(Members::parse(b"{").is_err());
    }

    #[test]
    fn every_path_is_one_of_version_1() {
        for path in PATHS {
            assert_eq!(format!("/v1{}", path.upstream_path()), path.path);
            assert!(path.dialect().wire().is_some(), "{}", path.path);
        }
    }
}
