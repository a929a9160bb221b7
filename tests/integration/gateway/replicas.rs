//! Several replicas with one store: a stream can be read on every replica.

use std::time::Duration;

use serde_json::Value;
use sluicegate::fixture::{Options, Pace};

use super::client::{Answer, ClientRequest, check_order, outcome, text};
use super::harness::{TestGateway, resumable_targets};
use super::scripted::{Exchange, ScriptedUpstream};
use super::within_timeout;
use crate::fixture_server::serve;
use crate::valkey::Valkey;

pub fn state(valkey: &Valkey) -> String {
    format!("state: {}", valkey.url())
}

/// Two replicas of one gateway.
pub async fn pair(
    upstream: &ScriptedUpstream,
    valkey: &Valkey,
    resume: &str,
) -> (TestGateway, TestGateway) {
    let replica = || TestGateway::with_resume(&[upstream.addr()], resume, &state(valkey));
    let (one, other) = (replica(), replica());
    for replica in [&one, &other] {
        within_timeout(
            replica
                .gateway
                .app()
                .store
                .as_ref()
                .unwrap()
                .wait_until_up(),
        )
        .await;
    }
    (one, other)
}

pub async fn started(
    running: &TestGateway,
    upstream: &ScriptedUpstream,
) -> (Answer, Exchange, String) {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange
    };
    let (mut answer, exchange) = tokio::join!(running.prompt(), answering);
    let start = answer.expect("start").await;
    answer.expect("token").await;
    let stream = start["stream"].as_str().unwrap().to_owned();
    (answer, exchange, stream)
}

/// Reads a stream on a replica that does not produce it, as soon as that replica knows it.
pub async fn viewed(running: &TestGateway, stream: &str) -> Answer {
    let events = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
    within_timeout(async {
        loop {
            let answer = running.ask(&events).await;
            if answer.status() != 404 {
                return answer;
            }
        }
    })
    .await
}

pub async fn status(running: &TestGateway, stream: &str) -> (u16, Value) {
    let mut answer = running
        .ask(&ClientRequest::new("GET", format!("/v1/streams/{stream}")))
        .await;
    let body = answer.body().await;
    (answer.status(), serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_stream_is_read_live_on_another_replica() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (mut own, mut exchange, stream) = started(&here, &upstream).await;
    let mut reader = viewed(&there, &stream).await;
    let mut seen = vec![reader.event().await.unwrap(), reader.event().await.unwrap()];
    exchange.token("two ").await;
    seen.push(reader.event().await.unwrap());
    assert_eq!(status(&there, &stream).await.1["state"], "running");
    exchange.token("three").await;
    exchange.finish().await;
    seen.extend(reader.rest().await);
    check_order(&seen);
    assert_eq!(text(&seen), "one two three");
    assert_eq!(own.rest().await, seen[2..]);
    let (code, body) = status(&there, &stream).await;
    assert_eq!((code, &body["state"]), (200, &Value::from("complete")));
    assert_eq!(body["text"], "one two three");
    // A client that has the whole stream gets 204 on every replica.
    let back = ClientRequest::prompt("m").header("last-event-id", &seen.last().unwrap().id);
    assert_eq!(there.ask(&back).await.status(), 204);
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_client_resumes_on_another_replica() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1s }").await;
    let (answer, mut exchange, stream) = started(&here, &upstream).await;
    drop(answer);
    viewed(&there, &stream).await;
    let back = ClientRequest::prompt("m").header("last-event-id", format!("{stream}.1"));
    let mut answer = there.ask(&back).await;
    // Far longer than the window: the stream has a reader, although not on its producer.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    exchange.token("two").await;
    exchange.finish().await;
    let events = answer.rest().await;
    assert_eq!(text(&events), "two");
    assert_eq!(events[0].id, format!("{stream}.2"));
    assert_eq!(outcome(&events), "");
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_reader_on_another_replica_has_the_whole_window_to_come_back() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 5s }").await;
    let (answer, mut exchange, stream) = started(&here, &upstream).await;
    let reader = viewed(&there, &stream).await;
    drop(answer);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    drop(reader);
    // Longer than the window of the producer, and within the window of the last remote reader.
    tokio::time::sleep(Duration::from_millis(4100)).await;
    let back = ClientRequest::prompt("m").header("last-event-id", format!("{stream}.1"));
    let mut answer = there.ask(&back).await;
    exchange.token("two").await;
    exchange.finish().await;
    assert_eq!(text(&answer.rest().await), "two");
}

#[tokio::test]
async fn other_replicas_find_a_stream_from_its_first_event() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    for _ in 0..5 {
        let (_answer, _exchange, stream) = started(&here, &upstream).await;
        let events = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
        assert_eq!(there.ask(&events).await.status(), 200);
    }
}

#[tokio::test]
async fn other_replicas_find_a_background_stream_before_its_first_event() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let asked = ClientRequest::prompt("m").header("prefer", "respond-async");
    let mut accepted = here.ask(&asked).await;
    let body: Value = serde_json::from_slice(&accepted.body().await).unwrap();
    let stream = body["stream"].as_str().unwrap();
    let mut exchange = upstream.request().await;
    let events = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
    let mut reader = there.ask(&events).await;
    assert_eq!(status(&there, stream).await.1["state"], "running");
    exchange.begin().await;
    exchange.token("one").await;
    exchange.finish().await;
    assert_eq!(text(&reader.events().await), "one");
}

#[tokio::test]
async fn readers_get_an_error_when_their_replica_leaves_the_shared_state() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (_answer, _exchange, stream) = started(&here, &upstream).await;
    let mut reader = viewed(&there, &stream).await;
    reader.expect("start").await;
    reader.expect("token").await;
    there.reload(&resumable_targets(&[upstream.addr()], "{ window: 1h }", ""));
    let error = reader.expect("error").await;
    assert_eq!(error["error"]["code"], "stream_interrupted");
    assert_eq!(reader.event().await, None);
}

#[tokio::test]
async fn late_writes_of_a_slow_store_leave_no_gap() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (mut answer, mut exchange, stream) = started(&here, &upstream).await;
    let mut reader = viewed(&there, &stream).await;
    reader.expect("start").await;
    reader.expect("token").await;
    valkey.stall();
    exchange.token("two ").await;
    answer.expect("token").await;
    // The write is on its way to the store, which accepts it after the gateway has stopped waiting.
    let store = here.gateway.app().store.clone().unwrap();
    within_timeout(async {
        while store.is_up() {
            tokio::task::yield_now().await
        }
    })
    .await;
    exchange.token("three ").await;
    answer.expect("token").await;
    valkey.resume();
    exchange.token("four").await;
    exchange.finish().await;
    let events = reader.rest().await;
    assert_eq!(
        (text(&events).as_str(), outcome(&events)),
        ("two three four", "")
    );
}

#[tokio::test]
async fn every_replica_can_cancel_a_stream() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (mut answer, exchange, stream) = started(&here, &upstream).await;
    viewed(&there, &stream).await;
    let cancel = ClientRequest::new("DELETE", format!("/v1/streams/{stream}"));
    let mut cancelled = there.ask(&cancel).await;
    assert_eq!(cancelled.status(), 200);
    let body: Value = serde_json::from_slice(&cancelled.body().await).unwrap();
    assert_eq!(body["state"], "cancelled");
    exchange.closed().await;
    assert_eq!(
        answer.expect("complete").await["finish_reason"],
        "cancelled"
    );
}

#[tokio::test]
async fn ended_and_abandoned_streams_are_gone_on_every_replica() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 300ms }").await;
    let (answer, exchange, left) = started(&here, &upstream).await;
    drop(viewed(&there, &left).await);
    drop(answer);
    exchange.closed().await;
    let (mut answer, mut exchange, ended) = started(&here, &upstream).await;
    drop(viewed(&there, &ended).await);
    exchange.finish().await;
    answer.rest().await;
    for stream in [left, ended] {
        within_timeout(async { while status(&there, &stream).await.0 != 410 {} }).await;
        let (code, body) = status(&there, &stream).await;
        assert_eq!((code, &body["error"]["code"]), (410, &Value::from("gone")));
    }
    let unknown = format!("st_{}", "a".repeat(26));
    assert_eq!(status(&there, &unknown).await.0, 404);
}

#[tokio::test]
async fn a_stream_continues_without_the_store_and_is_stored_later() {
    let (upstream, mut valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (mut answer, mut exchange, stream) = started(&here, &upstream).await;
    valkey.kill();
    exchange.token("two ").await;
    answer.expect("token").await;
    // Another replica cannot know whether the stream exists.
    within_timeout(async {
        loop {
            let (code, body) = status(&there, &stream).await;
            if code == 503 {
                return assert_eq!(body["error"]["retryable"], true);
            }
        }
    })
    .await;
    // Its producer still serves it.
    assert_eq!(status(&here, &stream).await.1["text"], "one two ");
    valkey.restart();
    for replica in [&here, &there] {
        within_timeout(
            replica
                .gateway
                .app()
                .store
                .as_ref()
                .unwrap()
                .wait_until_up(),
        )
        .await;
    }
    exchange.token("three").await;
    exchange.finish().await;
    assert_eq!(outcome(&answer.rest().await), "");
    // What the store lost is `gone` for remote readers; newer events are there.
    let back = ClientRequest::prompt("m").header("last-event-id", format!("{stream}.2"));
    within_timeout(async {
        loop {
            let mut answer = there.ask(&back).await;
            if answer.status() == 200 {
                let events = answer.rest().await;
                return assert_eq!((text(&events).as_str(), outcome(&events)), ("three", ""));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_store_outage_does_not_end_a_stream_with_remote_readers() {
    let (upstream, mut valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 300ms }").await;
    for forgets in [false, true] {
        let (answer, mut exchange, stream) = started(&here, &upstream).await;
        let mut reader = viewed(&there, &stream).await;
        reader.expect("start").await;
        reader.expect("token").await;
        if forgets {
            valkey.kill();
        } else {
            valkey.stall();
        }
        drop(answer);
        // The window passes, but the store cannot say whether the stream has remote readers.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        if forgets {
            valkey.restart();
        } else {
            valkey.resume();
        }
        for replica in [&here, &there] {
            within_timeout(
                replica
                    .gateway
                    .app()
                    .store
                    .as_ref()
                    .unwrap()
                    .wait_until_up(),
            )
            .await;
        }
        // The window passes again, and now the store answers.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        exchange.token("two").await;
        exchange.finish().await;
        let events = reader.rest().await;
        assert_eq!((text(&events).as_str(), outcome(&events)), ("two", ""));
    }
}

#[tokio::test]
async fn a_stream_without_readers_ends_during_a_store_outage() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, _there) = pair(&upstream, &valkey, "{ window: 100ms }").await;
    let (answer, exchange, stream) = started(&here, &upstream).await;
    valkey.stall();
    drop(answer);
    exchange.closed().await;
    let (code, body) = status(&here, &stream).await;
    assert_eq!((code, &body["error"]["code"]), (410, &Value::from("gone")));
}

#[tokio::test]
async fn tokens_do_not_cost_a_round_trip_each() {
    let valkey = Valkey::start();
    let upstream = serve(&Options {
        pace: Pace::Every(Duration::from_millis(2)),
        ..Options::default()
    });
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 1h }", &state(&valkey));
    within_timeout(
        running
            .gateway
            .app()
            .store
            .as_ref()
            .unwrap()
            .wait_until_up(),
    )
    .await;
    let asked = "sluicegate_store_round_trips_total";
    let before = running.metric(asked).await;
    let mut tokens = 0;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let clients_at = running.clients;
        clients.spawn(async move {
            let mut client = crate::raw_client::RawClient::connect(clients_at)
                .await
                .unwrap();
            ClientRequest::prompt("m").send(&mut client).await;
            let head = client.head().await.unwrap();
            Answer::new(head, client).events().await.len()
        });
    }
    while let Some(events) = clients.join_next().await {
        tokens += events.unwrap();
    }
    let trips = running.metric(asked).await - before;
    assert!(trips > 0.0, "nothing was stored");
    assert!(
        trips < tokens as f64 / 10.0,
        "{trips} round trips for {tokens} events"
    );
}
