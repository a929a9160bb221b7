//! `/metrics` after real requests: its form, its labels, its values.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use super::client::{ClientRequest, outcome};
use super::harness::TestGateway;
use super::keys::key;
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::fixture_server::{fast, serve};

/// Runs `promtool check metrics` where promtool is installed, and returns its complaints.
fn complaints(text: &str) -> Option<String> {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = started.ok()?;
    promtool.stdin.take()?.write_all(text.as_bytes()).unwrap();
    let done = promtool.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    Some(String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn promtool_has_nothing_to_complain_about() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(
        &[upstream.addr()],
        "{ window: 1h }",
        "limits: { per_ip: { requests: 1000/min } }\nmetrics: { key: on }",
    );
    assert_eq!(outcome(&running.prompt().await.events().await), "");
    running.ask(&ClientRequest::prompt("unknown")).await;
    running
        .ask(&ClientRequest::new("GET", "/v1/streams/none"))
        .await;
    let (status, text) = running.admin("/metrics").await;
    assert_eq!(status, 200);
    if let Some(complaints) = complaints(&text) {
        assert_eq!(complaints, "");
    }
}

#[tokio::test]
async fn keys_are_counted_only_where_the_config_asks_for_it() {
    let upstream = serve(&fast());
    let config = |switch: &str| {
        format!(
            "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}' }}\n\
             models:\n  m: {{ targets: [ {{ upstream: a, model: text }} ] }}\n\
             metrics: {{ key: {switch} }}\nkeys:\n{}",
            upstream.addr(),
            key("app", "key-one", "")
        )
    };
    let running = TestGateway::start(&config("off"));
    let asked = ClientRequest::prompt("m").key("key-one");
    running.ask(&asked).await.events().await;
    running.wait_idle().await;
    let plain = "sluicegate_requests_total{dialect=\"native\",model=\"m\",outcome=\"complete\"}";
    assert_eq!(running.metric(plain).await, 1.0);
    running.reload(&config("on"));
    running.ask(&asked).await.events().await;
    running.wait_idle().await;
    let counted = "sluicegate_requests_total{dialect=\"native\",model=\"m\",outcome=\"complete\",key=\"app\"}";
    assert_eq!(running.metric(counted).await, 1.0);
    let tokens = "sluicegate_tokens_total{model=\"m\",upstream=\"a\",kind=\"output\",key=\"app\"}";
    assert!(running.metric(tokens).await > 0.0);
}

#[tokio::test]
async fn the_memory_of_kept_events_is_measured() {
    const METRIC: &str = "sluicegate_stream_buffer_bytes";
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 1h }", "");
    assert_eq!(running.metric(METRIC).await, 0.0);
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token(&"word ".repeat(1000)).await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering);
    answer.expect("start").await;
    answer.expect("token").await;
    let open = running.metric(METRIC).await;
    assert!((5000.0..20_000.0).contains(&open), "{open}");
    exchange.finish().await;
    answer.rest().await;
    running.wait_idle().await;
    let ended = running.metric(METRIC).await;
    assert!(ended >= open, "{ended}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_counted_for_its_upstream() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        drop(exchange);
    };
    let (mut answer, ()) = tokio::join!(running.prompt(), answering);
    assert_eq!(outcome(&answer.events().await), "stream_interrupted");
    running.wait_idle().await;
    let broken = "sluicegate_broken_answers_total{upstream=\"a\",code=\"stream_interrupted\"}";
    assert_eq!(running.metric(broken).await, 1.0);
}

#[tokio::test]
async fn the_first_token_is_the_first_text_reasoning_or_tool_call() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let deltas = [
        json!({"content": "text"}),
        json!({"reasoning_content": "thinking"}),
        json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
    ];
    for (number, delta) in deltas.into_iter().enumerate() {
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            let chunk = json!({"choices": [{"index": 0, "delta": delta}]});
            exchange.chunk(format!("data: {chunk}\n\n")).await;
            exchange.finish().await;
        };
        let (mut answer, ()) = tokio::join!(running.prompt(), answering);
        answer.rest().await;
        running.wait_idle().await;
        let count = running.metric("sluicegate_first_token_seconds_count").await;
        assert_eq!(count, (number + 1) as f64);
    }
}

#[tokio::test]
async fn tokens_that_no_client_received_are_counted() {
    const METRIC: &str = "sluicegate_unread_tokens_total";
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 1s }", "");
    let answering = async || {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange
    };
    // Whoever reads everything leaves nothing unread.
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering());
    exchange.finish().await;
    answer.events().await;
    drop(answer);
    // A client that leaves in the middle and does not come back.
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering());
    answer.expect("start").await;
    answer.expect("token").await;
    drop(answer);
    // Until the gateway has noticed.
    within_timeout(async { while running.metric("sluicegate_connections").await > 0.0 {} }).await;
    for _ in 0..5 {
        exchange.token("unread ").await;
    }
    exchange.closed().await;
    within_timeout(async { while running.metric(METRIC).await == 0.0 {} }).await;
    let sent = running.metric("sluicegate_streamed_tokens_total").await;
    let unread = running.metric(METRIC).await;
    assert!(unread < sent, "{unread} of {sent}");
}
