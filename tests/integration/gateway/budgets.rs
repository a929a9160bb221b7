//! Token limits over HTTP, and limits of several gateways that share a state.

use serde_json::json;
use sluicegate::fixture::{Fault, Options, Server};
use tokio::task::JoinSet;

use super::client::{Answer, ClientRequest, outcome};
use super::harness::{TestGateway, targets};
use super::keys::key;
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::valkey::Valkey;

const LEFT: &str = "x-ratelimit-remaining-tokens";

/// A gateway with one key under these limits, and more settings.
fn limited(upstream: &Server, limits: &str, settings: &str) -> TestGateway {
    let key = key("one", "key-one", &format!(", limits: {limits}"));
    TestGateway::start(&targets(
        &[upstream.addr()],
        &format!("keys:\n{key}{settings}"),
    ))
}

/// A gateway that is connected to the shared state.
async fn sharing(upstream: &Server, limits: &str, valkey: &Valkey, settings: &str) -> TestGateway {
    let state = format!("state: {}\n{settings}", valkey.url());
    let running = limited(upstream, limits, &state);
    up(&running).await;
    running
}

/// An upstream whose answers never end.
fn endless() -> Server {
    serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    })
}

async fn up(running: &TestGateway) {
    let app = running.gateway.app();
    within_timeout(app.store.as_ref().unwrap().wait_until_up()).await;
}

fn prompt(max_tokens: u64) -> ClientRequest {
    let body = json!({"model": "m", "prompt": "Hello?", "max_tokens": max_tokens});
    ClientRequest::json(&body).key("key-one")
}

fn left(answer: &Answer) -> u64 {
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), "1000");
    assert!(answer.header("x-ratelimit-reset-tokens").ends_with('s'));
    answer.header(LEFT).parse().unwrap()
}

/// What is left once every reservation is settled.
async fn settled(running: &TestGateway) -> u64 {
    running.wait_idle().await;
    running.gateway.app().limiter.flush().await;
    let models = ClientRequest::new("GET", "/v1/models").key("key-one");
    left(&running.ask(&models).await)
}

/// The fixture's answer reports 17 input and 57 output tokens.
async fn an_answer_costs_what_the_upstream_counted(running: &TestGateway) {
    let mut answer = running.ask(&prompt(500)).await;
    // Two for the prompt's text, four for its message.
    assert_eq!(left(&answer), 494);
    assert_eq!(outcome(&answer.events().await), "");
    assert_eq!(settled(running).await, 926);
    // More than is left is refused; more than the limit is the client's mistake.
    let mut refused = running.ask(&prompt(921)).await;
    assert_eq!((refused.status(), left(&refused)), (429, 926));
    let after: u64 = refused.header("retry-after").parse().unwrap();
    // One token comes back in 86.4 s.
    assert!((1..=87).contains(&after), "{after}");
    assert_eq!(refused.error().await["code"], "rate_limited");
    let mut refused = running.ask(&prompt(995)).await;
    assert_eq!((refused.status(), left(&refused)), (400, 926));
    assert!(!refused.has("retry-after"));
    let error = refused.error().await;
    assert_eq!(error["code"], "invalid_request");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .starts_with("max_tokens: ")
    );
    assert_eq!(settled(running).await, 926);
}

#[tokio::test]
async fn tokens_are_reserved_and_settled() {
    let upstream = serve(&fast());
    let running = limited(&upstream, "{ tokens: 1k/day }", "");
    an_answer_costs_what_the_upstream_counted(&running).await;
}

#[tokio::test]
async fn tokens_are_reserved_and_settled_over_replicas() {
    let upstream = serve(&fast());
    let valkey = Valkey::start();
    let running = sharing(&upstream, "{ tokens: 1k/day }", &valkey, "").await;
    an_answer_costs_what_the_upstream_counted(&running).await;
}

#[tokio::test]
async fn a_model_sets_the_reservation_if_the_client_sets_no_bound() {
    let upstream = serve(&fast());
    let running = limited(&upstream, "{ tokens: 1k/day }", "");
    let unbounded = ClientRequest::prompt("m").key("key-one");
    // 1024 and the prompt are more than the limit, so all of it is reserved.
    let answer = running.ask(&unbounded).await;
    assert_eq!((answer.status(), left(&answer)), (200, 0));
    let text = targets(&[upstream.addr()], "").replace("retry: off", "reserve_tokens: 100");
    let limits = key("one", "key-one", ", limits: { tokens: 1k/day }");
    let running = TestGateway::start(&format!("{text}keys:\n{limits}"));
    assert_eq!(left(&running.ask(&unbounded).await), 894);
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_the_content_so_far() {
    let upstream = endless();
    let running = limited(&upstream, "{ tokens: 1k/day }", "");
    let mut answer = running.ask(&prompt(500)).await;
    answer.expect("start").await;
    answer.expect("token").await;
    drop(answer);
    let left = settled(&running).await;
    // The prompt, and a few words.
    assert!((960..994).contains(&left), "{left}");
}

#[tokio::test]
async fn an_upstream_failure_costs_no_tokens() {
    let upstream = serve(&Options {
        fault: Some(Fault::Status(http::StatusCode::INTERNAL_SERVER_ERROR)),
        ..fast()
    });
    let running = limited(&upstream, "{ tokens: 1k/day }", "");
    assert_eq!(running.ask(&prompt(500)).await.status(), 502);
    assert_eq!(settled(&running).await, 1_000);
}

#[tokio::test]
async fn an_absurd_usage_leaves_no_tokens() {
    // A wire does not report a larger count; the answer then costs its estimate.
    for count in [1_u64 << 31, (1 << 53) - 1] {
        let upstream = ScriptedUpstream::bind().await;
        let key = key("one", "key-one", ", limits: { tokens: 1k/day }");
        let settings = format!("keys:\n{key}");
        let running = TestGateway::start(&targets(&[upstream.addr()], &settings));
        let body = json!({
            "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": count, "completion_tokens": count},
        })
        .to_string();
        let asked = prompt(10);
        let (mut answer, ()) = tokio::join!(running.ask(&asked), async {
            let mut exchange = upstream.request().await;
            let headers = "content-type: application/json\r\n";
            exchange.answer(200, headers, &body).await;
        });
        assert_eq!(outcome(&answer.events().await), "");
        assert_eq!(settled(&running).await, 0);
        let refused = running.ask(&prompt(10)).await;
        assert_eq!((refused.status(), left(&refused)), (429, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_admit_as_much_as_one() {
    let upstream = serve(&fast());
    let valkey = Valkey::start();
    let limits = "{ requests: 10/hour }";
    let gateways = [
        sharing(&upstream, limits, &valkey, "").await,
        sharing(&upstream, limits, &valkey, "").await,
    ];
    let mut asked = JoinSet::new();
    for at in gateways.iter().cycle().take(40).map(|one| one.clients) {
        asked.spawn(async move {
            let mut client = crate::raw_client::RawClient::connect(at).await.unwrap();
            prompt(1).send(&mut client).await;
            client.head().await.unwrap().status
        });
    }
    let statuses = within_timeout(asked.join_all()).await;
    let with = |status| statuses.iter().filter(|each| **each == status).count();
    assert_eq!((with(200), with(429)), (10, 30), "{statuses:?}");
}

#[tokio::test]
async fn a_gateway_continues_without_the_shared_state() {
    let upstream = serve(&fast());
    let mut valkey = Valkey::start();
    let running = sharing(&upstream, "{ requests: 5/hour }", &valkey, "").await;
    assert_eq!(running.ask(&prompt(1)).await.status(), 200);
    valkey.kill();
    for expected in [200, 200, 200, 200, 200, 429] {
        assert_eq!(running.ask(&prompt(1)).await.status(), expected);
    }
    assert_eq!(running.metric("sluicegate_store_up").await, 0.0);
    let alone = "sluicegate_limits_without_store_total{decision=\"local\"}";
    assert_eq!(running.metric(alone).await, 6.0);
    valkey.restart();
    up(&running).await;
    assert_eq!(running.metric("sluicegate_store_up").await, 1.0);
    assert_eq!(running.ask(&prompt(1)).await.status(), 200);
}

#[tokio::test]
async fn a_gateway_refuses_without_the_shared_state_if_configured_so() {
    let upstream = serve(&fast());
    let mut valkey = Valkey::start();
    let settings = "on_store_failure: deny";
    let running = sharing(&upstream, "{ requests: 5/hour }", &valkey, settings).await;
    valkey.kill();
    let mut refused = running.ask(&prompt(1)).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.error().await["code"], "overloaded");
    assert_eq!(upstream.request_count(), 0);
    valkey.restart();
    up(&running).await;
    assert_eq!(running.ask(&prompt(1)).await.status(), 200);
}

#[tokio::test]
async fn a_reload_keeps_shared_counts() {
    let upstream = endless();
    let valkey = Valkey::start();
    let running = sharing(&upstream, "{ tokens: 1k/day }", &valkey, "").await;
    let held = running.ask(&prompt(494)).await;
    assert_eq!(left(&held), 500);
    let keys = key(
        "one",
        "key-one",
        ", limits: { tokens: 1k/day, requests: 9/hour }",
    );
    let settings = format!("keys:\n{keys}state: {}", valkey.url());
    running.reload(&targets(&[upstream.addr()], &settings));
    let answer = running.ask(&prompt(244)).await;
    assert_eq!(left(&answer), 250);
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "8");
}
