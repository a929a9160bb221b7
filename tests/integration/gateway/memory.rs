//! The memory budget of requests: what counts against it, what is refused, and that every way out
//! returns what was reserved.

use serde_json::json;
use sluicegate::fixture::{Fault, Options};

use super::client::{Answer, ClientRequest, outcome};
use super::harness::{TestGateway, targets};
use super::http_forms::{encoded, zstd};
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

const GAUGE: &str = "sluicegate_request_memory_bytes";
const REFUSALS: &str = "sluicegate_limit_refusals_total{policy=\"memory\"}";
const KIB: usize = 1024;

/// A request of about `size` bytes.
fn request_of(size: usize) -> ClientRequest {
    ClientRequest::json(&json!({"model": "m", "prompt": "x".repeat(size)}))
}

/// Sends the head and the first `sent` bytes of a body, and waits until the gateway holds them.
async fn send_part(running: &TestGateway, body: &[u8], sent: usize) -> RawClient {
    let before = running.gateway.memory.used();
    let mut client = RawClient::connect(running.clients).await.unwrap();
    let head = format!(
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write(head.as_bytes()).await.unwrap();
    client.write(&body[..sent]).await.unwrap();
    wait_until(|| running.gateway.memory.used() >= before + sent).await;
    client
}

async fn wait_until(condition: impl Fn() -> bool) {
    within_timeout(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn wait_until_returned(running: &TestGateway) {
    wait_until(|| running.gateway.memory.used() == 0).await;
    assert_eq!(running.metric(GAUGE).await, 0.0);
}

async fn assert_overloaded(answer: &mut Answer) {
    assert_eq!(answer.status(), 503);
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!(after >= 1);
    let error = answer.error().await;
    assert_eq!(error["code"], "overloaded");
    assert_eq!(error["retryable"], true);
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_until_others_are_answered() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { memory: 64KiB }");
    let large = request_of(48 * KIB);
    let mut held = send_part(&running, &large.body, 40 * KIB).await;
    assert!(running.metric(GAUGE).await >= (40 * KIB) as f64);
    for refused in 1..=3 {
        assert_overloaded(&mut running.ask(&large).await).await;
        assert_eq!(running.metric(REFUSALS).await, f64::from(refused));
    }
    assert_eq!(upstream.request_count(), 0);
    // A small request still has room.
    let mut small = running.ask(&request_of(KIB)).await;
    assert_eq!(outcome(&small.events().await), "");
    held.write(&large.body[40 * KIB..]).await.unwrap();
    let head = within_timeout(held.head()).await.unwrap();
    let mut first = Answer::new(head, held);
    assert_eq!(first.status(), 200);
    assert_eq!(outcome(&first.events().await), "");
    wait_until_returned(&running).await;
    let mut second = running.ask(&large).await;
    assert_eq!(outcome(&second.events().await), "");
    wait_until_returned(&running).await;
}

#[tokio::test]
async fn a_body_larger_than_the_whole_budget_is_refused_and_read_to_its_end() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { memory: 64KiB }");
    for size in [65 * KIB, 1024 * KIB] {
        assert_overloaded(&mut running.ask(&request_of(size)).await).await;
        wait_until_returned(&running).await;
    }
}

#[tokio::test]
async fn headers_count_against_the_budget() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { memory: 4KiB }");
    let asked = ClientRequest::prompt("m").header("x-large", "x".repeat(5 * KIB));
    assert_overloaded(&mut running.ask(&asked).await).await;
    assert_eq!(running.prompt().await.status(), 200);
}

#[tokio::test]
async fn a_client_that_disconnects_within_its_body_returns_its_memory() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { memory: 64KiB }");
    let large = request_of(48 * KIB);
    let held = send_part(&running, &large.body, 40 * KIB).await;
    drop(held);
    wait_until_returned(&running).await;
    assert_eq!(running.ask(&large).await.status(), 200);
}

#[tokio::test]
async fn a_refused_request_returns_its_memory() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { body: 8KiB }");
    for (body, status) in [
        ("no JSON".to_owned(), 400),
        (
            json!({"model": "no-such-model", "prompt": "Hello?"}).to_string(),
            404,
        ),
        ("x".repeat(9 * KIB), 413),
    ] {
        let answer = running.ask(&ClientRequest::bytes(body)).await;
        assert_eq!(answer.status(), status);
        wait_until_returned(&running).await;
    }
}

#[tokio::test]
async fn a_request_holds_its_memory_until_its_first_content() {
    // The upstream never sends content.
    let silent = serve(&Options {
        fault: Some(Fault::Hang),
        ..fast()
    });
    let settings = "limits: { memory: 64KiB }\nheartbeat: 20ms";
    let running = TestGateway::with_upstreams(&[silent.addr()], settings);
    let large = request_of(30 * KIB);
    // The 200 goes out after one heartbeat; the target has still not answered.
    let waiting = running.ask(&large).await;
    assert_eq!(waiting.status(), 200);
    assert!(running.gateway.memory.used() >= 90 * KIB);
    assert_overloaded(&mut running.ask(&large).await).await;
    drop(waiting);
    wait_until_returned(&running).await;
    // A stream that has content holds nothing of its request any more.
    let endless = serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    });
    running.reload(&targets(&[endless.addr()], settings));
    let mut open = running.ask(&large).await;
    open.expect("start").await;
    open.expect("token").await;
    wait_until_returned(&running).await;
    drop(open);
}

/// A short body of many JSON values becomes large when it is parsed.
#[tokio::test]
async fn what_is_built_from_bodies_is_refused_beyond_the_budget() {
    let silent = serve(&Options {
        fault: Some(Fault::Hang),
        ..fast()
    });
    let settings = "limits: { memory: 1MiB }\nheartbeat: 20ms";
    let running = TestGateway::with_upstreams(&[silent.addr()], settings);
    let extra = json!({"list": vec![0; 3000]});
    let many = ClientRequest::json(&json!({"model": "m", "prompt": "x", "extra": extra}));
    assert!(many.body.len() < 8 * KIB);
    // It takes more than the budget, and is answered because no other request holds any.
    let waiting = running.ask(&many).await;
    assert_eq!(waiting.status(), 200);
    assert!(running.gateway.memory.used() > 1024 * KIB);
    assert_overloaded(&mut running.ask(&many).await).await;
    assert_eq!(running.metric(REFUSALS).await, 1.0);
    drop(waiting);
    wait_until_returned(&running).await;
    assert_eq!(running.ask(&many).await.status(), 200);
}

#[tokio::test]
async fn decompressed_bodies_count_against_the_budget() {
    let silent = serve(&Options {
        fault: Some(Fault::Hang),
        ..fast()
    });
    let settings = "limits: { memory: 256KiB }\nheartbeat: 20ms";
    let running = TestGateway::with_upstreams(&[silent.addr()], settings);
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    // The body and so many times 100,000 spaces, in fewer than 100 bytes.
    let compressed = |repeated| encoded("zstd", zstd(body.as_bytes(), repeated));
    assert_overloaded(&mut running.ask(&compressed(3)).await).await;
    wait_until_returned(&running).await;
    let waiting = running.ask(&compressed(1)).await;
    assert_eq!(waiting.status(), 200);
    assert!(running.gateway.memory.used() > 100_000);
    drop(waiting);
    wait_until_returned(&running).await;
}

#[tokio::test]
async fn a_reload_changes_the_budget() {
    let upstream = serve(&fast());
    let config = |memory| {
        targets(
            &[upstream.addr()],
            &format!("limits: {{ memory: {memory} }}"),
        )
    };
    let running = TestGateway::start(&config("64KiB"));
    let large = request_of(48 * KIB);
    assert_eq!(running.ask(&large).await.status(), 200);
    running.reload(&config("32KiB"));
    assert_overloaded(&mut running.ask(&large).await).await;
}
