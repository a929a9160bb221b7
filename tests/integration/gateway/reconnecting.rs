//! Clients that come back with `Last-Event-ID` get a true answer and never a new generation.

use sluicegate::fixture::{Fault, Options};

use super::client::ClientRequest;
use super::harness::TestGateway;
use super::within_timeout;
use crate::fixture_server::{fast, serve};

/// The requests of both methods.
fn returns(id: &str) -> [ClientRequest; 2] {
    [
        ClientRequest::prompt("m").header("last-event-id", id),
        ClientRequest::new("GET", "/v1/streams?model=m&prompt=Hello").header("last-event-id", id),
    ]
}

#[tokio::test]
async fn a_reconnect_after_the_end_gets_204() {
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
    // Missing events are not kept, and 204 would hide that.
    for asked in returns(&events[3].id) {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 410);
        assert_eq!(answer.error().await["code"], "gone");
    }
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn a_reconnect_after_an_error_gets_204() {
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
async fn without_a_window_a_returning_client_gets_410() {
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
async fn unknown_and_invalid_ids_ask_no_model() {
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
async fn an_empty_id_counts_as_no_id() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for asked in returns("") {
        assert_eq!(running.ask(&asked).await.status(), 200);
    }
    assert_eq!(upstream.request_count(), 2);
}
