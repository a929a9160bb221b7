//! The forms in which clients send one request: encodings, paths, keys, preflights; and heads that
//! could be understood in two ways.

use serde_json::{Value, json};

use super::client::ClientRequest;
use super::harness::{TestGateway, targets};
use super::keys::key;
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

/// A gzip file of one stored block.
fn gzip(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(content);
    out.extend(crc32fast::hash(content).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

/// A zstd frame of blocks: the content, then so many times 100,000 spaces.
pub fn zstd(content: &[u8], repeated: u32) -> Vec<u8> {
    const RAW: u32 = 0;
    const REPEATED: u32 = 1;
    const SPACES: u32 = 100_000;
    let length = u32::try_from(content.len()).unwrap();
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    out.extend((length + repeated * SPACES).to_le_bytes());
    let mut block = |last: bool, kind: u32, size: u32, bytes: &[u8]| {
        let header = u32::from(last) | kind << 1 | size << 3;
        out.extend(&header.to_le_bytes()[..3]);
        out.extend(bytes);
    };
    block(repeated == 0, RAW, length, content);
    for left in (0..repeated).rev() {
        block(left == 0, REPEATED, SPACES, b" ");
    }
    out
}

pub fn encoded(encoding: &str, body: Vec<u8>) -> ClientRequest {
    ClientRequest::bytes(body).header("content-encoding", encoding)
}

#[tokio::test]
async fn encoded_bodies_are_decoded_and_bounded() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { body: 64KiB }");
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    let body = body.as_bytes();
    for (request, status) in [
        (encoded("gzip", gzip(body)), 200),
        (encoded("zstd", zstd(body, 0)), 200),
        (encoded("identity", body.to_vec()), 200),
        // 20 bytes that become 100,000, and 64 MiB.
        (encoded("zstd", zstd(body, 1)), 413),
        (encoded("zstd", zstd(body, 671)), 413),
        (encoded("gzip", body.to_vec()), 400),
        (encoded("gzip", gzip(body)[..20].to_vec()), 400),
        (encoded("br", body.to_vec()), 415),
        (encoded("gzip, gzip", gzip(&gzip(body))), 415),
    ] {
        let mut answer = running.ask(&request).await;
        let headers = &request.headers;
        assert_eq!(answer.status(), status, "{headers:?}");
        if status != 200 {
            answer.error().await;
        }
    }
    assert_eq!(upstream.request_count(), 3);
}

#[tokio::test]
async fn a_path_may_lack_its_version_or_have_more() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let turns = json!([{"role": "user", "content": "x"}]);
    let chat = json!({"model": "m", "messages": turns});
    let mut messages = chat.clone();
    messages["max_tokens"] = 1.into();
    let responses = json!({"model": "m", "input": "x"});
    for (path, body) in [
        ("/chat/completions", &chat),
        ("/v1/chat/completions/", &chat),
        ("/openai/v1/chat/completions?api-version=1", &chat),
        (
            "/openai/deployments/m/chat/completions?api-version=1",
            &chat,
        ),
        ("/messages?beta=true", &messages),
        ("/v1/messages/", &messages),
        ("/responses", &responses),
        ("/openai/v1/responses/", &responses),
    ] {
        let answer = running.ask(&ClientRequest::at(path, body)).await;
        assert_eq!(answer.status(), 200, "{path}");
    }
    for path in ["/models", "/v1/models/", "/openai/v1/models"] {
        let answer = running.ask(&ClientRequest::new("GET", path)).await;
        assert_eq!(answer.status(), 200, "{path}");
    }
    for path in ["/v2/messages", "/openai/chat/completions", "/message"] {
        let answer = running.ask(&ClientRequest::at(path, &messages)).await;
        assert_eq!(answer.status(), 404, "{path}");
    }
}

/// Azure's clients name the model in the path and may name another one, or none, in the body.
#[tokio::test]
async fn a_deployments_path_names_the_model() {
    let upstream = serve(&fast());
    let keys = format!("keys:\n{}", key("one", "key-one", ", models: [ m ]"));
    let running = TestGateway::start(&targets(&[upstream.addr()], &keys));
    let turns = json!([{"role": "user", "content": "x"}]);
    for (model, body, status) in [
        ("m", json!({"messages": turns}), 200),
        ("m", json!({"model": "other", "messages": turns}), 200),
        ("other", json!({"model": "m", "messages": turns}), 403),
        ("m", json!([]), 400),
        ("m", json!({}), 400),
    ] {
        let path = format!("/openai/deployments/{model}/chat/completions?api-version=1");
        let request = ClientRequest::at(&path, &body).header("api-key", "key-one");
        let mut answer = running.ask(&request).await;
        assert_eq!(answer.status(), status, "{model} {body}");
        if status == 200 {
            let answer: Value = serde_json::from_slice(&answer.body().await).unwrap();
            assert_eq!(answer["model"], "m");
        }
    }
}

#[tokio::test]
async fn one_valid_key_among_several_is_enough() {
    let upstream = serve(&fast());
    let keys = format!("keys:\n{}", key("one", "key-one", ""));
    let running = TestGateway::start(&targets(&[upstream.addr()], &keys));
    let prompt = || ClientRequest::prompt("m");
    for (request, status) in [
        (prompt().header("api-key", "key-one"), 200),
        (prompt().key("dummy").header("x-api-key", "key-one"), 200),
        (prompt().key("key-one").header("x-api-key", "dummy"), 200),
        (prompt().key("dummy").header("api-key", "key-one"), 200),
        (prompt().key("dummy").header("api-key", "dummy"), 401),
    ] {
        let answer = running.ask(&request).await;
        assert_eq!(answer.status(), status, "{:?}", request.headers);
    }
}

#[tokio::test]
async fn a_preflight_allows_what_sdks_send() {
    let upstream = serve(&fast());
    let settings = "cors: { origins: [ 'https://app.example' ] }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], settings);
    let asked = "user-agent,x-stainless-new,http-referer,x-title,cookie,x-forwarded-for";
    let request = ClientRequest::new("OPTIONS", "/chat/completions")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", asked);
    let answer = running.ask(&request).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "user-agent,x-stainless-new,http-referer,x-title"
    );
}

#[tokio::test]
async fn heads_with_two_meanings_are_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    let length = format!("content-length: {}", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (head, body) in [
        (format!("host: localhost\r\nhost: b\r\n{length}"), &body),
        (
            "host: localhost\r\ntransfer-encoding: identity, chunked".to_owned(),
            &chunked,
        ),
        (
            "host: localhost\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked"
                .to_owned(),
            &chunked,
        ),
    ] {
        let mut client = RawClient::connect(running.clients).await.unwrap();
        let text = format!("POST /v1/streams HTTP/1.1\r\n{head}\r\n\r\n{body}");
        client.write(text.as_bytes()).await.unwrap();
        let answer = within_timeout(client.head()).await.unwrap();
        assert_eq!(answer.status, 400, "{head}");
    }
    assert_eq!(upstream.request_count(), 0);
}

/// hyper accepts these heads, and closes the connection only after answers that it writes itself.
#[tokio::test]
async fn a_head_that_others_read_differently_is_refused_and_its_connection_closed() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    let length = format!("content-length: {}", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let both = format!("{length}\r\ntransfer-encoding: chunked");
    let reversed = format!("transfer-encoding: chunked\r\n{length}");
    for (head, body) in [
        (format!("host: localhost\n{length}\r\n\r\n"), &body),
        (format!("host: localhost\r\n{length}\n\r\n"), &body),
        (format!("host: localhost\r\n{length}\r\n\n"), &body),
        (format!("host: localhost\r\n{both}\r\n\r\n"), &chunked),
        (format!("host: localhost\r\n{reversed}\r\n\r\n"), &chunked),
    ] {
        let text = format!("POST /v1/streams HTTP/1.1\r\n{head}{body}");
        // As the first request, after a whole answer and after a stream.
        for before in [
            None,
            Some(ClientRequest::new("GET", "/v1/models")),
            Some(ClientRequest::prompt("m")),
        ] {
            let mut client = RawClient::connect(running.clients).await.unwrap();
            if let Some(before) = &before {
                before.send(&mut client).await;
                let answer = within_timeout(client.head()).await.unwrap();
                assert_eq!(answer.status, 200);
                within_timeout(client.body(&answer)).await.unwrap();
            }
            client.write(text.as_bytes()).await.unwrap();
            let answer = within_timeout(client.head()).await.unwrap();
            assert_eq!(answer.status, 400, "{head:?}");
            assert_eq!(answer.headers["connection"], "close", "{head:?}");
            within_timeout(client.body(&answer)).await.unwrap();
            assert_eq!(within_timeout(client.closed()).await, 0, "{head:?}");
        }
    }
}

/// Such a head is not seen as it came, because hyper reads it together with the request before it.
#[tokio::test]
async fn no_request_follows_a_stream_whose_head_was_not_seen() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    let (length, next) = (
        body.len(),
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    let chunked = format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    for stream in [
        format!("content-length: {length}\r\n\r\n{body}"),
        format!("content-length: {length}\r\n{chunked}"),
    ] {
        let stream = format!("POST /v1/streams HTTP/1.1\r\nhost: localhost\r\n{stream}");
        let mut client = RawClient::connect(running.clients).await.unwrap();
        let pipelined = [next, &stream, next].concat();
        client.write(pipelined.as_bytes()).await.unwrap();
        for closes in [false, true] {
            let answer = within_timeout(client.head()).await.unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(
                answer.headers.contains_key("connection"),
                closes,
                "{stream}"
            );
            within_timeout(client.body(&answer)).await.unwrap();
        }
        assert_eq!(within_timeout(client.closed()).await, 0, "{stream}");
    }
}

#[tokio::test]
async fn an_upgrade_to_websocket_is_answered_at_once() {
    let upstream = serve(&fast());
    let running = TestGateway::start(&targets(&[upstream.addr()], ""));
    let asked = ClientRequest::new("GET", "/v1/responses")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut answer = running.ask(&asked).await;
    assert_eq!(answer.status(), 426);
    let error: Value = serde_json::from_slice(&answer.body().await).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("send the request with POST"), "{error}");
    let answer = running
        .ask(&ClientRequest::new("GET", "/v1/responses"))
        .await;
    assert_eq!(answer.status(), 405);
}
