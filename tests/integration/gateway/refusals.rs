//! Invalid requests: refused with a message that names the field, before any upstream is asked.

use serde_json::json;

use super::client::ClientRequest;
use super::harness::TestGateway;
use crate::fixture_server::{fast, serve};

#[tokio::test]
async fn a_wrong_body_is_refused_and_its_field_named() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let deep = "[".repeat(100_000);
    let deep_closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let hello = json!([{"role": "user", "content": "Hello"}]);
    let wrong: Vec<(Vec<u8>, &str)> = [
        (json!({"prompt": "x"}), "model"),
        (json!({"model": "m"}), "prompt"),
        (json!({"model": "", "prompt": "x"}), "model"),
        (json!({"model": "m", "prompt": ""}), "prompt"),
        (json!({"model": 5, "prompt": "x"}), "model"),
        (json!({"model": "m", "prompt": ["x"]}), "prompt"),
        (
            json!({"model": "m", "prompt": "x", "messages": hello}),
            "messages",
        ),
        (json!({"model": "m", "messages": []}), "messages"),
        (json!({"model": "m", "messages": "x"}), "messages"),
        (
            json!({"model": "m", "messages": [{"role": "user"}]}),
            "messages[0]",
        ),
        (
            json!({"model": "m", "messages": [{"role": "robot", "content": "x"}]}),
            "messages[0]",
        ),
        (
            json!({"model": "m", "messages": [{"content": "x"}]}),
            "messages[0]",
        ),
        (
            json!({"model": "m", "prompt": "x", "temperature": "hot"}),
            "temperature",
        ),
        (
            json!({"model": "m", "prompt": "x", "max_tokens": -1}),
            "max_tokens",
        ),
        (
            json!({"model": "m", "prompt": "x", "max_tokens": 0}),
            "max_tokens",
        ),
        (
            json!({"model": "m", "prompt": "x", "max_tokens": 1.5}),
            "max_tokens",
        ),
        (json!({"model": "m", "prompt": "x", "stop": [1]}), "stop"),
        (
            json!({"model": "m", "prompt": "x", "tools": [{"type": "magic"}]}),
            "tools[0]",
        ),
        (
            json!({"model": "m", "prompt": "x", "metadata": 1}),
            "metadata",
        ),
        (
            json!({"model": "m", "prompt": "x", "max_token": 1}),
            "max_token",
        ),
        (json!({"model": "m", "prompt": "x", "n": 2}), "n"),
        (
            json!({"model": "m", "prompt": "x", "extra": {"model": "other"}}),
            "extra.model",
        ),
        (
            json!({"model": "m", "prompt": "x", "extra": {"stream": false}}),
            "extra.stream",
        ),
        (
            json!({"model": "m", "prompt": "x", "extra": {"n": 2}}),
            "extra.n",
        ),
        (json!({"model": "m", "prompt": "x", "extra": []}), "extra"),
        (json!([]), ""),
        (json!("x"), ""),
        (json!(null), ""),
    ]
    .into_iter()
    .map(|(body, field)| (body.to_string().into_bytes(), field))
    .chain([
        (b"".to_vec(), "JSON"),
        (b"{".to_vec(), "JSON"),
        (b"model=m&prompt=x".to_vec(), "JSON"),
        (b"{\"model\":\"m\",\"prompt\":\"x\"} {}".to_vec(), "JSON"),
        (b"{\"model\":\"m\",\"prompt\":\"x\xff\"}".to_vec(), ""),
        (
            b"{\"model\":\"m\",\"model\":\"n\",\"prompt\":\"x\"}".to_vec(),
            "model",
        ),
        (b"\xef\xbb\xbf{}".to_vec(), ""),
        (deep.clone().into_bytes(), ""),
        (
            format!("{{\"model\":\"m\",\"prompt\":\"x\",\"extra\":{{\"a\":{deep_closed}}}}}")
                .into(),
            "",
        ),
        (
            format!("{{\"model\":\"m\",\"prompt\":\"x\",\"unknown\":{deep_closed}}}").into(),
            "",
        ),
        (
            format!("{{\"model\":\"m\",\"messages\":{deep_closed}}}").into(),
            "",
        ),
    ])
    .collect();
    for (body, field) in wrong {
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        let mut answer = running.ask(&ClientRequest::bytes(body)).await;
        assert_eq!(answer.status(), 400, "{shown}");
        let error = answer.error().await;
        assert_eq!(error["code"], "invalid_request", "{shown}");
        assert_eq!(error["origin"], "client");
        assert_eq!(error["retryable"], false);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(field), "{shown}: {message}");
    }
    assert_eq!(upstream.request_count(), 0);
    running.wait_idle().await;
}

#[tokio::test]
async fn control_characters_in_names_are_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}' }}\n\
         models:\n  '*': {{ targets: [ {{ upstream: a, model: '*' }} ], retry: off }}\n",
        upstream.addr()
    ));
    let tool = |name: &str| json!([{"type": "function", "function": {"name": name}}]);
    let choice = json!({"type": "function", "function": {"name": "a\nb"}});
    for (body, field) in [
        (json!({"model": "m\r\nx: y", "prompt": "x"}), "model"),
        (json!({"model": "m\n", "prompt": "x"}), "model"),
        (json!({"model": "m\u{0}", "prompt": "x"}), "model"),
        (
            json!({"model": "m", "prompt": "x", "user": "me\r\n"}),
            "user",
        ),
        (
            json!({"model": "m", "prompt": "x", "tools": tool("a\nb")}),
            "tools[0]",
        ),
        (
            json!({"model": "m", "prompt": "x", "tool_choice": choice}),
            "tool_choice",
        ),
    ] {
        let mut answer = running.ask(&ClientRequest::json(&body)).await;
        assert_eq!(answer.status(), 400, "{body}");
        let message = answer.error().await["message"].to_string();
        assert!(message.contains(field), "{body}: {message}");
    }
    let asked = ClientRequest::new("GET", "/v1/streams?model=m%0d%0a&prompt=x");
    assert_eq!(running.ask(&asked).await.status(), 400);
    assert_eq!(upstream.request_count(), 0);
    // Texts may hold control characters.
    let body = json!({"model": "text", "prompt": "a\r\n\u{0}b", "stop": ["\n"]});
    assert_eq!(running.ask(&ClientRequest::json(&body)).await.status(), 200);
}

#[tokio::test]
async fn a_refusal_does_not_repeat_a_long_field() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let long = "x".repeat(1024 * 1024);
    for body in [
        json!({"model": "m", "prompt": "x", "temperature": long}),
        json!({"model": long, "prompt": "x"}),
        json!({"model": "m", "prompt": "x", long.as_str(): 1}),
    ] {
        let mut answer = running.ask(&ClientRequest::json(&body)).await;
        assert!((400..=404).contains(&answer.status()));
        let length = answer.error().await["message"].as_str().unwrap().len();
        assert!(length < 4096, "{length}");
    }
}

#[tokio::test]
async fn a_query_needs_a_model_and_a_prompt() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (query, status, field) in [
        ("", 400, "model"),
        ("?model=m", 400, "prompt"),
        ("?prompt=x", 400, "model"),
        ("?model=m&prompt=", 400, "prompt"),
        ("?model=unheard-of&prompt=x", 404, "unheard-of"),
        ("?model=%ff&prompt=x", 404, ""),
        ("?model=%zz&prompt=x", 404, ""),
    ] {
        let asked = ClientRequest::new("GET", format!("/v1/streams{query}"));
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), status, "{query}");
        let message = answer.error().await["message"].to_string();
        assert!(message.contains(field), "{query}: {message}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (method, path, status, code) in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/nothing", 404, "not_found"),
        ("GET", "/metrics", 404, "not_found"),
        ("GET", "/livez", 404, "not_found"),
        ("GET", "/readyz", 404, "not_found"),
        ("GET", "/../etc/passwd", 404, "not_found"),
        ("PUT", "/v1/streams", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("BREW", "/v1/streams", 405, "method_not_allowed"),
    ] {
        let mut answer = running.ask(&ClientRequest::new(method, path)).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        let error = answer.error().await;
        assert_eq!(error["code"], code);
        if path == "/v1/nothing" {
            let message = error["message"].as_str().unwrap();
            for path in ["POST /v1/streams", "GET /v1/models", "POST /v1/messages"] {
                assert!(message.contains(path), "{message}");
            }
        }
        if status == 405 {
            let allowed = answer.header("allow");
            assert!(allowed.contains("GET"), "{method} {path}");
            let head = running
                .ask(&ClientRequest::new("HEAD", path))
                .await
                .status();
            assert_eq!(allowed.contains("HEAD"), head == 200, "{path}: {head}");
        }
    }
}

#[tokio::test]
async fn a_valid_request_id_is_kept() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let long = "x".repeat(129);
    for (sent, kept) in [
        ("mine-17", true),
        ("a/b:c=d", true),
        ("", false),
        ("two words", false),
        ("\u{e9}", false),
        (long.as_str(), false),
    ] {
        for asked in [
            ClientRequest::prompt("m"),
            ClientRequest::bytes("no JSON"),
            ClientRequest::new("GET", "/nowhere"),
        ] {
            let answer = running.ask(&asked.header("x-request-id", sent)).await;
            let id = answer.header("x-request-id");
            if kept {
                assert_eq!(id, sent);
            } else {
                assert_eq!(id.len(), "req_".len() + 26, "{id}");
            }
        }
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let large = ClientRequest::prompt("m").header("x-large", "x".repeat(200 * 1024));
    assert_eq!(running.ask(&large).await.status(), 431);
    let mut many = ClientRequest::prompt("m");
    for _ in 0..200 {
        many = many.header("x-many", "x");
    }
    assert_eq!(running.ask(&many).await.status(), 431);
    let long = ClientRequest::new(
        "GET",
        format!("/v1/streams?model=m&prompt={}", "x".repeat(200 * 1024)),
    );
    assert!([414, 431].contains(&running.ask(&long).await.status()));
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(
        &[upstream.addr()],
        "cors: { origins: [ 'https://app.example' ] }",
    );
    let preflight = |origin: &str| {
        ClientRequest::new("OPTIONS", "/v1/streams")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type,last-event-id,user-agent,x-api-key,x-stainless-os",
            )
    };
    let answer = running.ask(&preflight("https://app.example")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .contains("POST")
    );
    for allowed in [
        "authorization",
        "content-type",
        "last-event-id",
        "user-agent",
        "x-api-key",
        "x-stainless-os",
    ] {
        assert!(
            answer
                .header("access-control-allow-headers")
                .contains(allowed)
        );
    }
    for asked in [ClientRequest::prompt("m"), ClientRequest::bytes("no JSON")] {
        let asked = asked.header("origin", "https://app.example");
        let answer = running.ask(&asked).await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            "https://app.example"
        );
        let exposed = answer
            .header("access-control-expose-headers")
            .to_lowercase();
        for name in [
            "x-request-id",
            "retry-after",
            "x-ratelimit-remaining-requests",
        ] {
            assert!(exposed.contains(name), "{exposed}");
        }
    }
    let other = running.ask(&preflight("https://evil.example")).await;
    assert!(!other.has("access-control-allow-origin"));
}

#[tokio::test]
async fn no_page_may_call_where_none_is_configured() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asked = ClientRequest::prompt("m").header("origin", "https://app.example");
    assert!(!running.ask(&asked).await.has("access-control-allow-origin"));
}

#[tokio::test]
async fn admin_and_client_routes_are_separate() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(running.admin(path).await.0, 200, "{path}");
    }
    for path in ["/v1/models", "/v1/streams?model=m&prompt=x"] {
        assert_eq!(running.admin(path).await.0, 404, "{path}");
    }
    assert_eq!(running.admin("/").await.0, 303, "to the dashboard");
    running.prompt().await.events().await;
    running.wait_idle().await;
    let (_, metrics) = running.admin("/metrics").await;
    for line in [
        "sluicegate_requests_total{dialect=\"native\",model=\"m\",outcome=\"complete\"} 1",
        "sluicegate_open_streams 0",
        "sluicegate_first_token_seconds_count{model=\"m\",upstream=\"a\"} 1",
        "sluicegate_stream_duration_seconds_count{model=\"m\",outcome=\"complete\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    for line in [
        "sluicegate_tokens_total{model=\"m\",upstream=\"a\",kind=\"output\"} ",
        "sluicegate_attempts_total{upstream=\"a\",outcome=\"ok\"} 1",
        "sluicegate_overhead_seconds_count 1",
        "# TYPE sluicegate_requests_total counter",
        "# TYPE sluicegate_build_info gauge",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("# EOF"), "{metrics}");
    assert!(!metrics.contains("# UNIT"), "{metrics}");
}
