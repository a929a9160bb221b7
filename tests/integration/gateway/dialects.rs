//! The dialects of vendors' protocols over HTTP: the body that an upstream of the same protocol gets,
//! heartbeats, and answers that are too large to buffer.

use serde_json::{Value, json};

use super::client::ClientRequest;
use super::harness::TestGateway;
use super::scripted::ScriptedUpstream;

/// The model `m`, answered by an upstream that speaks Anthropic's protocol.
fn before(upstream: &ScriptedUpstream, settings: &str) -> TestGateway {
    TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: anthropic-messages, base_url: 'http://{}', api_key: k, fidelity: repaired }}\n\
         models:\n  m: {{ targets: [ {{ upstream: a, model: theirs }} ], retry: off }}\n{settings}\n",
        upstream.addr()
    ))
}

fn messages(body: &Value) -> ClientRequest {
    ClientRequest {
        body: body.to_string().into_bytes(),
        ..ClientRequest::new("POST", "/v1/messages?beta=true")
    }
}

fn hello(stream: bool) -> Value {
    json!({
        "model": "m",
        "max_tokens": 9,
        "stream": stream,
        "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "Hi"}],
        "novelty": true,
    })
}

const START: &str = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":3}}}\n\n";
const STOP: &str = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
    data: {\"type\":\"message_stop\"}\n\n";

fn text(text: &str) -> String {
    let delta = json!({"type": "text_delta", "text": text});
    let data = json!({"type": "content_block_delta", "index": 0, "delta": delta});
    format!("data: {data}\n\n")
}

#[tokio::test]
async fn an_upstream_of_the_same_protocol_gets_the_clients_body() {
    let upstream = ScriptedUpstream::bind().await;
    let running = before(&upstream, "");
    let asked = messages(&hello(false)).header("anthropic-beta", "context-1m, files");
    let asked = asked.header("anthropic-version", "2023-06-01");
    let answering = async {
        let mut exchange = upstream.request().await;
        assert!(
            exchange
                .head
                .contains("\r\nanthropic-beta: context-1m, files\r\n")
        );
        assert!(
            exchange.head.contains("\r\nx-api-key: k\r\n"),
            "{}",
            exchange.head
        );
        let got: Value = serde_json::from_slice(&exchange.body).unwrap();
        let mut expected = hello(true);
        expected["model"] = json!("theirs");
        assert_eq!(got, expected);
        exchange.begin().await;
        for piece in [START, &text("Hello"), &text("!"), STOP] {
            exchange.chunk(piece).await;
        }
        exchange.end().await;
    };
    let (mut answer, ()) = tokio::join!(running.ask(&asked), answering);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    let message: Value = serde_json::from_slice(&answer.body().await).unwrap();
    assert_eq!(message["id"], "msg_1");
    assert_eq!(
        message["content"],
        json!([{"type": "text", "text": "Hello!"}])
    );
    assert_eq!(
        message["usage"],
        json!({"input_tokens": 3, "output_tokens": 2})
    );
}

#[tokio::test]
async fn a_ping_may_come_before_the_first_event() {
    let upstream = ScriptedUpstream::bind().await;
    let running = before(&upstream, "heartbeat: 50ms");
    let asked = messages(&hello(true));
    let waiting = async {
        let exchange = upstream.request().await;
        (exchange, ())
    };
    let (mut answer, (mut exchange, ())) = tokio::join!(running.ask(&asked), waiting);
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    assert_eq!(answer.chunk().await.unwrap(), ping);
    // A refusal that comes after the answer began is told in it.
    exchange.answer(503, "", "{}").await;
    let mut rest = String::new();
    while let Some(chunk) = answer.chunk().await {
        rest.push_str(&chunk);
    }
    let rest = rest.replace(ping, "");
    assert!(
        rest.starts_with("event: error\ndata: {\"type\":\"error\""),
        "{rest}"
    );
    assert_eq!(rest.matches("event: ").count(), 1, "{rest}");
}

#[tokio::test]
async fn content_that_an_encoder_buffers_is_bounded() {
    for (path, stream) in [
        ("/v1/messages", true),
        ("/v1/messages", false),
        ("/v1/responses", true),
        ("/v1/responses", false),
        ("/v1/chat/completions", false),
        ("/v1/ui-messages", true),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = before(&upstream, "limits: { frame: 4KiB }");
        let body = match path {
            "/v1/messages" => hello(stream),
            "/v1/chat/completions" => json!({"model": "m", "messages": hello(false)["messages"]}),
            "/v1/ui-messages" => {
                let parts = json!([{"type": "text", "text": "Hi"}]);
                json!({"model": "m", "messages": [{"role": "user", "parts": parts}]})
            }
            _ => json!({"model": "m", "input": "Hi", "stream": stream}),
        };
        let asked = ClientRequest {
            body: body.to_string().into_bytes(),
            ..ClientRequest::new("POST", path)
        };
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.chunk(START).await;
            // The gateway leaves in the middle of it.
            for _ in 0..10 {
                if !exchange.try_chunk(text(&"x".repeat(1000))).await {
                    break;
                }
            }
            exchange.closed().await;
        };
        let reading = async {
            let mut answer = running.ask(&asked).await;
            let mut said = String::new();
            if stream {
                while let Some(chunk) = answer.chunk().await {
                    said.push_str(&chunk);
                }
                let ends = ["event: error\n", "data: {\"type\":\"error\""];
                assert!(ends.iter().any(|end| said.contains(end)), "{said}");
            } else {
                assert_eq!(answer.status(), 502);
                said = String::from_utf8(answer.body().await).unwrap();
            }
            assert!(
                said.contains("larger than `limits.frame`"),
                "{path}: {said}"
            );
        };
        tokio::join!(answering, reading);
    }
}
