//! `/v1/models` in the three forms that clients read.

use serde_json::{Value, json};
use sluicegate::fixture::Server;

use super::client::{Answer, ClientRequest};
use super::harness::TestGateway;
use super::keys::key;
use crate::fixture_server::{fast, serve};

/// Models `one`, `two`, `three` and `local/*` for `key-all`; `two` and `local/*` for `key-some`; one
/// request for `key-once`.
fn started() -> (Server, TestGateway) {
    let upstream = serve(&fast());
    let target = "{ targets: [ { upstream: a, model: text } ] }";
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}' }}\n\
         models:\n  one: {target}\n  two: {target}\n  three: {target}\n  'local/*': {target}\n\
         keys:\n{}{}{}",
        upstream.addr(),
        key("all", "key-all", ""),
        key("some", "key-some", ", models: [ two, 'local/*' ]"),
        key("once", "key-once", ", limits: { requests: 1/h }"),
    ));
    (upstream, running)
}

fn get(path: &str) -> ClientRequest {
    ClientRequest::new("GET", path)
}

fn anthropic(path: &str, key: &str) -> ClientRequest {
    get(path)
        .header("anthropic-version", "2023-06-01")
        .header("x-api-key", key)
}

async fn read(mut answer: Answer) -> Value {
    serde_json::from_slice(&answer.body().await).unwrap()
}

fn ids<'a>(list: &'a Value, models: &str, id: &str) -> Vec<&'a str> {
    let models = list[models].as_array().unwrap().iter();
    models.map(|model| model[id].as_str().unwrap()).collect()
}

#[tokio::test]
async fn anthropics_clients_get_pages_in_their_form() {
    let (_upstream, running) = started();
    let answer = running
        .ask(&anthropic("/v1/models?limit=2", "key-all"))
        .await;
    assert_eq!(answer.status(), 200);
    assert!(answer.has("request-id"), "{:?}", answer.head);
    let model = |id: &str| json!({"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z"});
    let page = json!({
        "data": [model("one"), model("two")],
        "has_more": true,
        "first_id": "one",
        "last_id": "two",
    });
    assert_eq!(read(answer).await, page);
    let next = "/v1/models?limit=2&after_id=two";
    let list = read(running.ask(&anthropic(next, "key-all")).await).await;
    assert_eq!(ids(&list, "data", "id"), ["three"]);
    assert_eq!(list["has_more"], false);
    let list = read(running.ask(&anthropic("/v1/models", "key-some")).await).await;
    assert_eq!(ids(&list, "data", "id"), ["two"]);
    let answer = running
        .ask(&anthropic("/v1/models?limit=0", "key-all"))
        .await;
    assert_eq!(answer.status(), 400);
    let error = read(answer).await;
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn codex_gets_its_catalog() {
    let (_upstream, running) = started();
    let asked = get("/v1/models?client_version=0.171.0").key("key-all");
    let list = read(running.ask(&asked).await).await;
    assert_eq!(ids(&list, "models", "slug"), ["one", "two", "three"]);
    // Without any of these Codex 0.171 ignores the list.
    for member in [
        "slug",
        "display_name",
        "supported_reasoning_levels",
        "shell_type",
        "visibility",
        "supported_in_api",
        "priority",
        "support_verbosity",
        "truncation_policy",
        "experimental_supported_tools",
        "base_instructions",
    ] {
        assert!(!list["models"][0][member].is_null(), "{member}");
    }
    let asked = get("/v1/models?client_version=0.171.0").key("key-some");
    let list = read(running.ask(&asked).await).await;
    assert_eq!(ids(&list, "models", "slug"), ["two"]);
}

#[tokio::test]
async fn one_model_is_found_in_the_clients_form() {
    let (_upstream, running) = started();
    let openai =
        json!({"id": "local/x", "object": "model", "created": 0, "owned_by": "sluicegate"});
    let asked = get("/v1/models/local/x").key("key-some");
    assert_eq!(read(running.ask(&asked).await).await, openai);
    let answer = running
        .ask(&anthropic("/v1/models/local%2Fx", "key-some"))
        .await;
    let model = read(answer).await;
    assert_eq!(
        (&model["type"], &model["id"]),
        (&json!("model"), &json!("local/x"))
    );
    for (name, key, status, kind) in [
        ("four", "key-all", 404, "not_found_error"),
        ("one", "key-some", 403, "permission_error"),
        ("one", "key-none", 401, "authentication_error"),
    ] {
        let path = format!("/v1/models/{name}");
        let mut answer = running.ask(&get(&path).key(key)).await;
        assert_eq!(answer.status(), status, "{name}");
        answer.error().await;
        let answer = running.ask(&anthropic(&path, key)).await;
        assert_eq!(answer.status(), status, "{name}");
        let error = read(answer).await;
        assert_eq!(error["type"], "error");
        assert_eq!(error["error"]["type"], kind, "{error}");
    }
}

#[tokio::test]
async fn lists_count_as_requests_and_answer_head() {
    let (_upstream, running) = started();
    let head = ClientRequest::new("HEAD", "/v1/models").key("key-all");
    assert_eq!(running.ask(&head).await.status(), 200);
    let answer = running.ask(&anthropic("/v1/models", "key-once")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "0");
    let asked = get("/v1/models?client_version=1").key("key-once");
    let answer = running.ask(&asked).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.has("retry-after"));
    assert_eq!(read(answer).await["error"]["type"], "rate_limit_error");
}
