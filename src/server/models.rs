//! `GET /v1/models` and `GET /v1/models/{name}`, in OpenAI's form:
//! <https://platform.openai.com/docs/api-reference/models>.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::admission::Admitted;
use super::refusal::Refusal;

/// The models that the caller may use. A name with a `*` stands for many models and is listed as
/// written.
pub(super) fn list(admitted: &Admitted) -> Response {
    let models: Vec<Value> = admitted
        .app
        .config
        .models
        .iter()
        .filter(|model| admitted.caller.may_use(&model.name))
        .map(|model| model_object(&model.name))
        .collect();
    respond(admitted, json!({"object": "list", "data": models}))
}

/// The model that would answer a request for `name`.
pub(super) fn find(admitted: &Admitted, name: &str) -> Result<Response, Refusal> {
    match admitted.app.route(name, &admitted.caller) {
        Ok(_) => Ok(respond(admitted, model_object(name))),
        Err(error) => Err(Refusal::new(error, admitted.permit.limits())),
    }
}

fn model_object(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "sluicegate"})
}

fn respond(admitted: &Admitted, body: Value) -> Response {
    let mut response = Json(body).into_response();
    admitted.permit.limits().write(response.headers_mut());
    response
}
