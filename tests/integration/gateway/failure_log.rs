//! A failed target is logged once, with everything that an operator needs to find the cause.

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::client::ClientRequest;
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::ScriptedUpstream;

const KEY: &str = "upstreams-own-key-4711";

fn config(base_url: &str) -> TemporaryFile {
    TemporaryFile::new(&format!(
        "upstreams: {{ up: {{ wire: openai-chat, base_url: '{base_url}', api_key: {KEY} }} }}\n\
         models: {{ m: {{ targets: [ {{ upstream: up, model: gpt-1 }} ], retry: off }} }}\n\
         timeouts: {{ connect: 5s }}\n"
    ))
}

/// Sends one request while `upstream` runs, and returns the log line of the failed target.
async fn failure(base_url: &str, upstream: impl Future<Output = ()>) -> Value {
    let config = config(base_url);
    let mut gateway = GatewayProcess::start(&config, &[]).await;
    let request = ClientRequest::prompt("m").header("x-request-id", "req-of-the-client");
    let (mut answer, ()) = tokio::join!(gateway.ask(&request), upstream);
    let body = String::from_utf8(answer.body().await).unwrap();
    assert!(!body.contains("127.0.0.1"), "{body}");
    let line = gateway.program.wait_for_log("target failed").await;
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["request_id"], "req-of-the-client");
    assert_eq!(line["upstream"], "up");
    assert_eq!(line["model"], "gpt-1");
    gateway.program.signal(Signal::TERM);
    let log = gateway.program.ended().await.err;
    assert_eq!(log.matches("target failed").count(), 1, "{log}");
    assert!(!log.contains(KEY), "{log}");
    line
}

fn assert_logged(line: &Value, code: &str, words: &[&str]) {
    assert_eq!(line["code"], code, "{line}");
    let reason = line["reason"].as_str().unwrap();
    for word in words {
        assert!(reason.contains(word), "{word}: {line}");
    }
}

#[tokio::test]
async fn a_refusal_is_logged_in_the_vendors_own_words() {
    for (status, body, code, words) in [
        (
            401,
            format!("{{\"error\":{{\"message\":\"Incorrect API key {KEY}\"}}}}"),
            "upstream_auth",
            vec!["HTTP 401", "Incorrect API key [redacted]"],
        ),
        (
            503,
            "<html><h1>Service\nUnavailable</h1></html>".to_owned(),
            "upstream_unavailable",
            vec!["HTTP 503", "<h1>Service Unavailable</h1>"],
        ),
        (502, String::new(), "upstream_unavailable", vec!["HTTP 502"]),
        (
            400,
            "{\"error\":{\"message\":\"temperature is too high\"}}".to_owned(),
            "upstream_rejected",
            vec!["temperature is too high", "HTTP 400"],
        ),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let url = format!("http://{}/v1", upstream.addr());
        let answering = async { upstream.request().await.answer(status, "", &body).await };
        assert_logged(&failure(&url, answering).await, code, &words);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_logged_with_its_cause() {
    let upstream = ScriptedUpstream::bind().await;
    let config = config(&format!("http://{}/v1", upstream.addr()));
    let mut gateway = GatewayProcess::start(&config, &[]).await;
    let request = ClientRequest::prompt("m").header("x-request-id", "req-of-the-client");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchange.reset();
    };
    let reading = async { gateway.ask(&request).await.events().await };
    let (events, ()) = tokio::join!(reading, answering);
    assert_eq!(events.last().unwrap().name, "error");
    let line = gateway.program.wait_for_log("answer broke off").await;
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["request_id"], "req-of-the-client");
    assert_eq!(line["upstream"], "up");
    assert_logged(&line, "stream_interrupted", &["connection"]);
    gateway.program.signal(Signal::TERM);
    let log = gateway.program.ended().await.err;
    assert_eq!(log.matches("answer broke off").count(), 1, "{log}");
    assert_eq!(log.matches("target failed").count(), 0, "{log}");
}

#[tokio::test]
async fn a_connection_that_fails_is_logged_with_its_cause() {
    let nothing = async {};
    // The port is free again once the listener is dropped.
    let refusing = ScriptedUpstream::bind().await.addr();
    let line = failure(&format!("http://{refusing}/v1"), nothing).await;
    let words = ["TCP connection failed", "refused"];
    assert_logged(&line, "upstream_unavailable", &words);

    // A label of more than 63 characters is found by no name server.
    let name = format!("{}.example", "a".repeat(64));
    let line = failure(&format!("http://{name}/v1"), async {}).await;
    assert_logged(&line, "upstream_unavailable", &["host name was not found"]);

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", plain.local_addr().unwrap());
    let answering = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    };
    let line = failure(&url, answering).await;
    assert_logged(&line, "upstream_unavailable", &["TLS handshake failed"]);

    let closing = ScriptedUpstream::bind().await;
    let url = format!("http://{}/v1", closing.addr());
    let line = failure(&url, async { drop(closing.request().await) }).await;
    assert_logged(
        &line,
        "upstream_unavailable",
        &["without an answer", "connection ended"],
    );
}
