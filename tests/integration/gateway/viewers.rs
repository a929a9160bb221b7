//! Streams with several viewers, streams without any, and cancelled ones.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::fixture::{Options, Pace};
use tokio::task::JoinSet;

use super::client::{Answer, ClientRequest, outcome, text};
use super::harness::{TestGateway, resumable_targets};
use super::keys::key;
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::fixture_server::{fast, serve};

const LONG: &str = "{ window: 1h }";

/// Opens a stream with `prefer: respond-async`; returns its id.
async fn open_background_stream(running: &TestGateway, asked: ClientRequest) -> String {
    let mut answer = running
        .ask(&asked.header("prefer", "respond-async, wait=5"))
        .await;
    assert_eq!(answer.status(), 202);
    let body: Value = serde_json::from_slice(&answer.body().await).unwrap();
    let stream = body["stream"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/v1/streams/{stream}"));
    assert_eq!(answer.header("preference-applied"), "respond-async");
    assert_eq!(body["events"], format!("/v1/streams/{stream}/events"));
    stream
}

#[tokio::test]
async fn a_viewer_that_leaves_before_the_first_event_can_come_back() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let stream = open_background_stream(&running, ClientRequest::prompt("m")).await;
    let mut exchange = upstream.request().await;
    drop(view(&running, &stream).await);
    within_timeout(async { while running.metric("sluicegate_readers").await > 0.0 {} }).await;
    let mut answer = view(&running, &stream).await;
    exchange.begin().await;
    exchange.token("one").await;
    exchange.finish().await;
    assert_eq!(text(&answer.events().await), "one");
}

async fn view(running: &TestGateway, stream: &str) -> Answer {
    running
        .ask(&ClientRequest::new(
            "GET",
            format!("/v1/streams/{stream}/events"),
        ))
        .await
}

async fn status(running: &TestGateway, stream: &str) -> Value {
    let mut answer = running
        .ask(&ClientRequest::new("GET", format!("/v1/streams/{stream}")))
        .await;
    assert_eq!(answer.status(), 200);
    serde_json::from_slice(&answer.body().await).unwrap()
}

#[tokio::test]
async fn a_background_stream_is_read_later_by_many() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let stream = open_background_stream(&running, ClientRequest::prompt("m")).await;
    // It ends although it never had a viewer.
    running.wait_idle().await;
    let first = view(&running, &stream).await.events().await;
    for _ in 0..3 {
        assert_eq!(view(&running, &stream).await.events().await, first);
    }
    let status = status(&running, &stream).await;
    let complete = first.last().unwrap();
    assert_eq!(status["state"], "complete");
    assert_eq!(status["text"], text(&first));
    assert_eq!(status["usage"], complete.data["usage"]);
    assert_eq!(status["finish_reason"], "stop");
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn a_failed_background_stream_ends_in_an_error_event() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let stream = open_background_stream(&running, ClientRequest::prompt("m")).await;
    upstream.request().await.answer(500, "", "{}").await;
    let events = view(&running, &stream).await.events().await;
    assert_eq!(outcome(&events), "upstream_unavailable");
    let status = status(&running, &stream).await;
    assert_eq!(
        (&status["state"], &status["text"]),
        (&json!("error"), &json!(""))
    );
    assert_eq!(status["error"]["code"], "upstream_unavailable");
}

#[tokio::test]
async fn all_viewers_read_the_same_events() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 100ms }", "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchange
    };
    let (mut first, mut exchange) = tokio::join!(running.prompt(), answering);
    let start = first.event().await.unwrap();
    let stream = start.data["stream"].as_str().unwrap().to_owned();
    let mut second = view(&running, &stream).await;
    second.expect("start").await;
    second.expect("token").await;
    // The viewer that drives the stream leaves, and the other one drives it.
    drop(first);
    exchange.token("two").await;
    second.expect("token").await;
    let mut third = view(&running, &stream).await;
    assert_eq!(status(&running, &stream).await["state"], "running");
    assert_eq!(status(&running, &stream).await["text"], "onetwo");
    drop(second);
    exchange.token("three").await;
    exchange.finish().await;
    assert_eq!(text(&third.events().await), "onetwothree");
}

#[tokio::test]
async fn a_viewer_that_does_not_read_falls_behind_and_slows_no_other() {
    let upstream = ScriptedUpstream::bind().await;
    let running =
        TestGateway::with_resume(&[upstream.addr()], "{ window: 1h, buffer: 256KiB }", "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("first").await;
        exchange
    };
    let (mut quick, mut exchange) = tokio::join!(running.prompt(), answering);
    let start = quick.expect("start").await;
    let stream = start["stream"].as_str().unwrap();
    let mut slow = view(&running, stream).await;
    quick.expect("token").await;
    let words = "x".repeat(100_000);
    let writing = async {
        // Far more than the buffers of two kernels.
        for _ in 0..200 {
            exchange.token(&words).await;
        }
        exchange.finish().await;
    };
    let reading = async {
        for _ in 0..200 {
            quick.expect("token").await;
        }
        quick.expect("complete").await;
    };
    within_timeout(async { tokio::join!(writing, reading) }).await;
    // It reads what its connection had taken, and then gets `gone`.
    let events = slow.rest().await;
    assert_eq!(events[0].name, "start");
    assert!(events.len() < 200, "{}", events.len());
    assert_eq!(outcome(&events), "gone");
    // Its id is that of the last event it has, so that coming back skips nothing.
    let [.., read, gone] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(gone.id, read.id);
    let events = format!("/v1/streams/{stream}/events");
    let back = ClientRequest::new("GET", events).header("last-event-id", &gone.id);
    assert_eq!(running.ask(&back).await.status(), 410);
}

#[tokio::test]
async fn a_cancelled_stream_closes_its_upstream_and_completes_for_all_viewers() {
    for window in ["1h", "0s"] {
        let upstream = ScriptedUpstream::bind().await;
        let resume = format!("{{ window: {window} }}");
        let running = TestGateway::with_resume(&[upstream.addr()], &resume, "");
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.token("one").await;
            exchange
        };
        let (mut answer, exchange) = tokio::join!(running.prompt(), answering);
        let start = answer.expect("start").await;
        answer.expect("token").await;
        let stream = start["stream"].as_str().unwrap();
        let cancel = ClientRequest::new("DELETE", format!("/v1/streams/{stream}"));
        let mut cancelled = running.ask(&cancel).await;
        assert_eq!(cancelled.status(), 200);
        let body: Value = serde_json::from_slice(&cancelled.body().await).unwrap();
        assert_eq!(body["state"], "cancelled");
        exchange.closed().await;
        assert_eq!(
            answer.expect("complete").await["finish_reason"],
            "cancelled"
        );
        assert_eq!(answer.event().await, None);
        running.wait_idle().await;
        // A second cancellation changes nothing, or finds nothing.
        let again = running.ask(&cancel).await.status();
        assert_eq!(again, if window == "0s" { 410 } else { 200 });
        let labels = "dialect=\"native\",model=\"m\",outcome=\"cancelled\"";
        let metric = format!("sluicegate_requests_total{{{labels}}}");
        assert_eq!(running.metric(&metric).await, 1.0);
    }
}

#[tokio::test]
async fn a_stream_is_cancelled_before_a_target_answers() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let stream = open_background_stream(&running, ClientRequest::prompt("m")).await;
    let exchange = upstream.request().await;
    let cancel = ClientRequest::new("DELETE", format!("/v1/streams/{stream}"));
    assert_eq!(running.ask(&cancel).await.status(), 200);
    exchange.closed().await;
    let events = view(&running, &stream).await.events().await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].data["finish_reason"], "cancelled");
}

#[tokio::test]
async fn only_the_key_that_opened_a_stream_can_cancel_it() {
    let upstream = ScriptedUpstream::bind().await;
    let keys = format!(
        "keys:\n{}{}",
        key("one", "key-one", ""),
        key("two", "key-two", "")
    );
    let running = TestGateway::start(&resumable_targets(&[upstream.addr()], LONG, &keys));
    let stream = open_background_stream(&running, ClientRequest::prompt("m").key("key-one")).await;
    let _exchange = upstream.request().await;
    let cancel = || ClientRequest::new("DELETE", format!("/v1/streams/{stream}"));
    for (asked, status) in [
        (cancel(), 401),
        (cancel().key("key-unknown"), 401),
        (cancel().key("key-two"), 403),
    ] {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), status);
        answer.error().await;
    }
    // The id is enough to read the stream.
    assert_eq!(status(&running, &stream).await["state"], "running");
    let viewing = tokio::spawn({
        let clients = running.clients;
        let asked = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
        async move {
            let mut client = crate::raw_client::RawClient::connect(clients)
                .await
                .unwrap();
            asked.send(&mut client).await;
            let head = client.head().await.unwrap();
            Answer::new(head, client).events().await
        }
    });
    within_timeout(async { while running.metric("sluicegate_readers").await < 1.0 {} }).await;
    assert_eq!(running.ask(&cancel().key("key-one")).await.status(), 200);
    let events = viewing.await.unwrap();
    assert_eq!(events[1].data["finish_reason"], "cancelled");
}

#[tokio::test]
async fn readers_are_bounded_per_stream_and_per_address() {
    let upstream = ScriptedUpstream::bind().await;
    // A stream may have two readers, and an address four.
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "limits: { streams: 8 }");
    let mut exchanges = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(open_background_stream(&running, ClientRequest::prompt("m")).await);
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchanges.push(exchange);
    }
    let mut readers = Vec::new();
    for stream in &streams[..2] {
        for _ in 0..2 {
            let mut reader = view(&running, stream).await;
            reader.expect("start").await;
            readers.push(reader);
        }
        let mut refused = view(&running, stream).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.has("retry-after"));
        assert_eq!(refused.error().await["code"], "overloaded");
    }
    let mut refused = view(&running, &streams[2]).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.has("retry-after"));
    assert_eq!(refused.error().await["code"], "rate_limited");
    readers.pop();
    within_timeout(async { while view(&running, &streams[2]).await.status() != 200 {} }).await;
}

/// Readers of one key's stream cannot keep another key from reading its own.
#[tokio::test]
async fn a_crowd_at_one_stream_leaves_places_for_others() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "limits: { streams: 40 }");
    let crowded = open_background_stream(&running, ClientRequest::prompt("m")).await;
    let mut exchange = upstream.request().await;
    exchange.begin().await;
    exchange.token("one").await;
    let own = open_background_stream(&running, ClientRequest::prompt("m")).await;
    let mut other = upstream.request().await;
    other.begin().await;
    other.token("one").await;
    let mut readers = Vec::new();
    for _ in 0..40 {
        readers.push(view(&running, &crowded).await);
    }
    let admitted = readers
        .iter()
        .filter(|reader| reader.status() == 200)
        .count();
    assert_eq!(admitted, 10);
    assert_eq!(view(&running, &own).await.status(), 200);
}

#[tokio::test]
async fn respond_async_without_a_window_is_ignored() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asked = ClientRequest::prompt("m").header("prefer", "respond-async");
    let mut answer = running.ask(&asked).await;
    assert!(!answer.has("preference-applied"));
    assert_eq!(outcome(&answer.events().await), "");
}

/// Viewers drive by turns, on two threads, while others come and go: none waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_viewers_lose_no_event() {
    let upstream = serve(&Options {
        pace: Pace::Every(Duration::from_millis(1)),
        ..Options::default()
    });
    let running = std::sync::Arc::new(TestGateway::with_resume(&[upstream.addr()], LONG, ""));
    for _ in 0..20 {
        let stream = open_background_stream(&running, ClientRequest::prompt("m")).await;
        let mut crowd = JoinSet::new();
        for patience in 0..40 {
            let (running, stream) = (running.clone(), stream.clone());
            crowd.spawn(async move {
                let mut answer = view(&running, &stream).await;
                if patience % 2 == 0 {
                    return Some(text(&answer.events().await));
                }
                for _ in 0..patience {
                    answer.event().await?;
                }
                None
            });
        }
        let texts: Vec<_> = crowd.join_all().await.into_iter().flatten().collect();
        assert_eq!(texts.len(), 20);
        assert!(
            texts
                .iter()
                .all(|text| *text == texts[0] && !text.is_empty())
        );
    }
    assert_eq!(upstream.request_count(), 20);
}
