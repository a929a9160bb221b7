//! The pool: connections are reused where that is safe and closed where it is not, and no request
//! is sent twice.

use std::time::Duration;

use sluicegate::upstream::exchange::{Endpoint, ExchangeError, Response, Reuse};

use super::support::{OK_HI, again, connector, endpoint, endpoint_with, first, read, sent};
use crate::gateway::scripted::{Exchange, ScriptedUpstream};

#[tokio::test]
async fn a_connection_is_reused_after_either_body_length() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n";
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    let unmodified = "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n";
    let old = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi";
    let mut exchange = first(&upstream, &endpoint, OK_HI).await;
    for (answer, expected) in [
        (chunked, "hi"),
        (empty, ""),
        (unmodified, ""),
        (old, "hi"),
        (OK_HI, "hi"),
    ] {
        let content_read = again(&mut exchange, &endpoint, answer).await;
        assert_eq!(content_read, expected, "{answer:?}");
    }
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_connection_that_must_not_persist_is_closed() {
    let chunked = "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        // Bytes after the body's end.
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi!",
        &format!("HTTP/1.1 200 OK\r\n{chunked}HTTP/1.1"),
        // Two lengths.
        &format!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n{chunked}"),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let endpoint = endpoint(upstream.addr());
        first(&upstream, &endpoint, answer).await.closed().await;
        first(&upstream, &endpoint, OK_HI).await;
    }
}

#[tokio::test]
async fn a_connection_that_closed_or_sent_bytes_while_idle_is_not_reused() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    drop(first(&upstream, &endpoint, OK_HI).await);
    first(&upstream, &endpoint, OK_HI).await.reset();
    let mut talkative = first(&upstream, &endpoint, OK_HI).await;
    talkative
        .write("HTTP/1.1 408 Request Timeout\r\n\r\n")
        .await;
    drop(first(&upstream, &endpoint, OK_HI).await);
    talkative.closed().await;
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn an_idle_connection_expires() {
    let upstream = ScriptedUpstream::bind().await;
    let short = connector().idle(Duration::from_millis(30));
    let endpoint = endpoint_with(upstream.addr(), &short);
    // Twice, because a new task expires the second one.
    for _ in 0..2 {
        first(&upstream, &endpoint, OK_HI).await.closed().await;
    }
    // Idle connections are closed with their endpoint.
    let endpoint = super::support::endpoint(upstream.addr());
    let waiting = first(&upstream, &endpoint, OK_HI).await;
    drop(endpoint);
    waiting.closed().await;
}

/// The upstream may have processed it, so the caller decides whether to send it again.
#[tokio::test]
async fn a_request_on_a_reused_connection_is_not_sent_again() {
    for part in ["", "HTTP/1.1 200"] {
        let upstream = ScriptedUpstream::bind().await;
        let endpoint = endpoint(upstream.addr());
        let mut exchange = first(&upstream, &endpoint, OK_HI).await;
        let dying = async {
            assert!(exchange.next_request().await);
            exchange.write(part).await;
            drop(exchange);
        };
        let (answer, ()) = tokio::join!(sent(&endpoint), dying);
        assert!(matches!(answer, Err(ExchangeError::Closed(_))), "{part:?}");
        assert!(!upstream.was_asked_again());
    }
}

#[tokio::test]
async fn idle_connections_are_bounded() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint_with(upstream.addr(), &connector().max_idle(2));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(begun(&endpoint, async || upstream.request().await).await);
    }
    let mut exchanges = Vec::new();
    for (mut response, mut exchange) in open {
        exchange.write("hi").await;
        assert_eq!(read(&mut response.body).await.0, b"hi");
        exchanges.push(exchange);
    }
    exchanges.pop().unwrap().closed().await;
    // The one that rested longest is taken first.
    let mut first = exchanges.remove(0);
    let (_response, _first) = begun(&endpoint, async move || {
        assert!(first.next_request().await);
        first
    })
    .await;
    assert_eq!(again(&mut exchanges[0], &endpoint, OK_HI).await, "hi");
    assert!(!upstream.was_asked_again());
}

/// An answer whose body is still to come.
async fn begun(endpoint: &Endpoint, asked: impl AsyncFnOnce() -> Exchange) -> (Response, Exchange) {
    let answering = async {
        let mut exchange = asked().await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        exchange.write(head).await;
        exchange
    };
    let (response, exchange) = tokio::join!(sent(endpoint), answering);
    (response.unwrap(), exchange)
}

#[tokio::test]
async fn every_endpoint_has_its_own_connections() {
    let (one, other) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let connector = connector();
    let to_one = endpoint_with(one.addr(), &connector);
    let to_other = endpoint_with(other.addr(), &connector);
    let mut at_one = first(&one, &to_one, OK_HI).await;
    let mut at_other = first(&other, &to_other, OK_HI).await;
    let named = |name| format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{name}");
    for _ in 0..2 {
        let content_read = again(&mut at_one, &to_one, &named("first")).await;
        assert_eq!(content_read, "first");
        let content_read = again(&mut at_other, &to_other, &named("other")).await;
        assert_eq!(content_read, "other");
    }
    // The same address under another name is another endpoint, because a name's address may change.
    let url = format!("http://localhost:{}", one.addr().port());
    let named_otherwise = Endpoint::new(&url.parse().unwrap(), &connector);
    first(&one, &named_otherwise, OK_HI).await;
}

/// How long the connections of [`resting`] rest.
const REST: Duration = Duration::from_millis(100);

/// An endpoint whose connections rest before they are reused.
fn resting(upstream: &ScriptedUpstream) -> Endpoint {
    endpoint_with(upstream.addr(), &connector().max_rest(REST))
}

#[tokio::test]
async fn a_connection_rests_before_it_is_reused() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = resting(&upstream);
    let mut one = first(&upstream, &endpoint, OK_HI).await;
    // The first connection still rests, so this request opens another.
    let _other = first(&upstream, &endpoint, OK_HI).await;
    tokio::time::sleep(REST).await;
    assert_eq!(again(&mut one, &endpoint, OK_HI).await, "hi");
}

#[tokio::test]
async fn after_a_stray_answer_no_connection_is_reused() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = resting(&upstream);
    let mut one = first(&upstream, &endpoint, OK_HI).await;
    let other = first(&upstream, &endpoint, OK_HI).await;
    one.write(OK_HI.replace("hi", "no")).await;
    tokio::time::sleep(REST).await;
    for _ in 0..3 {
        drop(first(&upstream, &endpoint, OK_HI).await);
    }
    one.closed().await;
    other.closed().await;
}

/// The upstream answers one request twice, the second time when another request is on the way.
#[tokio::test]
async fn a_stray_answer_reaches_one_request_at_most() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = resting(&upstream);
    let mut exchange = first(&upstream, &endpoint, OK_HI).await;
    tokio::time::sleep(REST).await;
    let stray = OK_HI.replace("hi", "no");
    assert_eq!(again(&mut exchange, &endpoint, &stray).await, "no");
    // The real answer to that request.
    exchange.write(OK_HI).await;
    tokio::time::sleep(REST).await;
    for _ in 0..3 {
        drop(first(&upstream, &endpoint, OK_HI).await);
    }
    exchange.closed().await;
}

/// A server that closes idle connections after a second may close one at any moment then.
#[tokio::test]
async fn a_connection_is_not_reused_past_the_servers_own_timeout() {
    for (header, reused) in [
        ("keep-alive: timeout=1", false),
        ("keep-alive: max=9, Timeout=0", false),
        ("keep-alive: timeout=60", true),
        ("keep-alive: soon", true),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let endpoint = endpoint(upstream.addr());
        let answer = OK_HI.replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
        let mut exchange = first(&upstream, &endpoint, &answer).await;
        if reused {
            assert_eq!(
                again(&mut exchange, &endpoint, OK_HI).await,
                "hi",
                "{header}"
            );
        } else {
            drop(first(&upstream, &endpoint, OK_HI).await);
            exchange.closed().await;
        }
    }
}

/// A notice that the server closes an idle connection is no stray answer.
#[tokio::test]
async fn a_408_on_an_idle_connection_only_closes_it() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let mut one = first(&upstream, &endpoint, OK_HI).await;
    one.write("HTTP/1.1 408 Request Timeout\r\n\r\n").await;
    let mut other = first(&upstream, &endpoint, OK_HI).await;
    one.closed().await;
    assert_eq!(again(&mut other, &endpoint, OK_HI).await, "hi");
}

#[tokio::test]
async fn a_connection_is_closed_after_its_requests_its_age_or_always() {
    let reuse = |requests, age| Some(Reuse { requests, age });
    let long = Duration::from_secs(600);
    for (reuse, requests) in [
        (reuse(2, long), 2),
        (reuse(1, long), 1),
        (reuse(1000, Duration::ZERO), 1),
        (None, 1),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let endpoint = endpoint_with(upstream.addr(), &connector().reuse(reuse));
        let mut exchange = first(&upstream, &endpoint, OK_HI).await;
        for _ in 1..requests {
            assert_eq!(again(&mut exchange, &endpoint, OK_HI).await, "hi");
        }
        exchange.closed().await;
        drop(first(&upstream, &endpoint, OK_HI).await);
    }
}
