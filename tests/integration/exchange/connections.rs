//! One connection: answers that come early, in pieces, broken or not at all, and answers that are
//! dropped.

use std::future::{Future as _, poll_fn};
use std::io::{ErrorKind, Read as _, Write as _};
use std::task::Poll;

use http::HeaderMap;
use sluicegate::upstream::exchange::ExchangeError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::support::{OK_HI, content, endpoint, read, request, sent};
use crate::gateway::scripted::ScriptedUpstream;
use crate::gateway::within_timeout;

#[tokio::test]
async fn dropping_an_answer_closes_its_connection() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange
            .write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
            .await;
        exchange
    };
    let (response, exchange) = tokio::join!(sent(&endpoint), answering);
    drop(response);
    exchange.closed().await;
    // Dropping a request closes its connection too.
    let exchange = tokio::select! {
        _ = sent(&endpoint) => unreachable!("nobody answers"),
        exchange = upstream.request() => exchange,
    };
    exchange.closed().await;
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_written() {
    // More bytes than the kernel buffers.
    let much = "x".repeat(16 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap());
    let asking = async {
        within_timeout(endpoint.send(&request(&endpoint, &much)))
            .await
            .unwrap()
    };
    // An upstream that does not read the request.
    let refusing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        let answer = b"HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let (mut response, mut stream) = tokio::join!(asking, refusing);
    assert_eq!(response.status, 413);
    assert_eq!(read(&mut response.body).await.0, b"no");
    // The connection is not reused, because half a request is on it.
    let mut rest = Vec::new();
    let ended = within_timeout(stream.read_to_end(&mut rest)).await;
    assert!(ended.is_err() || rest.len() < much.len());

    // An upstream that answers while it reads.
    let asking = async {
        let mut response = within_timeout(endpoint.send(&request(&endpoint, &much)))
            .await
            .unwrap();
        read(&mut response.body).await
    };
    let reading = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
        stream.write_all(answer).await.unwrap();
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 16]);
        while bytes < much.len() {
            bytes += within_timeout(stream.read(&mut buffer)).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        stream
    };
    let ((content_read, end), mut stream) = tokio::join!(asking, reading);
    assert_eq!(content_read, b"hi");
    end.unwrap();
    // The connection is not reused, because the answer may be another request's.
    let mut rest = Vec::new();
    within_timeout(stream.read_to_end(&mut rest)).await.unwrap();
}

/// Such an answer cannot be the request's own.
#[tokio::test]
async fn a_connection_whose_answer_was_there_when_the_request_was_written_is_not_reused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap());
    for _ in 0..2 {
        let asking = endpoint.post("/v1/chat", &HeaderMap::new(), b"{}".to_vec());
        let mut asking = Box::pin(endpoint.send(&asking));
        // The connection is opened, and its handshake is over, when the first poll returns.
        let polled = poll_fn(|context| Poll::Ready(asking.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(OK_HI.as_bytes()).unwrap();
        let answered = within_timeout(asking).await;
        assert_eq!(content(answered).await, "hi");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("POST /v1/chat "), "{rest}");
    }
}

/// The error for an upstream that writes these bytes at once and closes the connection.
async fn answered(bytes: &str) -> Result<String, ExchangeError> {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.write(bytes).await;
    };
    let (response, ()) = tokio::join!(sent(&endpoint), answering);
    let response = response?;
    let status = response.status.as_u16();
    Ok(format!("{status} {}", content(Ok(response)).await))
}

#[tokio::test]
async fn informational_heads_are_skipped_within_bounds() {
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let before = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let content_read = answered(&format!("{before}{last}")).await;
    assert_eq!(content_read.unwrap(), "200 hi");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n";
    for malformed in [&before.repeat(2000), switched] {
        let answer = answered(malformed).await;
        assert!(matches!(answer, Err(ExchangeError::Malformed(_))));
    }
}

#[tokio::test]
async fn a_malformed_answer_differs_from_none() {
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(70_000));
    for malformed in ["SSH-2.0-x\r\n", "HTTP/2 200 OK\r\n\r\n", &endless] {
        let answer = answered(malformed).await;
        assert!(
            matches!(answer, Err(ExchangeError::Malformed(_))),
            "{answer:?}"
        );
    }
    for closed in [
        "",
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let answer = answered(closed).await;
        assert!(
            matches!(answer, Err(ExchangeError::Closed(_))),
            "{closed:?}"
        );
    }
    let nobody = ScriptedUpstream::bind().await.addr();
    let refused = sent(&endpoint(nobody)).await;
    assert!(matches!(refused, Err(ExchangeError::Connect(..))));
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let answering = async {
        let mut exchange = upstream.request().await;
        let early = "HTTP/1.1 103 Early Hints\r\n\r\n";
        for byte in format!("{early}{OK_HI}").bytes() {
            exchange.write([byte]).await;
        }
        exchange
    };
    let (response, _exchange) = tokio::join!(sent(&endpoint), answering);
    assert_eq!(content(response).await, "hi");
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_an_error() {
    for (framing, whole) in [
        ("content-length: 3\r\n\r\nhi", false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nhi", false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", false),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            true,
        ),
        // Only the connection's end delimits this body.
        ("\r\nhi", true),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let endpoint = endpoint(upstream.addr());
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange
                .write(format!("HTTP/1.1 200 OK\r\n{framing}"))
                .await;
        };
        let (response, ()) = tokio::join!(sent(&endpoint), answering);
        let (content_read, end) = read(&mut response.unwrap().body).await;
        assert_eq!(content_read, b"hi", "{framing:?}");
        let error = end.err().map(|error| error.kind());
        let expected = (!whole).then_some(ErrorKind::UnexpectedEof);
        assert_eq!(error, expected, "{framing:?}");
    }
}

#[tokio::test]
async fn a_body_whose_connection_is_reset_is_an_error() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.write("HTTP/1.1 200 OK\r\n\r\nhi").await;
        exchange
    };
    let (response, exchange) = tokio::join!(sent(&endpoint), answering);
    exchange.reset();
    let (_, end) = read(&mut response.unwrap().body).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
