//! Requests that go to the upstream as the client wrote them: embeddings, legacy completions, images,
//! audio and their like.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::{Answer, ClientRequest};
use super::harness::TestGateway;
use super::keys::key;
use super::scripted::{Exchange, ScriptedUpstream};

const PATHS: [&str; 6] = [
    "/v1/audio/speech",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/images/generations",
    "/v1/moderations",
    "/v1/rerank",
];

/// The model `m` with these targets, in this order, each as a wire and an address.
fn gateway(targets: &[(&str, SocketAddr)], settings: &str) -> TestGateway {
    let numbered = || targets.iter().enumerate();
    let upstreams: String = numbered()
        .map(|(at, (wire, addr))| {
            let base_url = format!("http://{addr}/v1");
            format!("  u{at}: {{ wire: {wire}, base_url: '{base_url}', api_key: upstreams-own }}\n")
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

fn embeddings() -> ClientRequest {
    ClientRequest::at("/v1/embeddings", &json!({"model": "m", "input": "Hi"}))
}

fn completions() -> ClientRequest {
    let body = json!({"model": "m", "prompt": "Hi", "stream": true, "max_tokens": 16});
    ClientRequest::at("/v1/completions", &body)
}

async fn error(mut answer: Answer) -> Value {
    let body = answer.body().await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert!(body["error"]["message"].is_string(), "{body}");
    assert!(body["error"]["type"].is_string(), "{body}");
    body["error"].clone()
}

/// The text of an answer up to its clean end.
async fn text(answer: &mut Answer) -> String {
    if answer.has("content-length") {
        return String::from_utf8(answer.body().await).unwrap();
    }
    let mut text = String::new();
    while let Some(chunk) = answer.chunk().await {
        text.push_str(&chunk);
    }
    text
}

fn text_chunk(text: &str, finish: &str) -> String {
    let finish = Some(finish).filter(|finish| !finish.is_empty());
    let chunk = json!({"object": "text_completion", "choices": [
        {"index": 0, "text": text, "finish_reason": finish}
    ]});
    format!("data: {chunk}\n\n")
}

async fn answer_json(exchange: &mut Exchange, body: &str) {
    let headers = "content-type: application/json\r\nx-vendor: 1\r\n\
                   x-ratelimit-remaining-images: 7\r\n";
    exchange.answer(200, headers, body).await;
}

#[tokio::test]
async fn every_path_passes_a_request_and_its_answer() {
    for (wire, prefix) in [("openai-chat", ""), ("openai-responses", "/openai")] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[(wire, upstream.addr())], "");
        for path in PATHS {
            let body = r#"{"x": [1.0, {"model":"m"}], "model" : "m","user":null}"#;
            let asked = ClientRequest::bytes(body).header("openai-beta", "b=1");
            let asked = ClientRequest {
                path: format!("{prefix}{path}/"),
                ..asked.key("clients-own")
            };
            let answered = r#"{"model": "real-1",  "x": 1.0}"#;
            let (mut answer, ()) = tokio::join!(running.ask(&asked), async {
                let mut exchange = upstream.request().await;
                let expected = r#"{"x":[1.0, {"model":"m"}],"model":"real","user":null}"#;
                assert_eq!(String::from_utf8_lossy(&exchange.body), expected);
                let head = &exchange.head;
                assert!(
                    head.starts_with(&format!("post {path} http/1.1\r\n")),
                    "{head}"
                );
                assert!(
                    head.contains("authorization: bearer upstreams-own\r\n"),
                    "{head}"
                );
                assert!(head.contains("openai-beta: b=1\r\n"), "{head}");
                assert!(!head.contains("clients-own"));
                answer_json(&mut exchange, answered).await;
            });
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.header("content-type"), "application/json");
            assert!(answer.has("x-request-id") && !answer.has("x-vendor"));
            assert_eq!(answer.header("x-ratelimit-remaining-images"), "7");
            assert_eq!(answer.body().await, answered.as_bytes());
        }
    }
}

#[tokio::test]
async fn an_answer_without_content_has_no_body() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    let asked = embeddings();
    let (answer, ()) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange
            .write("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            .await;
    });
    assert_eq!(answer.status(), 204);
    assert!(!answer.has("transfer-encoding"), "{:?}", answer.head);
}

#[tokio::test]
async fn audio_is_streamed_through() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    let body = json!({"model": "m", "input": "Hi", "voice": "alloy"});
    let asked = ClientRequest::at("/v1/audio/speech", &body);
    let (mut answer, mut exchange) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\
                    transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        exchange.write(head).await;
        exchange.chunk("\u{1}first").await;
        exchange
    });
    assert_eq!(answer.header("content-type"), "audio/mpeg");
    assert_eq!(answer.chunk().await.as_deref(), Some("\u{1}first"));
    exchange.chunk("second\0").await;
    assert_eq!(answer.chunk().await.as_deref(), Some("second\0"));
    exchange.end().await;
    assert_eq!(answer.chunk().await, None);
    running.wait_idle().await;
    let count = "sluicegate_requests_total{dialect=\"speech\",model=\"m\",outcome=\"complete\"}";
    assert_eq!(running.metric(count).await, 1.0);
}

#[tokio::test]
async fn an_answer_that_breaks_has_no_clean_end() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    let asked = embeddings();
    let (answer, ()) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n";
        exchange.write(format!("{head}{{\"data\":[")).await;
    });
    assert_eq!(answer.status(), 200);
    let mut client = answer.into_client();
    assert_eq!(
        client.chunk().await.unwrap().as_deref(),
        Some(&b"{\"data\":["[..])
    );
    assert!(client.chunk().await.is_err());
    running.wait_idle().await;
    let count = "sluicegate_requests_total{dialect=\"embeddings\",model=\"m\",outcome=\"stream_interrupted\"}";
    assert_eq!(running.metric(count).await, 1.0);
}

#[tokio::test]
async fn a_streamed_completion_ends_with_its_own_end_or_an_error_event() {
    let begin = text_chunk("Hel", "");
    let done = "data: [DONE]\n\n";
    for (rest, whole) in [
        (format!("{}{done}", text_chunk("lo", "stop")), true),
        (text_chunk("lo", "length"), true),
        (done.to_owned(), true),
        (text_chunk("lo", ""), false),
        (String::new(), false),
        ("data: {\"choices\":[{\"index\":0,\"te".to_owned(), false),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[("openai-chat", upstream.addr())], "");
        let asked = completions();
        let (mut answer, mut exchange) = tokio::join!(running.ask(&asked), async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.chunk(&begin).await;
            exchange
        });
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(answer.header("x-accel-buffering"), "no");
        assert_eq!(answer.chunk().await.as_deref(), Some(begin.as_str()));
        if !rest.is_empty() {
            exchange.chunk(&rest).await;
        }
        exchange.try_end().await;
        let rest_read = text(&mut answer).await;
        if whole {
            assert_eq!(rest_read, rest);
            continue;
        }
        let last = rest_read.trim_end().rsplit("data: ").next().unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["error"]["code"], "stream_interrupted", "{rest_read}");
        assert!(!rest_read.contains("[DONE]"));
    }
}

#[tokio::test]
async fn a_silent_stream_gets_heartbeats_and_ends_at_its_deadline() {
    let upstream = ScriptedUpstream::bind().await;
    let settings = "heartbeat: 20ms\ntimeouts: { idle: 200ms }";
    let running = gateway(&[("openai-chat", upstream.addr())], settings);
    let asked = completions();
    let (mut answer, exchange) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(text_chunk("a", "")).await;
        exchange
    });
    let all = text(&mut answer).await;
    assert!(all.contains("\n\n:"), "{all}");
    assert!(all.contains("stream_stalled"), "{all}");
    exchange.closed().await;
}

#[tokio::test]
async fn the_total_deadline_holds_before_and_after_the_first_byte() {
    let upstream = ScriptedUpstream::bind().await;
    let settings = "timeouts: { total: 300ms }";
    let running = gateway(&[("openai-chat", upstream.addr())], settings);
    let asked = embeddings();
    let (answer, exchange) = tokio::join!(running.ask(&asked), upstream.request());
    assert_eq!(answer.status(), 504);
    assert_eq!(error(answer).await["code"], "upstream_timeout");
    exchange.closed().await;
    let asked = completions();
    let (mut answer, exchange) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(text_chunk("a", "")).await;
        exchange
    });
    let all = text(&mut answer).await;
    assert!(all.contains("stream_too_long"), "{all}");
    exchange.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_upstream() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    let asked = completions();
    let (answer, exchange) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(text_chunk("a", "")).await;
        exchange
    });
    drop(answer);
    exchange.closed().await;
    running.wait_idle().await;
    let count =
        "sluicegate_requests_total{dialect=\"completions\",model=\"m\",outcome=\"cancelled\"}";
    assert_eq!(running.metric(count).await, 1.0);
}

#[tokio::test]
async fn the_next_target_is_tried_before_the_first_byte() {
    let (first, second) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let other = ScriptedUpstream::bind().await;
    let targets = [
        ("openai-chat", first.addr()),
        ("gemini", other.addr()),
        ("openai-chat", second.addr()),
    ];
    for fault in ["500", "429", "401", "404", "empty", "cut", "silent"] {
        // A target that fails rests, or is not asked any more.
        let running = gateway(&targets, "timeouts: { first_token: 200ms }");
        let asked = embeddings();
        let (mut answer, _open) = tokio::join!(running.ask(&asked), async {
            let mut exchange = first.request().await;
            match fault {
                "empty" => exchange.answer(200, "", "").await,
                "cut" => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\n";
                    exchange.write(head).await;
                }
                "silent" => {}
                status => exchange.answer(status.parse().unwrap(), "", "{}").await,
            }
            let open = (fault == "silent").then_some(exchange);
            answer_json(&mut second.request().await, "{}").await;
            open
        });
        assert_eq!(answer.status(), 200, "{fault}");
        assert_eq!(text(&mut answer).await, "{}");
    }
    assert!(!other.was_asked_again());
}

#[tokio::test]
async fn the_vendors_refusal_reaches_the_client() {
    for wire in ["openai-chat", "openai-responses"] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[(wire, upstream.addr())], "");
        let words =
            r#"{"error":{"message":"input is too long, key upstreams-own","type":"x","new":1}}"#;
        let headers =
            "content-type: application/json\r\nretry-after: 7\r\nx-should-retry: true\r\n";
        for status in [400, 429, 503] {
            let asked = embeddings();
            let (mut answer, ()) = tokio::join!(running.ask(&asked), async {
                upstream
                    .request()
                    .await
                    .answer(status, headers, words)
                    .await;
            });
            assert_eq!(answer.status(), status);
            assert_eq!(answer.header("retry-after"), "7");
            assert_eq!(answer.header("x-should-retry"), "true");
            let body = String::from_utf8(answer.body().await).unwrap();
            assert!(!body.contains("upstreams-own"), "{body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["new"], 1);
        }
        let asked = embeddings();
        let (answer, ()) = tokio::join!(running.ask(&asked), async {
            upstream.request().await.answer(401, headers, words).await;
        });
        assert_eq!(answer.status(), 502);
        assert_eq!(error(answer).await["code"], "upstream_auth");
    }
}

#[tokio::test]
async fn a_model_without_such_an_upstream_is_refused_by_name() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("anthropic-messages", upstream.addr())], "");
    for path in PATHS {
        let asked = ClientRequest::at(path, &json!({"model": "m"}));
        let answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 400, "{path}");
        let error = error(answer).await;
        assert_eq!(error["param"], "model");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(path) && message.contains("openai-chat"),
            "{message}"
        );
    }
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn compaction_passes_where_the_upstream_has_it() {
    let (chat, responses) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let compact = ClientRequest::at(
        "/v1/responses/compact",
        &json!({"model": "m", "input": "x"}),
    );
    let running = gateway(&[("openai-chat", chat.addr())], "");
    let answer = running.ask(&compact).await;
    assert_eq!(answer.status(), 404);
    let error = error(answer).await;
    assert_eq!(error["code"], "not_found");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("openai-responses"), "{message}");
    let targets = [
        ("openai-chat", chat.addr()),
        ("openai-responses", responses.addr()),
    ];
    let running = gateway(&targets, "");
    let (mut answer, ()) = tokio::join!(running.ask(&compact), async {
        let mut exchange = responses.request().await;
        assert!(exchange.head.starts_with("post /v1/responses/compact "));
        answer_json(&mut exchange, r#"{"object":"response.compaction"}"#).await;
    });
    assert_eq!(
        text(&mut answer).await,
        r#"{"object":"response.compaction"}"#
    );
    assert!(!chat.was_asked_again());
}

#[tokio::test]
async fn passed_requests_are_refused_as_others_are() {
    let upstream = ScriptedUpstream::bind().await;
    let settings = format!(
        "limits: {{ body: 1KiB }}\nkeys:\n{}{}{}",
        key("one", "key-one", ", models: [ m ]"),
        key("other", "key-other", ", models: [ n ]"),
        key("few", "key-few", ", limits: { tokens: 20/h }"),
    );
    let running = gateway(&[("openai-chat", upstream.addr())], &settings);
    let with = |body: Value| ClientRequest::at("/v1/embeddings", &body);
    for (asked, status, code) in [
        (embeddings(), 401, "unauthenticated"),
        (embeddings().key("key-other"), 403, "forbidden"),
        (with(json!({"model": "x"})).key("key-few"), 404, "not_found"),
        (
            with(json!({"input": "x"})).key("key-one"),
            400,
            "invalid_request",
        ),
        (
            with(json!({"model": 1})).key("key-one"),
            400,
            "invalid_request",
        ),
        (with(json!(["m"])).key("key-one"), 400, "invalid_request"),
        (
            with(json!({"model": "m", "models": ["n"]})).key("key-one"),
            400,
            "invalid_request",
        ),
        (
            with(json!({"model": "m", "input": "x".repeat(1024)})).key("key-one"),
            413,
            "payload_too_large",
        ),
        (ClientRequest::bytes("{"), 401, "unauthenticated"),
        // 16 tokens for each of two answers, with a prompt.
        (
            ClientRequest::at(
                "/v1/completions",
                &json!({"model": "m", "prompt": ["a", "b"], "max_tokens": 16}),
            )
            .key("key-few"),
            400,
            "invalid_request",
        ),
    ] {
        let answer = running.ask(&asked).await;
        assert_eq!(answer.status(), status, "{asked:?}");
        if asked.path != "/v1/streams" {
            assert_eq!(error(answer).await["code"], code);
        }
    }
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn usage_settles_the_token_limit() {
    let upstream = ScriptedUpstream::bind().await;
    let settings = format!(
        "keys:\n{}",
        key("few", "key-few", ", limits: { tokens: 100/h, streams: 1 }")
    );
    let running = gateway(&[("openai-chat", upstream.addr())], &settings);
    let asked = embeddings().key("key-few");
    let usage = r#"{"data":[],"usage":{"prompt_tokens":60,"total_tokens":60}}"#;
    let (mut answer, ()) = tokio::join!(running.ask(&asked), async {
        answer_json(&mut upstream.request().await, usage).await;
    });
    assert_eq!(text(&mut answer).await, usage);
    running.wait_idle().await;
    let tokens = "sluicegate_tokens_total{model=\"m\",upstream=\"u0\",kind=\"input\"}";
    assert_eq!(running.metric(tokens).await, 60.0);
    // The place among the key's streams is free again, and 40 tokens are left.
    let asked = completions().key("key-few");
    let (mut answer, ()) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 9}});
        let end = format!("data: {usage}\n\ndata: [DONE]\n\n");
        exchange.chunk(text_chunk("a", "stop") + &end).await;
        exchange.end().await;
    });
    let left: u64 = answer
        .header("x-ratelimit-remaining-tokens")
        .parse()
        .unwrap();
    assert!(left < 40 - 16, "{left}");
    text(&mut answer).await;
    running.wait_idle().await;
    let asked = embeddings().key("key-few");
    let answer = running.ask(&asked).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(error(answer).await["code"], "rate_limited");
}

#[tokio::test]
async fn an_open_answer_takes_a_place_among_the_streams() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(
        &[("openai-chat", upstream.addr())],
        "limits: { streams: 1 }",
    );
    let asked = completions();
    let (answer, exchange) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(text_chunk("a", "")).await;
        exchange
    });
    assert_eq!(answer.status(), 200);
    let refused = running.ask(&embeddings()).await;
    assert_eq!(refused.status(), 503);
    drop(refused);
    // The request is not needed once its answer has begun.
    assert_eq!(running.metric("sluicegate_request_memory_bytes").await, 0.0);
    // What a stream needs is released with it.
    drop(answer);
    exchange.closed().await;
    running.wait_idle().await;
    assert_eq!(running.metric("sluicegate_request_memory_bytes").await, 0.0);
}

#[tokio::test]
async fn an_unknown_path_is_answered_with_those_there_are() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    for path in [
        "/v1/audio/transcriptions",
        "/v1/files",
        "//v1/messages",
        "/v1/v1/messages",
    ] {
        let mut answer = running.ask(&ClientRequest::at(path, &json!({}))).await;
        assert_eq!(answer.status(), 404, "{path}");
        let message = answer.error().await["message"].as_str().unwrap().to_owned();
        for known in PATHS {
            assert!(message.contains(&format!("POST {known},")), "{message}");
        }
        assert!(
            message.contains("POST /v1/messages/count_tokens,"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_drain_ends_an_open_stream_in_an_error() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[("openai-chat", upstream.addr())], "");
    let asked = completions();
    let (mut answer, exchange) = tokio::join!(running.ask(&asked), async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(text_chunk("a", "")).await;
        exchange
    });
    running.gateway.shutdown.cancel();
    let all = text(&mut answer).await;
    assert!(all.contains("\"draining\""), "{all}");
    exchange.closed().await;
}
