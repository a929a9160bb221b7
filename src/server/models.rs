//! `GET /v1/models` and `GET /v1/models/{name}`, in OpenAI's form:
//! <https://platform.openai.com/docs/api-reference/models>.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::admission::Entry;
use super::refusal::Refusal;

/// The models that the caller may use. A name with a `*` stands for many and is listed as it is.
pub(super) fn list(entry: &Entry) -> Response {
    let models: Vec<Value> = entry
        .app
        .config
        .models
        .iter()
        .filter(|model| entry.caller.may_use(&model.name))
        .map(|model| described(&model.name))
        .collect();
    answer(entry, json!({"object": "list", "data": models}))
}

/// The model that a request for `name` would ask.
pub(super) fn find(entry: &Entry, name: &str) -> Result<Response, Refusal> {
    match entry.app.route(name, &entry.caller) {
        Ok(_) => Ok(answer(entry, described(name))),
        Err(error) => Err(Refusal::new(error, entry.permit.limits())),
    }
}

fn described(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "sluicegate"})
}

fn answer(entry: &Entry, body: Value) -> Response {
    let mut response = Json(body).into_response();
    entry.permit.limits().write(response.headers_mut());
    response
}
