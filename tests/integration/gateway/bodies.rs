//! Bodies over the limit, and refusals while the client is still sending.

use serde_json::json;

use super::client::{Answer, ClientRequest};
use super::harness::{TestGateway, targets};
use super::keys::key;
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

/// Sends a whole request before it reads anything of the answer.
async fn sent_wholly(running: &TestGateway, head: &str, pieces: &[Vec<u8>]) -> Answer {
    sent_to(running, "/v1/streams", head, pieces).await
}

async fn sent_to(running: &TestGateway, path: &str, head: &str, pieces: &[Vec<u8>]) -> Answer {
    within_timeout(async {
        let mut client = RawClient::connect(running.clients).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n");
        client.write(head.as_bytes()).await.unwrap();
        for piece in pieces {
            client.write(piece).await.unwrap();
        }
        Answer::new(client.head().await.unwrap(), client)
    })
    .await
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { body: 1KiB }");
    for size in [1025, 4096, 100_000, 8 * 1024 * 1024] {
        let body = vec![b' '; size];
        let length = format!("content-length: {size}");
        let chunk = [
            format!("{size:x}\r\n").into_bytes(),
            body.clone(),
            b"\r\n".to_vec(),
        ]
        .concat();
        let chunks = [chunk, b"0\r\n\r\n".to_vec()];
        for (head, pieces) in [
            (length.as_str(), &[body][..]),
            ("transfer-encoding: chunked", &chunks[..]),
        ] {
            let mut answer = sent_wholly(&running, head, pieces).await;
            assert_eq!(answer.status(), 413, "{size} {head}");
            let error = answer.error().await;
            assert_eq!(error["code"], "payload_too_large");
            assert!(error["message"].as_str().unwrap().contains("1024"));
        }
    }
    let just_fits = json!({"model": "m", "prompt": "x"}).to_string();
    let padded = format!("{just_fits:<1024}");
    assert_eq!(
        running.ask(&ClientRequest::bytes(padded)).await.status(),
        200
    );
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn a_refused_body_gets_no_100_continue() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { body: 1KiB }");
    let head = "content-length: 5000\r\nexpect: 100-continue";
    let answer = sent_wholly(&running, head, &[]).await;
    assert_eq!(answer.status(), 413);
}

#[tokio::test]
async fn a_client_that_is_refused_while_sending_reads_the_refusal() {
    let upstream = serve(&fast());
    let more = ", limits: { requests: 1/hour }";
    let keys = format!("keys:\n{}", key("one", "key-one", more));
    let running = TestGateway::start(&targets(&[upstream.addr()], &keys));
    let body = json!({"model": "m", "prompt": "x".repeat(4 * 1024 * 1024)}).to_string();
    let models = ClientRequest::new("GET", "/v1/models").key("key-one");
    assert_eq!(running.ask(&models).await.status(), 200);
    for (key, last, status) in [
        ("key-wrong", "", 401),
        ("key-one", "last-event-id: x", 400),
        ("key-one", "", 429),
    ] {
        let head = format!(
            "content-length: {}\r\nauthorization: Bearer {key}\r\nx-more: 1{}{last}",
            body.len(),
            if last.is_empty() { "" } else { "\r\n" },
        );
        let mut answer = sent_wholly(&running, &head, &[body.clone().into_bytes()]).await;
        assert_eq!(answer.status(), status, "{key} {last}");
        answer.error().await;
    }
    for (path, status) in [("/v1/streems", 404), ("/v1/models", 405)] {
        let head = format!("content-length: {}", body.len());
        let answer = sent_to(&running, path, &head, &[body.clone().into_bytes()]).await;
        assert_eq!(answer.status(), status);
    }
    running.gateway.draining.cancel();
    let head = format!("content-length: {}", body.len());
    let answer = sent_wholly(&running, &head, &[body.into_bytes()]).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(upstream.request_count(), 0);
}
