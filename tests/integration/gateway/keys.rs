//! API keys over HTTP: which requests pass, and for which models.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluicegate::fixture::Server;

use super::client::{ClientRequest, outcome};
use super::harness::TestGateway;
use crate::fixture_server::{fast, serve};

/// A line of `keys`; `more` adds settings after a comma.
pub fn key(name: &str, key: &str, more: &str) -> String {
    let hash = Sha256::digest(key.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("  - {{ name: {name}, sha256: {hash}{more} }}\n")
}

/// Models `fast`, `slow` and `local/*` for the keys `everything`, and `some-models`.
fn guarded() -> (Server, TestGateway) {
    let upstream = serve(&fast());
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}', api_key: upstreams-own }}\n\
         models:\n  fast: {{ targets: [ {{ upstream: a, model: text }} ] }}\n  \
         slow: {{ targets: [ {{ upstream: a, model: text }} ] }}\n  \
         'local/*': {{ targets: [ {{ upstream: a, model: '*' }} ] }}\n\
         resume: {{ window: 0s }}\nkeys:\n{}{}",
        upstream.addr(),
        key("everything", "key-one", ""),
        key("some", "key-two", ", models: [ fast, 'local/*' ]"),
    ));
    (upstream, running)
}

#[tokio::test]
async fn without_a_valid_key_every_request_is_refused() {
    let (upstream, running) = guarded();
    let refused = [
        ClientRequest::prompt("fast"),
        ClientRequest::bytes("no JSON"),
        ClientRequest::bytes(""),
        ClientRequest::prompt("no such model"),
        ClientRequest::prompt("fast").key("key-wrong"),
        ClientRequest::prompt("fast").key(""),
        ClientRequest::prompt("fast").header("authorization", "Basic a2V5LW9uZQ=="),
        ClientRequest::prompt("fast").header("authorization", "key-one"),
        ClientRequest::prompt("fast").header("x-api-key", "key-onE"),
        ClientRequest::prompt("fast").header("x-api-key", ""),
        ClientRequest::prompt("fast").key("\u{e9}\u{e9}"),
        ClientRequest::prompt("fast").header("last-event-id", "st_aaaaaaaaaaaaaaaaaaaaaaaaaa.1"),
        ClientRequest::new("GET", "/v1/streams?model=fast&prompt=Hello&key=key-one"),
        ClientRequest::new("GET", "/v1/models"),
    ];
    for asked in &refused {
        let mut answer = running.ask(asked).await;
        assert_eq!(answer.status(), 401, "{asked:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        let error = answer.error().await;
        assert_eq!(error["code"], "unauthenticated");
        assert_eq!(error["origin"], "client");
    }
    assert_eq!(upstream.request_count(), 0);
    let count = "sluicegate_refusals_total{code=\"unauthenticated\"}";
    assert_eq!(running.metric(count).await, refused.len() as f64);
}

#[tokio::test]
async fn a_key_is_accepted_in_both_headers() {
    let (_upstream, running) = guarded();
    for asked in [
        ClientRequest::prompt("fast").key("key-one"),
        ClientRequest::prompt("fast").header("authorization", "bearer key-one"),
        ClientRequest::prompt("fast").header("x-api-key", "key-one"),
    ] {
        let mut answer = running.ask(&asked).await;
        assert_eq!(outcome(&answer.events().await), "");
    }
}

#[tokio::test]
async fn a_key_may_use_only_its_models() {
    let (upstream, running) = guarded();
    for (key, model, status, code) in [
        ("key-two", "fast", 200, ""),
        ("key-two", "local/text", 200, ""),
        ("key-two", "slow", 403, "forbidden"),
        ("key-two", "fast2", 403, "forbidden"),
        ("key-two", "unheard-of", 403, "forbidden"),
        ("key-two", "local/", 404, "not_found"),
        ("key-one", "slow", 200, ""),
        ("key-one", "unheard-of", 404, "not_found"),
        ("key-one", "FAST", 404, "not_found"),
    ] {
        let before = upstream.request_count();
        let mut answer = running.ask(&ClientRequest::prompt(model).key(key)).await;
        assert_eq!(answer.status(), status, "{key} {model}");
        if status == 200 {
            assert_eq!(outcome(&answer.events().await), code);
        } else {
            assert_eq!(answer.error().await["code"], code);
            assert_eq!(upstream.request_count(), before);
        }
    }
}

#[tokio::test]
async fn a_key_sees_only_its_models() {
    let (_upstream, running) = guarded();
    for (key, expected) in [
        ("key-one", json!(["fast", "slow", "local/*"])),
        ("key-two", json!(["fast", "local/*"])),
    ] {
        let asked = ClientRequest::new("GET", "/v1/models").key(key);
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("content-type"), "application/json");
        let body: Value = serde_json::from_slice(&answer.body().await).unwrap();
        assert_eq!(body["object"], "list");
        let models = body["data"].as_array().unwrap();
        for model in models {
            assert_eq!(model["object"], "model");
            assert!(model["created"].is_u64() && model["owned_by"].is_string());
        }
        let ids: Value = models.iter().map(|model| model["id"].clone()).collect();
        assert_eq!(ids, expected);
    }
}

#[tokio::test]
async fn no_client_header_is_sent_upstream() {
    let (upstream, running) = guarded();
    let asked = ClientRequest::prompt("fast")
        .key("key-one")
        .header("x-api-key", "key-two")
        .header("cookie", "session=1")
        .header("x-forwarded-for", "203.0.113.9")
        .header("origin", "https://app.example")
        .header("referer", "https://app.example/secret")
        .header("user-agent", "browser")
        .header("x-custom", "custom");
    running.ask(&asked).await.events().await;
    let recorded = &upstream.requests()[0];
    let mut names: Vec<_> = recorded.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ];
    assert_eq!(names, expected);
    assert_eq!(recorded.headers["authorization"], "Bearer upstreams-own");
    assert_eq!(recorded.headers["host"], upstream.addr().to_string());
    assert!(
        recorded.headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("sluicegate/")
    );
}

#[tokio::test]
async fn an_upstream_without_a_credential_gets_none() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asked = ClientRequest::prompt("m")
        .key("callers-key")
        .header("x-api-key", "callers-key");
    running.ask(&asked).await.events().await;
    let recorded = &upstream.requests()[0];
    assert!(!recorded.headers.contains_key("authorization"));
    assert!(!format!("{:?}", recorded.headers).contains("callers-key"));
}
