//! Connections: used again where that is safe, closed where it is not, and never asked twice.

use std::time::Duration;

use sluicegate::upstream::exchange::{Endpoint, ExchangeError, Response};

use super::support::{OK_HI, again, connector, endpoint, endpoint_with, first, read, sent};
use crate::gateway::scripted::{Exchange, ScriptedUpstream};

#[tokio::test]
async fn a_connection_is_used_again_behind_either_framing() {
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
async fn a_connection_whose_answer_forbids_it_is_closed() {
    let chunked = "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        // Something behind the body's end.
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
async fn a_connection_that_died_or_spoke_while_it_waited_is_not_used() {
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
async fn a_connection_waits_no_longer_than_it_may() {
    let upstream = ScriptedUpstream::bind().await;
    let short = connector().idle(Duration::from_millis(30));
    let endpoint = endpoint_with(upstream.addr(), &short);
    // Twice: what closes them begins anew.
    for _ in 0..2 {
        first(&upstream, &endpoint, OK_HI).await.closed().await;
    }
    // All that wait go with their upstream.
    let endpoint = super::support::endpoint(upstream.addr());
    let waiting = first(&upstream, &endpoint, OK_HI).await;
    drop(endpoint);
    waiting.closed().await;
}

/// It may have been done, so it is for the caller to say whether it is asked again.
#[tokio::test]
async fn a_request_that_a_kept_connection_took_is_not_sent_again() {
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
async fn no_more_connections_wait_than_may() {
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
    // The last that came is the first to be taken.
    let mut second = exchanges.pop().unwrap();
    let (_response, _second) = begun(&endpoint, async move || {
        assert!(second.next_request().await);
        second
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
async fn every_origin_has_its_own() {
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
    // The same address under another name is another origin, for what a name leads to may change.
    let url = format!("http://localhost:{}", one.addr().port());
    let named_otherwise = Endpoint::new(&url.parse().unwrap(), &connector);
    first(&one, &named_otherwise, OK_HI).await;
}
