//! How many tokens a prompt has: asked of the upstream, or estimated.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::{Answer, ClientRequest};
use super::harness::TestGateway;
use super::keys::key;
use super::scripted::{Exchange, ScriptedUpstream};
use crate::fixture_server::{fast, serve};

const MESSAGES: &str = "/v1/messages/count_tokens";
const RESPONSES: &str = "/v1/responses/input_tokens";

/// The model `m` with these targets, in this order, each as a wire and an address.
fn gateway(targets: &[(&str, SocketAddr)], settings: &str) -> TestGateway {
    let numbered = || targets.iter().enumerate();
    let upstreams: String = numbered()
        .map(|(at, (wire, addr))| {
            let region = if wire.starts_with("bedrock") { ", region: eu-west-1" } else { "" };
            format!(
                "  u{at}: {{ wire: {wire}, base_url: 'http://{addr}', api_key: upstreams-own{region} }}\n"
            )
        })
        .collect();
    let targets: Vec<String> = numbered()
        .map(|(at, _)| format!("{{ upstream: u{at}, model: real, priority: {at} }}"))
        .collect();
    let targets = targets.join(", ");
    TestGateway::start(&format!(
        "upstreams:\n{upstreams}models:\n  m: {{ targets: [ {targets} ], retry: off }}\n{settings}\n"
    ))
}

fn messages() -> ClientRequest {
    let turns = json!([{"role": "user", "content": "Hello there, how are you today?"}]);
    ClientRequest::at(MESSAGES, &json!({"model": "m", "messages": turns}))
}

async fn read(mut answer: Answer) -> Value {
    serde_json::from_slice(&answer.body().await).unwrap()
}

fn sent(exchange: &Exchange) -> (&str, Value) {
    let line = exchange.head.lines().next().unwrap();
    let path = line.split(' ').nth(1).unwrap();
    (path, serde_json::from_slice(&exchange.body).unwrap())
}

#[tokio::test]
async fn a_client_of_the_upstreams_protocol_asks_in_its_own_words() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("anthropic-messages", upstream.addr())], "");
    let body = r#"{"messages": [{"role":"user","content":"Hi"}], "new_member":1.0,"model":"m"}"#;
    let asked = ClientRequest::bytes(body).header("anthropic-beta", "some-beta-2026");
    let asked = ClientRequest {
        path: format!("{MESSAGES}?beta=true"),
        ..asked
    };
    let (answer, ()) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        let expected =
            r#"{"messages":[{"role":"user","content":"Hi"}],"new_member":1.0,"model":"real"}"#;
        assert_eq!(exchange.body, expected.as_bytes());
        for header in [
            "post /v1/messages/count_tokens http/1.1",
            "anthropic-beta: some-beta-2026",
            "anthropic-version: 2023-06-01",
            "x-api-key: upstreams-own",
        ] {
            assert!(exchange.head.contains(header), "{}", exchange.head);
        }
        exchange
            .answer(200, "", r#"{"input_tokens":7,"x":1}"#)
            .await;
    });
    assert_eq!(answer.status(), 200);
    assert!(!answer.has("x-sluicegate-estimated"));
    assert_eq!(read(answer).await, json!({"input_tokens": 7}));
    let counts = "sluicegate_token_counts_total{source=\"upstream\"}";
    assert_eq!(running.metric(counts).await, 1.0);
    assert_eq!(running.metric("sluicegate_open_streams").await, 0.0);
}

#[tokio::test]
async fn every_wire_that_counts_is_asked_in_its_form() {
    let turn = json!({"role": "user", "content": "Hi"});
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let body = json!({"model": "m", "system": "Be brief", "messages": [turn], "tools": [tool]});
    let from_messages = ClientRequest::at(MESSAGES, &body);
    let body = json!({"model": "m", "input": "Hi", "max_output_tokens": 99, "temperature": 1});
    let from_responses = ClientRequest::at(RESPONSES, &body);
    for (wire, asked, path, members, answer) in [
        (
            "gemini",
            &from_messages,
            "/v1beta/models/real:counttokens",
            &["generateContentRequest"][..],
            json!({"totalTokens": 12}),
        ),
        (
            "bedrock-converse",
            &from_messages,
            "/model/real/count-tokens",
            &["input"],
            json!({"inputTokens": 12}),
        ),
        (
            "openai-responses",
            &from_messages,
            "/responses/input_tokens",
            &["model", "input", "tools"],
            json!({"object": "response.input_tokens", "input_tokens": 12}),
        ),
        (
            "anthropic-messages",
            &from_responses,
            "/v1/messages/count_tokens",
            &["model", "messages"],
            json!({"input_tokens": 12}),
        ),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[(wire, upstream.addr())], "");
        let (client, body) = tokio::join!(running.ask(asked), async {
            let mut exchange = upstream.request().await;
            let (asked_path, body) = sent(&exchange);
            assert_eq!(asked_path, path);
            exchange.answer(200, "", &answer.to_string()).await;
            body
        });
        let mut names: Vec<_> = body
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        names.retain(|name| *name != "instructions");
        names.sort_unstable();
        let mut members = members.to_vec();
        members.sort_unstable();
        assert_eq!(names, members, "{wire}: {body}");
        match wire {
            "gemini" => {
                let request = &body["generateContentRequest"];
                assert_eq!(request["model"], "models/real");
                assert!(request["contents"].is_array() && request["tools"].is_array());
            }
            "bedrock-converse" => {
                let request = body["input"]["converse"].as_object().unwrap();
                let names: Vec<_> = request.keys().map(String::as_str).collect();
                for name in names {
                    assert!(
                        ["messages", "system", "toolConfig"].contains(&name),
                        "{body}"
                    );
                }
            }
            _ => assert_eq!(body["model"], "real"),
        }
        assert_eq!(client.status(), 200, "{wire}");
        assert!(!client.has("x-sluicegate-estimated"));
        assert_eq!(read(client).await["input_tokens"], 12);
    }
}

/// As Codex sends it: what is counted is what would be sent.
#[tokio::test]
async fn a_request_that_must_be_adapted_is_counted() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("gemini", upstream.addr())], "");
    let function = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let tools = json!([
        {"type": "namespace", "name": "mcp__x", "description": "x", "tools": [function]},
        {"type": "web_search"},
    ]);
    let asked = ClientRequest::at(
        RESPONSES,
        &json!({"model": "m", "input": "Hi", "tools": tools}),
    );
    let (answer, body) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        let (_, body) = sent(&exchange);
        exchange.answer(200, "", r#"{"totalTokens":9}"#).await;
        body
    });
    assert_eq!(read(answer).await["input_tokens"], 9);
    let tools = &body["generateContentRequest"]["tools"][0]["functionDeclarations"];
    assert_eq!(tools.as_array().map(Vec::len), Some(1), "{body}");
}

#[tokio::test]
async fn what_no_upstream_counts_is_estimated() {
    let upstream = serve(&fast());
    for wire in [
        "openai-chat",
        "ollama-chat",
        "cohere-chat",
        "anthropic-messages",
    ] {
        // The fixture server answers 404 to the last one.
        let running = gateway(&[(wire, upstream.addr())], "");
        let answer = running.ask(&messages()).await;
        assert_eq!(answer.status(), 200, "{wire}");
        assert_eq!(answer.header("x-sluicegate-estimated"), "true");
        // 31 bytes at four a token, and four for the message.
        assert_eq!(read(answer).await, json!({"input_tokens": 12}));
    }
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    let asked = ClientRequest::at(RESPONSES, &json!({"model": "m", "input": "Hello you"}));
    let answer = running.ask(&asked).await;
    assert_eq!(answer.header("x-sluicegate-estimated"), "true");
    let count = json!({"object": "response.input_tokens", "input_tokens": 7});
    assert_eq!(read(answer).await, count);
    let counts = "sluicegate_token_counts_total{source=\"estimate\"}";
    assert_eq!(running.metric(counts).await, 1.0);
}

#[tokio::test]
async fn the_next_target_is_asked_and_then_the_estimate_answers() {
    let (first, second) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let targets = [
        ("anthropic-messages", first.addr()),
        ("gemini", second.addr()),
    ];
    let running = gateway(&targets, "");
    for (status, body) in [
        (500, "{}"),
        (405, "{}"),
        (429, "{}"),
        (401, "{}"),
        (200, "{}"),
        (200, r#"{"input_tokens":"7"}"#),
        (200, "no JSON"),
    ] {
        let asked = messages();
        let (answer, ()) = tokio::join!(running.ask(&asked), async {
            first.request().await.answer(status, "", body).await;
            let count = r#"{"totalTokens":5}"#;
            second.request().await.answer(200, "", count).await;
        });
        assert_eq!(answer.status(), 200, "{status} {body}");
        assert_eq!(read(answer).await, json!({"input_tokens": 5}));
    }
    let asked = messages();
    let (answer, ()) = tokio::join!(running.ask(&asked), async {
        first.request().await.answer(529, "", "{}").await;
        // A refusal of a request that the gateway wrote is not the client's business.
        second.request().await.answer(400, "", "{}").await;
    });
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("x-sluicegate-estimated"), "true");
}

#[tokio::test]
async fn a_silent_upstream_does_not_hold_the_count_up() {
    let upstream = ScriptedUpstream::bind().await;
    let targets = [("anthropic-messages", upstream.addr())];
    let running = gateway(&targets, "timeouts: { first_token: 50ms }");
    let answer = running.ask(&messages()).await;
    assert_eq!(answer.header("x-sluicegate-estimated"), "true");
    // The gateway closed the connection.
    upstream.request().await.closed().await;
}

#[tokio::test]
async fn the_vendors_refusal_reaches_a_client_of_its_protocol() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("anthropic-messages", upstream.addr())], "");
    let words = r#"{"type":"error","error":{"type":"invalid_request_error","message":"tools.0: Extra inputs are not permitted"}}"#;
    let asked = messages();
    let (mut answer, ()) = tokio::join!(running.ask(&asked), async {
        upstream.request().await.answer(400, "", words).await;
    });
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.body().await, words.as_bytes());
}

#[tokio::test]
async fn counts_are_refused_as_other_requests_are() {
    let upstream = serve(&fast());
    let settings = format!(
        "limits: {{ body: 1KiB, streams: 1 }}\nkeys:\n{}{}{}",
        key(
            "one",
            "key-one",
            ", models: [ m ], limits: { tokens: 1/h, streams: 1 }"
        ),
        key("other", "key-other", ", models: [ n ]"),
        key("once", "key-once", ", limits: { requests: 1/h }"),
    );
    let running = gateway(&[("openai-chat", upstream.addr())], &settings);
    let with_model = |model: &str| {
        let turns = json!([{"role": "user", "content": "Hi"}]);
        ClientRequest::at(MESSAGES, &json!({"model": model, "messages": turns}))
    };
    let large = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(1024)}]});
    for (asked, status, kind) in [
        (messages(), 401, "authentication_error"),
        (messages().key("nobody"), 401, "authentication_error"),
        (messages().key("key-other"), 403, "permission_error"),
        (
            with_model("unknown").key("key-once"),
            404,
            "not_found_error",
        ),
        (messages().key("key-once"), 429, "rate_limit_error"),
        (
            ClientRequest::at(MESSAGES, &large).key("key-one"),
            413,
            "request_too_large",
        ),
        (
            ClientRequest::at(MESSAGES, &json!({"model": "m"})).key("key-one"),
            400,
            "invalid_request_error",
        ),
        (
            ClientRequest::at(MESSAGES, &json!([])).key("key-one"),
            400,
            "invalid_request_error",
        ),
    ] {
        let answer = running.ask(&asked).await;
        assert_eq!(answer.status(), status, "{asked:?}");
        let error = read(answer).await;
        assert_eq!(error["error"]["type"], kind, "{error}");
    }
    // More tokens than the key has, and more often than it may open streams.
    for _ in 0..3 {
        let answer = running.ask(&messages().key("key-one")).await;
        assert_eq!(answer.status(), 200);
    }
    let get = ClientRequest::new("GET", MESSAGES).key("key-one");
    assert_eq!(running.ask(&get).await.status(), 405);
    assert_eq!(upstream.request_count(), 0);
}
