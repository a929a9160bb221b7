//! What is checked of a request's body, and in which order.

use serde_json::{Value, json};

use super::client::ClientRequest;
use super::harness::{TestGateway, targets};
use super::keys::key;
use super::scripted::ScriptedUpstream;
use crate::fixture_server::{fast, serve};

/// A small body for each path that takes a prompt.
fn prompts(model: &str) -> [(&'static str, Value); 5] {
    let turns = json!([{"role": "user", "content": "x"}]);
    let parts = json!([{"role": "user", "parts": [{"type": "text", "text": "x"}]}]);
    [
        ("/v1/streams", json!({"model": model, "prompt": "x"})),
        (
            "/v1/chat/completions",
            json!({"model": model, "messages": turns}),
        ),
        (
            "/v1/messages",
            json!({"model": model, "messages": turns, "max_tokens": 1}),
        ),
        ("/v1/responses", json!({"model": model, "input": "x"})),
        (
            "/v1/ui-messages",
            json!({"model": model, "messages": parts}),
        ),
    ]
}

#[tokio::test]
async fn the_model_is_checked_before_the_body_is_parsed() {
    let upstream = serve(&fast());
    let keys = format!("keys:\n{}", key("one", "key-one", ", models: [ m ]"));
    let running = TestGateway::start(&targets(&[upstream.addr()], &keys));
    for (path, mut body) in prompts("other") {
        // A parser would refuse the body.
        body["temperature"] = "warm".into();
        let request = ClientRequest::at(path, &body).key("key-one");
        assert_eq!(running.ask(&request).await.status(), 403, "{path}");
        body["model"] = "m".into();
        let request = ClientRequest::at(path, &body).key("key-one");
        assert_eq!(running.ask(&request).await.status(), 400, "{path}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn long_model_names_are_refused_by_name() {
    let upstream = serve(&fast());
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}/v1' }}\n\
         models:\n  '*': {{ targets: [ {{ upstream: a, model: text }} ] }}\n\
         resume: {{ window: 0s }}\n",
        upstream.addr()
    ));
    for (path, body) in prompts(&"a".repeat(257)) {
        let mut answer = running.ask(&ClientRequest::at(path, &body)).await;
        assert_eq!(answer.status(), 400, "{path}");
        let text = String::from_utf8(answer.body().await).unwrap();
        assert!(
            text.contains("model: must not be longer than 256 bytes"),
            "{text}"
        );
    }
    assert_eq!(upstream.request_count(), 0);
    for (path, body) in prompts(&"a".repeat(256)) {
        let answer = running.ask(&ClientRequest::at(path, &body)).await;
        assert_eq!(answer.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn bodies_with_too_many_values_are_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (path, body) in prompts("m") {
        let body = body.to_string();
        let values = "0,".repeat(300_000);
        let body = format!("{},\"unknown\":[{values}0]}}", body.trim_end_matches('}'));
        let body = match path {
            "/v1/ui-messages" | "/v1/chat/completions" | "/v1/messages" => body,
            _ => body.replace("\"unknown\"", "\"metadata\""),
        };
        let request = ClientRequest {
            path: path.to_owned(),
            ..ClientRequest::bytes(body)
        };
        let mut answer = running.ask(&request).await;
        assert_eq!(answer.status(), 400, "{path}");
        let text = String::from_utf8(answer.body().await).unwrap();
        assert!(text.contains("JSON values"), "{text}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn a_large_body_is_answered_like_a_small_one() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let body = json!({"model": "m", "prompt": "x".repeat(1024 * 1024)});
    assert_eq!(running.ask(&ClientRequest::json(&body)).await.status(), 200);
    let body = json!({"model": "m", "prompt": "x".repeat(1024 * 1024), "top_p": "x"});
    let mut answer = running.ask(&ClientRequest::json(&body)).await;
    assert_eq!(answer.status(), 400);
    let error = answer.error().await;
    assert!(error["message"].as_str().unwrap().starts_with("top_p"));
}

#[tokio::test]
async fn byte_order_marks_and_lone_surrogates_are_accepted() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let body = "\u{feff}{\"model\":\"m\",\"prompt\":\"a\\ud83d\"}";
    let request = ClientRequest::bytes(body);
    let answering = async {
        let exchange = upstream.request().await;
        let sent: Value = serde_json::from_slice(&exchange.body).unwrap();
        assert_eq!(sent["messages"][0]["content"], "a\u{fffd}");
    };
    tokio::join!(running.ask(&request), answering);
}

/// Members that choose another model or provider at the upstream.
#[tokio::test]
async fn keys_with_a_list_of_models_cannot_choose_others_upstream() {
    let upstream = serve(&fast());
    let keys = format!(
        "keys:\n{}{}",
        key("all", "key-all", ""),
        key("some", "key-some", ", models: [ m ]"),
    );
    let running = TestGateway::start(&targets(&[upstream.addr()], &keys));
    for name in ["models", "route", "provider", "fallbacks", "preset"] {
        let (path, mut body) = prompts("m")[1].clone();
        body[name] = json!("x");
        let request = ClientRequest::at(path, &body);
        let mut answer = running.ask(&request.clone().key("key-some")).await;
        assert_eq!(answer.status(), 400, "{name}");
        let text = String::from_utf8(answer.body().await).unwrap();
        assert!(text.contains(&format!("\"param\":\"{name}\"")), "{text}");
        assert_eq!(running.ask(&request.key("key-all")).await.status(), 200);
        let extra = json!({"model": "m", "prompt": "x", "extra": {name: "x"}});
        let answer = running
            .ask(&ClientRequest::json(&extra).key("key-all"))
            .await;
        assert_eq!(answer.status(), 400, "{name}");
    }
}

/// A budget of tokens counts what an upstream gets, whatever member it is in.
#[tokio::test]
async fn members_that_go_upstream_count_against_the_budget() {
    let upstream = serve(&fast());
    let keys = format!(
        "keys:\n{}",
        key("one", "key-one", ", limits: { tokens: 2000/min }")
    );
    let running = TestGateway::start(&targets(&[upstream.addr()], &keys));
    let words = "word ".repeat(4000);
    let turns = json!([{"role": "user", "content": "x"}]);
    for (path, body) in [
        (
            "/v1/streams",
            json!({"model": "m", "prompt": "x", "max_tokens": 1, "extra": {"documents": [words]}}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": turns, "max_tokens": 1, "documents": [words]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": turns, "max_tokens": 500, "n": 8}),
        ),
    ] {
        let mut answer = running
            .ask(&ClientRequest::at(path, &body).key("key-one"))
            .await;
        // More than the whole budget, so waiting does not help.
        assert_eq!(answer.status(), 400, "{body}");
        let body = String::from_utf8(answer.body().await).unwrap();
        assert!(body.contains("may use 2000 at most"), "{body}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn members_that_the_gateway_decides_or_counts_are_refused_in_every_dialect() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (path, name, value) in [
        ("/v1/chat/completions", "prompt", json!("more")),
        ("/v1/chat/completions", "max_output_tokens", json!(100_000)),
        ("/v1/chat/completions", "best_of", json!(8)),
        ("/v1/messages", "max_completion_tokens", json!(100_000)),
        ("/v1/messages", "input", json!("more")),
        ("/v1/messages", "n", json!(8)),
        ("/v1/responses", "messages", json!([])),
        ("/v1/responses", "max_tokens", json!(100_000)),
    ] {
        let prompts = prompts("m");
        let found = prompts.iter().find(|(at, _)| *at == path);
        let (_, mut body) = found.unwrap().clone();
        body[name] = value;
        let mut answer = running.ask(&ClientRequest::at(path, &body)).await;
        assert_eq!(answer.status(), 400, "{path} {name}");
        let text = String::from_utf8(answer.body().await).unwrap();
        assert!(text.contains(&format!("{name}: cannot be set")), "{text}");
    }
    assert_eq!(upstream.request_count(), 0);
}
