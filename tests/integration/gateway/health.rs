//! What is known of a target decides whether it is asked: for counts, and for models that only clients name.

use serde_json::{Value, json};

use super::client::ClientRequest;
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream};

/// Two targets, the first one before the second, whose breakers open with one failure.
fn gateway(name: &str, wire: &str, model: &str, upstreams: [&ScriptedUpstream; 2]) -> TestGateway {
    let [a, b] = upstreams.map(|upstream| {
        let addr = upstream.addr();
        format!("{{ wire: {wire}, base_url: 'http://{addr}', api_key: upstreams-own }}")
    });
    TestGateway::start(&format!(
        "upstreams:\n  a: {a}\n  b: {b}\n\
         models:\n  '{name}':\n    targets:\n\
         \x20     - {{ upstream: a, model: '{model}', priority: 0 }}\n\
         \x20     - {{ upstream: b, model: '{model}', priority: 1 }}\n\
         \x20   retry: off\n    breaker: {{ failures: 1, open: 60s }}\n"
    ))
}

async fn succeed(mut exchange: Exchange) {
    exchange.begin().await;
    exchange.token("Hello").await;
    exchange.finish().await;
}

#[tokio::test]
async fn a_count_is_asked_of_targets_that_are_well() {
    let (a, b) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = gateway("m", "anthropic-messages", "real", [&a, &b]);
    let turns = json!([{"role": "user", "content": "Hi"}]);
    let body = json!({"model": "m", "messages": turns});
    let count = ClientRequest::at("/v1/messages/count_tokens", &body);
    let prompt = ClientRequest::prompt("m");
    // Then the breaker of `a` is open, and `b` rests.
    tokio::join!(running.ask(&prompt), async {
        a.request().await.answer(500, "", "{}").await;
        b.request()
            .await
            .answer(429, "retry-after: 60\r\n", "{}")
            .await;
    });
    let (mut answer, ()) = tokio::join!(running.ask(&count), async {
        let count = r#"{"input_tokens":7}"#;
        b.request().await.answer(200, "", count).await;
    });
    let counted: Value = serde_json::from_slice(&answer.body().await).unwrap();
    assert_eq!(counted, json!({"input_tokens": 7}));
    assert!(!a.was_asked_again());
}

#[tokio::test]
async fn a_model_that_only_clients_name_has_a_breaker_of_its_own_once_it_has_answered() {
    let (a, b) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = gateway("x/*", "openai-chat", "real-*", [&a, &b]);
    let prompt = |model: &str| ClientRequest::prompt(model);
    let (good, bad, other) = (prompt("x/good"), prompt("x/bad"), prompt("x/other"));
    let (answer, ()) = tokio::join!(running.ask(&good), async {
        succeed(a.request().await).await;
    });
    assert_eq!(answer.header("x-sluicegate-attempts"), "a/real-good=ok");
    let (answer, ()) = tokio::join!(running.ask(&bad), async {
        a.request().await.answer(500, "", "{}").await;
        succeed(b.request().await).await;
    });
    let attempts = answer.header("x-sluicegate-attempts");
    assert_eq!(attempts, "a/real-bad=500,b/real-bad=ok");
    // One that has not answered either shares the breaker of `bad`.
    let (answer, ()) = tokio::join!(running.ask(&other), async {
        succeed(b.request().await).await;
    });
    let attempts = answer.header("x-sluicegate-attempts");
    assert_eq!(attempts, "a/real-other=open,b/real-other=ok");
    let (answer, ()) = tokio::join!(running.ask(&good), async {
        succeed(a.request().await).await;
    });
    assert_eq!(answer.header("x-sluicegate-attempts"), "a/real-good=ok");
    let state = async |model| {
        let series = format!("sluicegate_breaker_state{{model=\"{model}\",upstream=\"a\"}}");
        running.metric(&series).await
    };
    assert_eq!(state("real-*").await, 2.0);
    assert_eq!(state("real-good").await, 0.0);
}
