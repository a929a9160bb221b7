//! `GET /v1/models`, in OpenAI's form: <https://platform.openai.com/docs/api-reference/models/list>.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::entry::Entry;

/// The models that the caller may use. A name with a `*` stands for many and is listed as it is.
pub(super) fn list(entry: &Entry) -> Response {
    let models: Vec<Value> = entry
        .app
        .config
        .models
        .iter()
        .filter(|model| entry.caller.may_use(&model.name))
        .map(|model| {
            json!({"id": model.name, "object": "model", "created": 0, "owned_by": "sluicegate"})
        })
        .collect();
    let mut response = Json(json!({"object": "list", "data": models})).into_response();
    entry.permit.limits().write(response.headers_mut());
    response
}
