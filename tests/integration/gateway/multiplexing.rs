//! Several streams over one connection.

use std::collections::HashMap;

use super::client::{Answer, ClientRequest, Event};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream};
use crate::fixture_server::{fast, serve};

const LONG: &str = "{ window: 1h }";

async fn started(running: &TestGateway, upstream: &ScriptedUpstream) -> (String, Exchange) {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchange
    };
    let (mut answer, exchange) = tokio::join!(running.prompt(), answering);
    let start = answer.expect("start").await;
    (start["stream"].as_str().unwrap().to_owned(), exchange)
}

fn several(streams: &[&str]) -> ClientRequest {
    ClientRequest::new(
        "GET",
        format!("/v1/events?stream={}", streams.join("&stream=")),
    )
}

/// The texts of each stream's tokens, and what ended it.
fn by_stream(events: &[Event]) -> HashMap<&str, (String, &str)> {
    let mut streams: HashMap<&str, (String, &str)> = HashMap::new();
    for event in events {
        let stream = event.data["stream"].as_str().unwrap();
        let of = streams.entry(stream).or_default();
        assert_eq!(of.1, "", "nothing follows a terminal event");
        match event.name.as_str() {
            "token" => of.0.push_str(event.data["text"].as_str().unwrap()),
            "complete" | "error" => of.1 = &event.name,
            _ => {}
        }
    }
    streams
}

async fn next(answer: &mut Answer, name: &str) -> Event {
    let event = answer.event().await.unwrap();
    assert_eq!(event.name, name);
    event
}

#[tokio::test]
async fn multiplexed_streams_resume_on_another_connection() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let (a, mut to_a) = started(&running, &upstream).await;
    let (b, mut to_b) = started(&running, &upstream).await;
    let mut answer = running.ask(&several(&[&a, &b])).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(answer.event().await.unwrap());
    }
    to_b.token("two").await;
    seen.push(next(&mut answer, "token").await);
    drop(answer);
    to_a.token("two").await;
    to_a.finish().await;
    to_b.token("three").await;
    let back = several(&[&a, &b]).header("last-event-id", &seen.last().unwrap().id);
    let mut answer = running.ask(&back).await;
    // What came while no client was connected, and its end.
    for _ in 0..3 {
        seen.push(answer.event().await.unwrap());
    }
    to_b.finish().await;
    seen.extend(answer.rest().await);
    let streams = by_stream(&seen);
    assert_eq!(streams[a.as_str()], ("onetwo".to_owned(), "complete"));
    assert_eq!(streams[b.as_str()], ("onetwothree".to_owned(), "complete"));
    // Every event has an id to come back with.
    let ids: std::collections::HashSet<_> = seen.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), seen.len());
    let back = several(&[&a, &b]).header("last-event-id", &seen.last().unwrap().id);
    assert_eq!(running.ask(&back).await.status(), 204);
    // In another order, and from the middle.
    let back = several(&[&b, &a]).header("last-event-id", &seen[3].id);
    let rest = running.ask(&back).await.rest().await;
    assert_eq!(rest.len(), seen.len() - 4);
}

#[tokio::test]
async fn a_stream_that_is_gone_does_not_end_the_others() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let events = running.prompt().await.events().await;
    let here = events[0].data["stream"].as_str().unwrap();
    let unknown = format!("st_{}", "a".repeat(26));
    let seen = running.ask(&several(&[&unknown, here])).await.rest().await;
    let streams = by_stream(&seen);
    assert_eq!(streams[here].1, "complete");
    assert_eq!(streams[unknown.as_str()].1, "error");
    assert_eq!(seen[0].data["error"]["code"], "not_found");
    for (asked, status) in [
        (several(&[&unknown]), 404),
        (several(&["st_x", here]), 400),
        (several(&[here]).header("last-event-id", &events[1].id), 400),
        (ClientRequest::new("GET", "/v1/events"), 400),
        (several(&vec![here; 65]), 400),
        (several(&[here, here]), 200),
    ] {
        assert_eq!(running.ask(&asked).await.status(), status, "{asked:?}");
    }
    assert_eq!(upstream.request_count(), 1);
}

#[tokio::test]
async fn a_connection_sends_retry_once() {
    let upstream = serve(&fast());
    let running = TestGateway::with_resume(&[upstream.addr()], LONG, "");
    let mut answer = running.prompt().await;
    let single = answer.chunk().await.unwrap();
    answer.rest().await;
    let (retry, start) = single.split_once('\n').unwrap();
    let stream = start.strip_prefix("id: ").unwrap();
    let stream = stream.split_once('.').unwrap().0;
    let mut answer = running.ask(&several(&[stream])).await;
    let mut whole = String::new();
    while let Some(chunk) = answer.chunk().await {
        whole += &chunk;
    }
    // As on the path of one stream, and also on a resumed connection.
    assert_eq!(whole.split_once('\n').unwrap().0, retry);
    assert_eq!(retry, "retry: 2000");
    assert_eq!(whole.matches("retry:").count(), 1, "{whole}");
    let last = whole.matches("\n\n").count() - 2;
    let ids = whole.lines().filter_map(|line| line.strip_prefix("id: "));
    let seen = ids.clone().nth(last).unwrap();
    let back = several(&[stream]).header("last-event-id", seen);
    let rest = running.ask(&back).await.chunk().await.unwrap();
    assert!(rest.starts_with("retry: 2000\nid: mx_"), "{rest}");
}
