//! `GET /v1/models` and `GET /v1/models/{name}`, in the form that the client reads: OpenAI's,
//! Anthropic's or Codex's.

mod anthropic;
mod codex;

use std::collections::HashMap;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use serde_json::{Value, json};

use super::admission::Admitted;
use super::refusal::Refusal;
use crate::dialect::{self, Dialect, NATIVE};
use crate::model::Error;

/// A list or an entry of it, as one family of clients reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// <https://platform.openai.com/docs/api-reference/models>
    Openai,
    Anthropic,
    Codex,
}

impl Form {
    /// The form that a client expects: Anthropic's SDKs name their version in a header, Codex its own in
    /// the query.
    pub(super) fn of(headers: &HeaderMap, query: &HashMap<String, String>) -> Self {
        if headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else if query.contains_key("client_version") {
            Self::Codex
        } else {
            Self::Openai
        }
    }

    /// In whose form errors are.
    pub(super) fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::Openai => NATIVE,
            Self::Anthropic => dialect::at("/v1/messages"),
            Self::Codex => dialect::at("/v1/responses"),
        }
    }
}

/// The models that the caller may use. A name with a `*` stands for many models: OpenAI's form lists it
/// as written, the two others, from which users pick a model, leave it out.
pub(super) fn list(
    admitted: &Admitted,
    form: Form,
    query: &HashMap<String, String>,
) -> Result<Response, Refusal> {
    let models = admitted.app.config.models.iter();
    let models = models.filter(|model| admitted.caller.may_use(&model.name));
    let mut names: Vec<&str> = models.map(|model| model.name.as_str()).collect();
    if form != Form::Openai {
        names.retain(|name| !name.contains('*'));
    }
    let list = match form {
        Form::Openai => {
            let entries: Vec<Value> = names.into_iter().map(openai_model).collect();
            json!({"object": "list", "data": entries})
        }
        Form::Anthropic => {
            anthropic::list(&names, query).map_err(|error| refusal(admitted, error))?
        }
        Form::Codex => codex::list(&names),
    };
    Ok(respond(admitted, list))
}

/// The model that would answer a request for `name`.
pub(super) fn find(admitted: &Admitted, form: Form, name: &str) -> Result<Response, Refusal> {
    let route = admitted.app.route(name, &admitted.caller);
    route.map_err(|error| refusal(admitted, error))?;
    let model = match form {
        Form::Anthropic => anthropic::model(name),
        Form::Openai | Form::Codex => openai_model(name),
    };
    Ok(respond(admitted, model))
}

fn openai_model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "sluicegate"})
}

fn refusal(admitted: &Admitted, error: Error) -> Refusal {
    Refusal::new(error, admitted.permit.limits())
}

fn respond(admitted: &Admitted, body: Value) -> Response {
    let mut response = Json(body).into_response();
    admitted.permit.limits().write(response.headers_mut());
    response
}
