//! Limits over HTTP: refusals, their headers and messages, and what they cost.

use std::time::{Duration, SystemTime};

use serde_json::json;
use sluicegate::fixture::{Fault, Options, Server};

use super::client::{Answer, ClientRequest, outcome};
use super::harness::{TestGateway, targets};
use super::keys::key;
use super::within_timeout;
use crate::fixture_server::{fast, serve};

const REQUESTS: [&str; 3] = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
];

/// The request limit and what remains of it, from an answer's headers.
fn request_limit(answer: &Answer) -> (u64, u64) {
    let reset = answer.header(REQUESTS[2]);
    assert!(reset.ends_with('s'), "{reset}");
    let number = |name: &str| answer.header(name).parse().unwrap();
    (number(REQUESTS[0]), number(REQUESTS[1]))
}

async fn refused(answer: &mut Answer, status: u16, code: &str) {
    assert_eq!(answer.status(), status);
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!(after >= 1);
    let error = answer.error().await;
    assert_eq!(error["code"], code);
    assert_eq!(error["retryable"], true);
    assert_eq!(error["origin"], "gateway");
}

/// An upstream whose answers never end.
fn endless() -> Server {
    serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    })
}

/// A gateway with the keys `one` and `two` under these limits, and more settings.
fn limited(upstream: &Server, limits: &str, settings: &str) -> TestGateway {
    let keys = key("one", "key-one", &format!(", limits: {limits}"))
        + &key("two", "key-two", &format!(", limits: {limits}"));
    TestGateway::start(&targets(
        &[upstream.addr()],
        &format!("keys:\n{keys}{settings}"),
    ))
}

fn by(key: &str) -> ClientRequest {
    ClientRequest::prompt("m").key(key)
}

#[tokio::test]
async fn the_requests_of_a_key_are_counted_on_every_answer() {
    let upstream = serve(&fast());
    let running = limited(&upstream, "{ requests: 6/hour }", "");
    let answers = [
        (by("key-one"), 200),
        (ClientRequest::bytes("no JSON").key("key-one"), 400),
        (ClientRequest::prompt("unheard-of").key("key-one"), 404),
        (ClientRequest::new("GET", "/v1/models").key("key-one"), 200),
        (by("key-one"), 200),
        (by("key-one"), 200),
    ];
    for (used, (asked, status)) in (1..).zip(&answers) {
        let answer = running.ask(asked).await;
        assert_eq!(answer.status(), *status, "{asked:?}");
        assert_eq!(request_limit(&answer), (6, 6 - used));
    }
    let mut answer = running.ask(&by("key-one")).await;
    assert_eq!(request_limit(&answer), (6, 0));
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=600).contains(&after), "{after}");
    refused(&mut answer, 429, "rate_limited").await;
    // Another key has its own.
    assert_eq!(request_limit(&running.ask(&by("key-two")).await), (6, 5));
    // A request without a valid key gets no limit headers.
    assert!(!running.ask(&by("key-wrong")).await.has(REQUESTS[0]));
    // A client that resumes a stream makes no new request.
    let back = by("key-one").header("last-event-id", "x");
    assert_eq!(running.ask(&back).await.status(), 400);
    assert_eq!(upstream.request_count(), 4);
}

#[tokio::test]
async fn the_streams_of_a_key_are_counted_while_they_are_open() {
    let upstream = endless();
    let running = limited(&upstream, "{ streams: 2 }", "");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut answer = running.ask(&by("key-one")).await;
        answer.expect("start").await;
        open.push(answer);
    }
    refused(&mut running.ask(&by("key-one")).await, 429, "rate_limited").await;
    assert_eq!(running.ask(&by("key-two")).await.status(), 200);
    // A request that opens no stream passes.
    let models = ClientRequest::new("GET", "/v1/models").key("key-one");
    assert_eq!(running.ask(&models).await.status(), 200);
    open.pop();
    within_timeout(upstream.closed_by_client(2)).await;
    within_timeout(async { while running.ask(&by("key-one")).await.status() != 200 {} }).await;
}

#[tokio::test]
async fn the_streams_of_a_replica_are_counted_while_they_are_open() {
    let upstream = endless();
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { streams: 2 }");
    let mut open = vec![running.prompt().await, running.prompt().await];
    for answer in &mut open {
        answer.expect("start").await;
    }
    refused(&mut running.prompt().await, 503, "overloaded").await;
    assert_eq!(upstream.request_count(), 2);
    assert_eq!(running.metric("sluicegate_open_streams").await, 2.0);
    drop(open);
    running.wait_idle().await;
    assert_eq!(running.prompt().await.status(), 200);
}

#[tokio::test]
async fn a_permit_is_held_until_the_end_of_the_body() {
    let upstream = serve(&Options {
        fault: Some(Fault::Truncate { after: 5 }),
        ..fast()
    });
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { streams: 1 }");
    for _ in 0..3 {
        let mut answer = running.prompt().await;
        assert_eq!(outcome(&answer.events().await), "stream_interrupted");
        running.wait_idle().await;
    }
}

#[tokio::test]
async fn the_requests_of_an_address_are_counted_before_authentication() {
    let upstream = serve(&fast());
    let running = limited(
        &upstream,
        "{ streams: 9 }",
        "limits: { per_ip: { requests: 3/hour } }",
    );
    for used in 1..=3 {
        let answer = running.ask(&by("key-wrong")).await;
        assert_eq!(answer.status(), 401);
        assert_eq!(request_limit(&answer), (3, 3 - used));
    }
    refused(
        &mut running.ask(&by("key-wrong")).await,
        429,
        "rate_limited",
    )
    .await;
    refused(&mut running.ask(&by("key-one")).await, 429, "rate_limited").await;
    assert_eq!(upstream.request_count(), 0);
}

/// Anthropic's clients read the limits from headers with other names.
#[tokio::test]
async fn the_limits_are_in_the_headers_of_the_dialect_too() {
    let upstream = serve(&fast());
    let running = limited(&upstream, "{ requests: 2/hour, tokens: 9k/hour }", "");
    let body =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    for (status, remaining) in [(200, "1"), (200, "0"), (429, "0")] {
        let asked = ClientRequest::at("/v1/messages", &body).key("key-one");
        let answer = running.ask(&asked).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.header("anthropic-ratelimit-requests-limit"), "2");
        assert_eq!(
            answer.header("anthropic-ratelimit-requests-remaining"),
            remaining
        );
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), remaining);
        assert_eq!(answer.header("anthropic-ratelimit-tokens-limit"), "9000");
        assert_eq!(
            answer.header("anthropic-ratelimit-tokens-remaining"),
            answer.header("x-ratelimit-remaining-tokens")
        );
        let reset = answer.header("anthropic-ratelimit-requests-reset");
        let reset = humantime::parse_rfc3339(reset).expect("a time");
        let wait = reset
            .duration_since(SystemTime::now())
            .expect("in the future");
        assert!(wait <= Duration::from_secs(2 * 3600), "{wait:?}");
    }
    let answer = running.ask(&by("key-two")).await;
    assert!(!answer.has("anthropic-ratelimit-requests-limit"));
}

#[tokio::test]
async fn a_refusal_by_one_limit_takes_nothing_from_another() {
    let upstream = serve(&fast());
    let running = limited(
        &upstream,
        "{ requests: 2/hour }",
        "limits: { per_ip: { requests: 5/hour } }",
    );
    for _ in 0..2 {
        running.ask(&by("key-one")).await.events().await;
    }
    for _ in 0..20 {
        refused(&mut running.ask(&by("key-one")).await, 429, "rate_limited").await;
    }
    // Two of five are used: the address can send more with another key.
    for _ in 0..2 {
        assert_eq!(running.ask(&by("key-two")).await.status(), 200);
    }
    // A refusal by the address takes nothing from the key.
    assert_eq!(running.ask(&by("key-wrong")).await.status(), 401);
    refused(&mut running.ask(&by("key-two")).await, 429, "rate_limited").await;
}

#[tokio::test]
async fn a_refused_stream_takes_no_request() {
    let upstream = endless();
    let running = limited(&upstream, "{ requests: 3/hour, streams: 1 }", "");
    let mut open = running.ask(&by("key-one")).await;
    open.expect("start").await;
    assert_eq!(request_limit(&open), (3, 2));
    for _ in 0..5 {
        let mut answer = running.ask(&by("key-one")).await;
        assert_eq!(request_limit(&answer), (3, 2));
        refused(&mut answer, 429, "rate_limited").await;
    }
}

#[tokio::test]
async fn a_client_cannot_choose_its_address() {
    let upstream = serve(&fast());
    let limit = "limits: { per_ip: { requests: 2/hour } }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], limit);
    let claims = ["203.0.113.1", "203.0.113.2", "203.0.113.3, 203.0.113.4"];
    for (asked, status) in claims.iter().zip([200, 200, 429]) {
        let asked = ClientRequest::prompt("m").header("x-forwarded-for", *asked);
        assert_eq!(running.ask(&asked).await.status(), status);
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_clients_address() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(
        &[upstream.addr()],
        "limits: { per_ip: { requests: 1/hour } }\n\
         trusted_proxies: [ 127.0.0.0/8, 10.0.0.0/8 ]",
    );
    for (forwarded, status) in [
        ("203.0.113.1", 200),
        ("203.0.113.1", 429),
        ("203.0.113.2", 200),
        // Entries further left come from the client and are not trusted.
        ("198.51.100.7, 203.0.113.2", 429),
        ("198.51.100.8, 203.0.113.3, 10.1.2.3", 200),
        ("203.0.113.3", 429),
        // Some proxies add the port.
        ("203.0.113.4:1234", 200),
        ("203.0.113.4:5678", 429),
        ("[2001:db8:1::1]:1234", 200),
        ("2001:db8:1::1", 429),
        // Without a valid address the proxy itself counts as the client.
        ("unknown", 200),
        ("", 429),
        ("198.51.100.9, garbage", 429),
        ("2001:db8::1", 200),
        // One IPv6 network counts as one client.
        ("2001:db8::2", 429),
    ] {
        let asked = ClientRequest::prompt("m").header("x-forwarded-for", forwarded);
        assert_eq!(running.ask(&asked).await.status(), status, "{forwarded}");
    }
    // Two headers are one list.
    let asked = ClientRequest::prompt("m")
        .header("x-forwarded-for", "203.0.113.50")
        .header("x-forwarded-for", "203.0.113.1");
    assert_eq!(running.ask(&asked).await.status(), 429);
}

#[tokio::test]
async fn a_reload_keeps_the_counts_of_limits() {
    let upstream = endless();
    let config = |streams: u32| {
        let more = format!(", limits: {{ requests: 3/hour, streams: {streams} }}");
        let keys = format!("keys:\n{}", key("one", "key-one", &more));
        targets(&[upstream.addr()], &keys)
    };
    let running = TestGateway::start(&config(1));
    let mut open = running.ask(&by("key-one")).await;
    open.expect("start").await;
    running.reload(&config(1));
    let mut answer = running.ask(&by("key-one")).await;
    assert_eq!(request_limit(&answer), (3, 2));
    refused(&mut answer, 429, "rate_limited").await;
    running.reload(&config(2));
    assert_eq!(request_limit(&running.ask(&by("key-one")).await), (3, 1));
}
