//! Deadlines (connect, first token, idle, total) and heartbeats.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::fixture::{Fault, Options};
use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use super::client::{Answer, Event, Item, check_order, outcome, text};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream, event, finish, role, token};
use super::within_timeout;
use crate::fixture_server::{ANY_PORT, fast, serve};

const KEEP_ALIVE: &str = "keep-alive";

/// An address that neither accepts nor refuses connections: its queue is full.
pub fn blackhole() -> (std::net::SocketAddr, Vec<Socket>) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&ANY_PORT.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    // A queue of length 0 still holds one connection.
    for _ in 0..3 {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&addr);
        sockets.push(client);
    }
    (addr.as_socket().unwrap(), sockets)
}

async fn code(answer: &mut Answer, status: u16) -> Value {
    assert_eq!(answer.status(), status);
    answer.error().await["code"].clone()
}

/// The rest of a stream, comments included, after a check of its order.
async fn items(answer: &mut Answer) -> (Vec<Event>, usize) {
    let (mut events, mut comments) = (Vec::new(), 0);
    while let Some(item) = answer.item().await {
        match item {
            Item::Event(event) => events.push(event),
            Item::Comment(comment) => {
                assert_eq!(comment, KEEP_ALIVE);
                comments += 1;
            }
        }
    }
    check_order(&events);
    (events, comments)
}

#[tokio::test]
async fn a_connect_timeout_is_upstream_unavailable() {
    let (addr, _full) = blackhole();
    let running = TestGateway::with_upstreams(&[addr], "timeouts: { connect: 200ms }");
    let mut answer = running.prompt().await;
    assert_eq!(code(&mut answer, 502).await, "upstream_unavailable");
}

#[tokio::test]
async fn a_missing_first_token_is_upstream_timeout() {
    let scripts: [(&str, &[&str]); 4] = [
        ("no head", &[]),
        ("a head", &["HEAD"]),
        ("a role", &["HEAD", "ROLE"]),
        (
            "comments",
            &["HEAD", ": PROCESSING\n\n", ": PROCESSING\n\n"],
        ),
    ];
    for (what, steps) in scripts {
        let upstream = ScriptedUpstream::bind().await;
        let running =
            TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { first_token: 200ms }");
        let answering = async {
            let mut exchange = upstream.request().await;
            for step in steps {
                match *step {
                    "HEAD" => exchange.begin().await,
                    "ROLE" => exchange.chunk(role()).await,
                    text => exchange.chunk(text).await,
                }
            }
            exchange.closed().await;
        };
        let (mut answer, ()) = tokio::join!(running.prompt(), answering);
        assert_eq!(code(&mut answer, 504).await, "upstream_timeout", "{what}");
    }
}

#[tokio::test]
async fn silence_in_the_middle_is_stream_stalled() {
    let upstream = serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    });
    let running = TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { idle: 200ms }");
    let events = running.prompt().await.events().await;
    assert_eq!(outcome(&events), "stream_stalled");
    assert!(!text(&events).is_empty());
    assert_eq!(events.last().unwrap().data["error"]["retryable"], true);
    within_timeout(upstream.closed_by_client(1)).await;
}

/// A decoder holds an unrequested summary back until raw text replaces it. When no more can come,
/// the summary is emitted.
#[tokio::test]
async fn held_back_events_are_emitted_before_a_stream_fails() {
    let config = |addr, settings: &str| {
        format!(
            "upstreams: {{ a: {{ wire: openai-responses, base_url: 'http://{addr}/v1' }} }}\n\
             models: {{ m: {{ targets: [ {{ upstream: a, model: x }} ], retry: off }} }}\n{settings}"
        )
    };
    for (settings, code) in [
        ("timeouts: { idle: 500ms }", "stream_stalled"),
        ("timeouts: { total: 1s }", "stream_too_long"),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = TestGateway::start(&config(upstream.addr(), settings));
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            for (kind, delta) in [
                ("response.output_text.delta", "said"),
                ("response.reasoning_summary_text.delta", "thought"),
            ] {
                let data = json!({"type": kind, "item_id": kind, "delta": delta});
                exchange.chunk(event(&data)).await;
            }
            exchange.closed().await;
        };
        let asking = async { running.prompt().await.events().await };
        let (events, ()) = tokio::join!(asking, answering);
        let told: Vec<_> = events[1..]
            .iter()
            .map(|event| (event.name.as_str(), event.data["text"].as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("token", Some("said")),
                ("reasoning", Some("thought")),
                ("error", None)
            ]
        );
        assert_eq!(outcome(&events), code);
    }
}

/// An exchange whose first token was read.
async fn begun(upstream: &ScriptedUpstream, running: &TestGateway) -> (Answer, Exchange) {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchange
    };
    let (mut answer, exchange) = tokio::join!(running.prompt(), answering);
    answer.expect("start").await;
    answer.expect("token").await;
    (answer, exchange)
}

#[tokio::test]
async fn comments_of_an_upstream_reset_the_idle_deadline() {
    let idle = Duration::from_millis(400);
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { idle: 400ms }");
    let (mut answer, mut exchange) = begun(&upstream, &running).await;
    let mut beat = tokio::time::interval(idle / 8);
    let begin = Instant::now();
    while begin.elapsed() < 2 * idle {
        beat.tick().await;
        exchange.chunk(": PROCESSING\n\n").await;
    }
    exchange.token("two").await;
    assert_eq!(answer.expect("token").await["text"], "two");
    exchange.finish().await;
    answer.expect("complete").await;
}

#[tokio::test]
async fn waiting_for_the_first_token_is_not_idle_time() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { idle: 300ms }");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        // Longer than the idle deadline of a running stream.
        tokio::time::sleep(Duration::from_millis(500)).await;
        exchange.token("one").await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering);
    answer.expect("start").await;
    answer.expect("token").await;
    exchange.finish().await;
    answer.expect("complete").await;
}

#[tokio::test]
async fn an_endless_stream_ends_at_its_total() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { total: 500ms }");
    let (mut answer, mut exchange) = begun(&upstream, &running).await;
    let burst = token("more and more of it").repeat(100);
    let sending = async move {
        // Until the gateway closes the connection.
        while exchange.try_chunk(&burst).await {}
    };
    let reading = async {
        loop {
            let event = answer.event().await.unwrap();
            if event.name != "token" {
                break event;
            }
        }
    };
    let (last, ()) = within_timeout(async { tokio::join!(reading, sending) }).await;
    assert_eq!(last.data["error"]["code"], "stream_too_long");
    assert_eq!(answer.event().await, None);
}

#[tokio::test]
async fn a_silent_stream_ends_at_its_total_too() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { total: 300ms }");
    let (mut answer, exchange) = begun(&upstream, &running).await;
    let error = answer.expect("error").await;
    assert_eq!(error["error"]["code"], "stream_too_long");
    exchange.closed().await;
}

#[tokio::test]
async fn the_total_counts_from_the_request() {
    let upstream = serve(&Options {
        fault: Some(Fault::Hang),
        ..fast()
    });
    let running = TestGateway::with_upstreams(&[upstream.addr()], "timeouts: { total: 200ms }");
    let mut answer = running.prompt().await;
    assert_eq!(code(&mut answer, 504).await, "upstream_timeout");
}

#[tokio::test]
async fn without_a_total_a_stream_outlives_every_other_deadline() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(
        &[upstream.addr()],
        "timeouts: { connect: 200ms, first_token: 200ms, idle: 400ms }\nheartbeat: 200ms",
    );
    let (mut answer, mut exchange) = begun(&upstream, &running).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        exchange.token("more").await;
    }
    exchange.finish().await;
    while answer.event().await.unwrap().name == "token" {}
}

#[tokio::test]
async fn heartbeats_begin_before_the_first_content() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "heartbeat: 100ms");
    let mut answer = running.prompt().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.chunk().await.unwrap(), ": keep-alive\n\n");
    assert_eq!(answer.chunk().await.unwrap(), ": keep-alive\n\n");
    let mut exchange = upstream.request().await;
    exchange.begin().await;
    exchange.token("late").await;
    answer.expect("start").await;
    assert_eq!(answer.expect("token").await["text"], "late");
    // There are heartbeats in the middle of a stream too.
    assert_eq!(answer.item().await, Some(Item::Comment(KEEP_ALIVE.into())));
    exchange.chunk(finish()).await;
    let (rest, _) = (answer.event().await.unwrap(), exchange);
    assert_eq!(rest.name, "complete");
}

#[tokio::test]
async fn a_failure_after_a_heartbeat_is_an_event() {
    let upstream = serve(&Options {
        fault: Some(Fault::Hang),
        ..fast()
    });
    let running = TestGateway::with_upstreams(
        &[upstream.addr()],
        "timeouts: { first_token: 500ms }\nheartbeat: 100ms",
    );
    let mut answer = running.prompt().await;
    assert_eq!(answer.status(), 200);
    let (events, comments) = items(&mut answer).await;
    assert!(comments > 0);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].data["upstream"], Value::Null);
    assert_eq!(events[0].data["upstream_model"], Value::Null);
    assert_eq!(outcome(&events), "upstream_timeout");
    assert_eq!(events[1].data["error"]["origin"], "upstream");
}

#[tokio::test]
async fn every_failure_after_a_heartbeat_is_an_event() {
    for (answer_with, expected) in [
        (401, "upstream_auth"),
        (400, "upstream_rejected"),
        (429, "upstream_rate_limited"),
        (500, "upstream_unavailable"),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = TestGateway::with_upstreams(&[upstream.addr()], "heartbeat: 50ms");
        let mut answer = running.prompt().await;
        assert_eq!(answer.chunk().await.unwrap(), ": keep-alive\n\n");
        let mut exchange = upstream.request().await;
        let body = "{\"error\":{\"message\":\"no\"}}";
        exchange
            .answer(answer_with, "retry-after: 9\r\n", body)
            .await;
        let (events, _) = items(&mut answer).await;
        assert_eq!(outcome(&events), expected);
        let error = &events[1].data["error"];
        assert_eq!(
            error["retry_after"].as_u64(),
            matches!(answer_with, 429 | 500).then_some(9)
        );
        assert_eq!(error.get("request_id"), None);
    }
}

#[tokio::test]
async fn a_running_stream_sends_no_heartbeats() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "heartbeat: 500ms");
    let (mut answer, mut exchange) = begun(&upstream, &running).await;
    let sending = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            exchange.token("more").await;
        }
        exchange.finish().await;
    };
    let reading = async {
        let mut tokens = 0;
        while let Some(item) = answer.item().await {
            match item {
                Item::Event(_) => tokens += 1,
                Item::Comment(_) => panic!("a heartbeat among {tokens} tokens"),
            }
        }
    };
    tokio::join!(sending, reading);
}
