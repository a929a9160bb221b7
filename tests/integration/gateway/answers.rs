//! Whole answers: the events of every wire, how they are cut, and their headers.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};
use sluicegate::wire;

use super::REST;
use super::client::{ClientRequest, outcome, text};
use super::harness::TestGateway;
use super::scripted::{ScriptedUpstream, finish, role, token};
use crate::fixture_server::{fast, serve};

/// A config that serves every wire's fixtures as the models `<wire>/<case>`.
pub fn every_wire(upstream: SocketAddr, settings: &str) -> String {
    let mut upstreams = String::from("upstreams:\n");
    let mut models = String::from("models:\n");
    for wire in wire::ALL {
        let name = wire.name();
        let more = match name {
            "bedrock-converse" => ", preset: bedrock, region: eu-west-1",
            _ => "",
        };
        writeln!(
            upstreams,
            "  u-{name}: {{ wire: {name}, base_url: 'http://{upstream}', api_key: test-key{more} }}"
        )
        .unwrap();
        writeln!(
            models,
            "  '{name}/*': {{ targets: [ {{ upstream: u-{name}, model: '*' }} ] }}"
        )
        .unwrap();
    }
    format!("{upstreams}{models}resume: {{ window: 0s }}\n{settings}\n")
}

#[tokio::test]
async fn every_wire_gives_a_normalized_stream() {
    let upstream = serve(&fast());
    let running = TestGateway::start(&every_wire(upstream.addr(), ""));
    for wire in wire::ALL {
        let model = format!("{}/text", wire.name());
        let mut answer = running.ask(&ClientRequest::prompt(&model)).await;
        let events = answer.events().await;
        let start = &events[0].data;
        assert_eq!(start["model"], model);
        assert_eq!(start["upstream"], format!("u-{}", wire.name()));
        assert_eq!(start["upstream_model"], "text");
        assert!(start["created"].as_str().unwrap().ends_with('Z'));
        let complete = &events.last().unwrap().data;
        assert_eq!(complete["finish_reason"], "stop", "{model}: {complete}");
        assert!(complete["usage"]["output_tokens"].as_u64().unwrap() > 0);
        assert!(complete["timing"]["total_ms"].is_u64());
        assert!(text(&events).len() > 10, "{model}");
    }
    running.wait_idle().await;
}

#[tokio::test]
async fn every_fixture_ends_in_exactly_one_terminal_event_or_a_refusal() {
    let upstream = serve(&fast());
    let running = TestGateway::start(&every_wire(upstream.addr(), ""));
    for (wire, cases) in upstream.served() {
        for case in cases {
            let model = format!("{wire}/{case}");
            let mut answer = running.ask(&ClientRequest::prompt(&model)).await;
            if answer.status() == 200 {
                answer.events().await;
            } else {
                assert_eq!(answer.error().await["origin"], "upstream", "{model}");
            }
        }
    }
    running.wait_idle().await;
}

#[tokio::test]
async fn a_stream_has_the_headers_that_keep_it_a_stream() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut answer = running.prompt().await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(answer.header(name), value);
    }
    assert!(answer.header("x-request-id").starts_with("req_"));
    for absent in [
        "content-encoding",
        "content-length",
        "x-ratelimit-limit-requests",
    ] {
        assert!(!answer.has(absent), "{absent}");
    }
    assert_eq!(outcome(&answer.events().await), "");
}

#[tokio::test]
async fn stream_ids_are_never_the_same() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let start = running.prompt().await.expect("start").await;
        let id = start["stream"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), "st_".len() + 26);
        assert!(seen.insert(id));
    }
}

#[tokio::test]
async fn a_token_is_sent_at_once() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asking = running.prompt();
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(asking, answering);
    answer.expect("start").await;
    for next in ["two", "three"] {
        let token = answer.expect("token").await;
        exchange.token(next).await;
        assert_ne!(token["text"], next);
    }
    assert_eq!(answer.expect("token").await["text"], "three");
    exchange.finish().await;
    answer.expect("complete").await;
    assert_eq!(answer.event().await, None);
}

#[tokio::test]
async fn events_that_arrive_together_are_sent_together() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let burst = |from: u32| -> String {
        (from..from + 100)
            .map(|n| token(&format!("{n} ")))
            .collect()
    };
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(role() + &burst(0)).await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering);
    let first = answer.chunk().await.unwrap();
    assert_eq!(first.matches("event: start").count(), 1);
    assert_eq!(first.matches("event: token").count(), 100);
    exchange.chunk(burst(100)).await;
    let second = answer.chunk().await.unwrap();
    assert_eq!(second.matches("event: token").count(), 100);
    exchange.chunk(burst(200) + &finish()).await;
    let last = answer.chunk().await.unwrap();
    assert_eq!(last.matches("event: token").count(), 100);
    assert_eq!(last.matches("event: complete").count(), 1);
    assert_eq!(
        answer.chunk().await,
        None,
        "the upstream's body has not ended yet"
    );
}

#[tokio::test]
async fn a_get_takes_its_prompt_from_the_query() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asked = ClientRequest::new(
        "GET",
        "/v1/streams?model=m&prompt=What%20%26%20why%3F+%C3%A9",
    );
    let mut answer = running.ask(&asked).await;
    assert_eq!(outcome(&answer.events().await), "");
    let sent: Value = serde_json::from_slice(&upstream.requests()[0].body).unwrap();
    assert_eq!(
        sent["messages"],
        json!([{"role": "user", "content": "What & why? é"}])
    );
}

#[tokio::test]
async fn a_head_request_asks_no_model() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asked = ClientRequest::new("HEAD", "/v1/streams?model=m&prompt=Hello");
    let answer = running.ask(&asked).await;
    assert_eq!(answer.status(), 405);
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn trace_headers_reach_the_upstream() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let asked = ClientRequest::prompt("m")
        .header("traceparent", parent)
        .header("tracestate", "vendor=1")
        .header("x-request-id", "mine-17");
    let mut answer = running.ask(&asked).await;
    assert_eq!(answer.header("x-request-id"), "mine-17");
    answer.events().await;
    let headers = &upstream.requests()[0].headers;
    assert_eq!(headers["traceparent"], parent);
    assert_eq!(headers["tracestate"], "vendor=1");
}

#[tokio::test]
async fn an_upstream_answer_may_end_with_its_connection() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange
            .write("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            .await;
        exchange.write(token("all") + &finish()).await;
    };
    let (mut answer, ()) = tokio::join!(running.prompt(), answering);
    let events = answer.events().await;
    assert_eq!((text(&events).as_str(), outcome(&events)), ("all", ""));
}

#[tokio::test]
async fn an_upstream_connection_is_reused() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let answering = async {
        let mut exchange = upstream.request().await;
        for _ in 0..3 {
            exchange.begin_and_stay().await;
            exchange.token("hello").await;
            exchange.chunk(finish()).await;
            exchange.end().await;
            if !exchange.next_request().await {
                panic!("the connection was closed");
            }
        }
    };
    let asking = async {
        for _ in 0..3 {
            let events = running.prompt().await.events().await;
            assert_eq!(text(&events), "hello");
            running.wait_idle().await;
            tokio::time::sleep(REST).await;
        }
        // The last answer's connection waits for this one.
        tokio::select! {
            _ = running.prompt() => panic!("nobody answers"),
            () = std::future::pending() => {}
        }
    };
    tokio::select! {
        () = answering => {}
        () = asking => {}
    }
}
