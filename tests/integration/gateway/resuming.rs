//! Clients that lose their connection and come back: they get each missing event once, and the model is
//! asked once.

use std::collections::VecDeque;

use sluicegate::fixture::{Fault, Options, Pace};
use tokio::io::AsyncReadExt as _;

use super::client::{Answer, ClientRequest, Event, check_order, outcome, text};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream};
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;
use crate::seed::Seed;

/// Longer than any test runs.
const LONG: &str = "{ window: 1h }";

/// Every way in which a client that has the event `id` comes back to its stream.
fn returns(id: &str) -> [ClientRequest; 4] {
    let (stream, number) = id.split_once('.').unwrap();
    let events = format!("/v1/streams/{stream}/events");
    [
        ClientRequest::prompt("m").header("last-event-id", id),
        ClientRequest::new("GET", "/v1/streams?model=m&prompt=Hello").header("last-event-id", id),
        ClientRequest::new("GET", &events).header("last-event-id", id),
        ClientRequest::new("GET", format!("{events}?after={number}")),
    ]
}

/// A stream whose upstream has sent these tokens, and whose client has read them.
async fn started(
    running: &TestGateway,
    upstream: &ScriptedUpstream,
    tokens: &[&str],
) -> (Answer, Exchange) {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        for token in tokens {
            exchange.token(token).await;
        }
        exchange
    };
    tokio::join!(running.prompt(), answering)
}

#[tokio::test]
async fn a_client_resumes_after_the_last_event_it_read() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let (mut answer, mut exchange) = started(&running, &upstream, &["one ", "two "]).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(answer.event().await.unwrap());
    }
    drop(answer);
    // The stream is read while it has no client.
    exchange.token("three ").await;
    let back = ClientRequest::prompt("m").header("last-event-id", &seen[1].id);
    let mut answer = running.ask(&back).await;
    for _ in 0..2 {
        seen.push(answer.event().await.unwrap());
    }
    exchange.token("four").await;
    exchange.finish().await;
    seen.extend(answer.rest().await);
    check_order(&seen);
    assert_eq!(text(&seen), "one two three four");
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn an_ended_stream_is_readable_from_every_event_on_every_path() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let events = running.prompt().await.events().await;
    running.wait_idle().await;
    for (number, event) in events.iter().enumerate() {
        for asked in returns(&event.id) {
            let mut answer = running.ask(&asked).await;
            if number + 1 == events.len() {
                assert_eq!(answer.status(), 204);
                assert_eq!(answer.body().await, b"");
                continue;
            }
            assert_eq!(answer.header("content-type"), "text/event-stream");
            assert_eq!(answer.header("x-accel-buffering"), "no");
            assert_eq!(answer.rest().await, events[number + 1..]);
        }
    }
    let stream = events[0].data["stream"].as_str().unwrap();
    let whole = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
    assert_eq!(running.ask(&whole).await.events().await, events);
    assert_eq!(upstream.request_count(), 1);
    assert_eq!(running.metric("sluicegate_readers").await, 0.0);
    let complete = running.metric("sluicegate_resumes_total{found=\"complete\"}");
    assert_eq!(complete.await, 4.0);
}

#[tokio::test]
async fn an_abandoned_stream_is_cancelled_and_then_gone() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 200ms }", "");
    let (mut answer, exchange) = started(&running, &upstream, &["one"]).await;
    let start = answer.event().await.unwrap();
    drop(answer);
    exchange.closed().await;
    running.wait_idle().await;
    for asked in returns(&start.id) {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), 410);
        assert_eq!(answer.error().await["code"], "gone");
    }
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_returning_client_stops_the_window() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 300ms }", "");
    let (mut answer, mut exchange) = started(&running, &upstream, &["one"]).await;
    let start = answer.event().await.unwrap();
    drop(answer);
    let back = ClientRequest::prompt("m").header("last-event-id", &start.id);
    let mut answer = running.ask(&back).await;
    answer.expect("token").await;
    // Longer than the window, which counts only while there is no client.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    exchange.token("two").await;
    answer.expect("token").await;
    exchange.finish().await;
    answer.expect("complete").await;
}

#[tokio::test]
async fn an_ended_stream_is_readable_for_its_window() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 500ms }", "");
    let events = running.prompt().await.events().await;
    let [back, ..] = returns(&events[0].id);
    assert_eq!(running.ask(&back).await.rest().await, events[1..]);
    within_timeout(async { while running.ask(&back).await.status() != 410 {} }).await;
    // The client has the whole stream.
    let [back, ..] = returns(&events.last().unwrap().id);
    assert_eq!(running.ask(&back).await.status(), 204);
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn events_over_the_buffer_are_gone() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 1h, buffer: 64KiB }", "");
    let (mut answer, mut exchange) = started(&running, &upstream, &[]).await;
    let words = "x".repeat(10_000);
    for _ in 0..20 {
        exchange.token(&words).await;
    }
    exchange.finish().await;
    let events = answer.events().await;
    assert_eq!(text(&events).len(), 200_000);
    let [back, ..] = returns(&events[2].id);
    let mut answer = running.ask(&back).await;
    assert_eq!(answer.status(), 410);
    assert_eq!(answer.error().await["code"], "gone");
    let [back, ..] = returns(&events[18].id);
    assert_eq!(running.ask(&back).await.rest().await, events[19..]);
}

#[tokio::test]
async fn invalid_event_ids_are_refused() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let events = running.prompt().await.events().await;
    let stream = events[0].data["stream"].as_str().unwrap();
    let other = running.prompt().await.events().await;
    let path = format!("/v1/streams/{stream}/events");
    let unknown = format!("st_{}", "a".repeat(26));
    let get = |path: String| ClientRequest::new("GET", path);
    for (asked, status) in [
        (
            ClientRequest::prompt("m").header("last-event-id", format!("{stream}.99999")),
            400,
        ),
        (get(path.clone()).header("last-event-id", &other[0].id), 400),
        (get(format!("{path}?after=x")), 400),
        (get(format!("{path}?after=-1")), 400),
        (get("/v1/streams/st_x/events".to_owned()), 404),
        (get("/v1/streams/st_x".to_owned()), 404),
        (get(format!("/v1/streams/{unknown}/events")), 404),
        (get(format!("/v1/streams/{unknown}")), 404),
        (
            ClientRequest::new("DELETE", format!("/v1/streams/{unknown}")),
            404,
        ),
    ] {
        let mut answer = running.ask(&asked).await;
        assert_eq!(answer.status(), status, "{asked:?}");
        answer.error().await;
    }
    assert_eq!(upstream.request_count(), 2);
}

#[tokio::test]
async fn a_resumed_stream_ends_in_the_same_error() {
    let upstream = serve(&Options {
        fault: Some(Fault::Truncate { after: 5 }),
        ..fast()
    });
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let events = running.prompt().await.events().await;
    assert_eq!(outcome(&events), "stream_interrupted");
    let [back, ..] = returns(&events[1].id);
    assert_eq!(running.ask(&back).await.rest().await, events[2..]);
    let [back, ..] = returns(&events.last().unwrap().id);
    assert_eq!(running.ask(&back).await.status(), 204);
    assert_eq!(upstream.request_count(), 1);
}

/// Reads whole events until `cut` bytes have come or the stream ends, and drops the connection.
/// Returns the status, and whether the stream ended.
async fn read_some(
    running: &TestGateway,
    asked: &ClientRequest,
    cut: usize,
    seen: &mut Vec<Event>,
) -> bool {
    let mut client = RawClient::connect(running.clients).await.unwrap();
    // The end of the connection is the end of the stream.
    let asked = asked.clone().header("connection", "close");
    asked.send(&mut client).await;
    let mut bytes = vec![0; cut];
    let mut read = 0;
    // The cut may fall into a header or an event.
    while read < cut {
        match within_timeout(client.stream().read(&mut bytes[read..]))
            .await
            .unwrap()
        {
            0 => break,
            more => read += more,
        }
        if bytes[..read].starts_with(b"HTTP/1.1 204") {
            return true;
        }
    }
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut events = dechunked(body);
    while let Some(event) = events.pop_front() {
        seen.push(event);
    }
    false
}

/// The whole events of a chunked body that may be cut anywhere.
fn dechunked(mut body: &str) -> VecDeque<Event> {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        let Some(chunk) = rest.get(..size) else {
            text.push_str(rest);
            break;
        };
        text.push_str(chunk);
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    let whole = text.rfind("\n\n").map_or(0, |end| end + 2);
    super::client::parsed(&text[..whole])
}

/// Cuts the connection of an `EventSource` at random, many times. `SLUICEGATE_SEED` repeats a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_disconnects_lose_and_repeat_nothing() {
    let seed = Seed::of_this_run();
    let mut random = seed.random(0);
    let upstream = serve(&Options {
        pace: Pace::Every(std::time::Duration::from_millis(1)),
        ..Options::default()
    });
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let expected = text(&running.prompt().await.events().await);
    let mut fresh_requests = 1;
    for trial in 1..=200 {
        let mut seen: Vec<Event> = Vec::new();
        let mut connections = 0;
        loop {
            let cut = random.within(600..4600) as usize;
            let mut asked = ClientRequest::new("GET", "/v1/streams?model=m&prompt=Hello");
            match seen.last() {
                Some(last) => asked = asked.header("last-event-id", &last.id),
                // A client that was cut off before the first event has no id to come back with.
                None => fresh_requests += 1,
            }
            connections += 1;
            if read_some(&running, &asked, cut, &mut seen).await {
                break;
            }
        }
        check_order(&seen);
        assert_eq!(text(&seen), expected, "trial {trial}, {seed}");
        assert!(connections > 1);
    }
    assert_eq!(upstream.request_count(), fresh_requests);
}
