//! Clients that come back with `Last-Event-ID`: a true answer, and never a new generation.

use sluicegate::fixture::{Fault, Options};

use super::client::ClientRequest;
use super::harness::TestGateway;
use super::within_timeout;
use crate::fixture_server::{fast, serve};

/// How both methods ask again.
fn returns(id: &str) -> [ClientRequest; 2] {
    [
        ClientRequest::prompt("m").header("last-event-id", id),
        ClientRequest::new("GET", "/v1/streams?model=m&prompt=Hello").header("last-event-id", id),
    ]
}

#[tokio::test]
async fn after_the_end_there_is_nothing_more() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let events = running.prompt().await.events().await;
    running.wait_idle().await;
    for asked in returns(&events.last().unwrap().id) {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.body().await, b"");
        assert!(answer.has("x-request-id"));
    }
    // Nothing is kept for a client that lacks something, and 204 would hide that.
    for asked in returns(&events[3].id) {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 410);
        assert_eq!(answer.error().await["code"], "gone");
    }
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn after_an_error_there_is_nothing_more_either() {
    let upstream = serve(&Options {
        fault: Some(Fault::Truncate { after: 5 }),
        ..fast()
    });
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let events = running.prompt().await.events().await;
    for asked in returns(&events.last().unwrap().id) {
        assert_eq!(running.ask(&asked).await.status(), 204);
    }
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn who_left_finds_the_stream_gone() {
    let upstream = serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    });
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut answer = running.prompt().await;
    let start = answer.event().await.unwrap();
    drop(answer);
    within_timeout(upstream.closed_by_client(1)).await;
    running.wait_idle().await;
    for asked in returns(&start.id) {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 410);
        assert_eq!(answer.error().await["code"], "gone");
    }
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn an_id_that_is_unknown_or_none_asks_no_model() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let foreign = format!("st_{}.3", "a".repeat(26));
    for (id, status, code) in [
        (foreign.as_str(), 404, "not_found"),
        ("st_.1", 400, "invalid_request"),
        ("17", 400, "invalid_request"),
        ("null", 400, "invalid_request"),
        ("st_aaaaaaaaaaaaaaaaaaaaaaaaaa", 400, "invalid_request"),
        ("st_aaaaaaaaaaaaaaaaaaaaaaaaaa.-1", 400, "invalid_request"),
        ("\u{e9}", 400, "invalid_request"),
    ] {
        for asked in returns(id) {
            let mut answer = running.ask(&asked).await;
            assert_eq!(answer.status(), status, "{id}");
            assert_eq!(answer.error().await["code"], code, "{id}");
        }
    }
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn an_empty_id_is_a_first_visit() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for asked in returns("") {
        assert_eq!(running.ask(&asked).await.status(), 200);
    }
    assert_eq!(upstream.request_count(), 2);
}
