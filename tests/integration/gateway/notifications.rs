//! Notifications: who gets them, replaying, slow listeners, drains, replicas.

use serde_json::{Value, json};
use sluicegate::notify::Notification;
use tokio::io::AsyncReadExt as _;

use super::client::{Answer, ClientRequest, Event};
use super::harness::TestGateway;
use super::keys::key;
use super::replicas::state;
use super::within_timeout;
use crate::raw_client::RawClient;
use crate::valkey::Valkey;

fn gateway(settings: &str) -> TestGateway {
    TestGateway::start(&format!("{settings}\n"))
}

fn listening() -> ClientRequest {
    ClientRequest::new("GET", "/v1/notifications")
}

async fn listen(running: &TestGateway) -> Answer {
    let answer = running.ask(&listening()).await;
    assert_eq!(answer.status(), 200);
    answer
}

/// Listens on after the event with this id.
async fn listen_after(running: &TestGateway, id: &str) -> Answer {
    let answer = running.ask(&listening().header("last-event-id", id)).await;
    assert_eq!(answer.status(), 200);
    answer
}

/// Posts to the admin listener: the status, and the body as JSON.
async fn post(running: &TestGateway, body: &[u8]) -> (u16, Value) {
    within_timeout(async {
        let mut client = RawClient::connect(running.admin).await.unwrap();
        let sent = client.send_with("POST", "/notifications", &[], body);
        sent.await.unwrap();
        let head = client.head().await.unwrap();
        let body = client.body(&head).await.unwrap();
        (head.status, serde_json::from_slice(&body).unwrap())
    })
    .await
}

async fn announce(running: &TestGateway, data: Value) -> Value {
    let body = json!({"event": "announcement", "data": data}).to_string();
    let (status, body) = post(running, body.as_bytes()).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// The next event. Heartbeats do not count as one.
async fn next(answer: &mut Answer) -> Event {
    let event = within_timeout(answer.event()).await;
    event.expect("the notifications ended")
}

#[tokio::test]
async fn every_listener_gets_every_event() {
    let running = gateway("");
    let (mut one, mut other) = (listen(&running).await, listen(&running).await);
    assert_eq!(one.header("content-type"), "text/event-stream");
    assert_eq!(one.header("cache-control"), "no-cache, no-transform");
    assert_eq!(one.header("x-accel-buffering"), "no");
    let answered = announce(&running, json!({"text": "A line\nand another", "n": 1})).await;
    assert_eq!(answered, json!({"replicas": "this", "listeners": 2}));
    let target = |reason: &str| ("a".to_owned(), "text".to_owned(), reason.to_owned());
    let (upstream, model, reason) = target("5 failures in 30s");
    running
        .gateway
        .notifications
        .publish(&Notification::UpstreamDown {
            upstream,
            model,
            reason,
        });
    let (upstream, model, reason) = target("a request was answered");
    running
        .gateway
        .notifications
        .publish(&Notification::UpstreamUp {
            upstream,
            model,
            reason,
        });
    running.reload("");
    for listener in [&mut one, &mut other] {
        let first = listener.expect("announcement").await;
        assert_eq!(first, json!({"text": "A line\nand another", "n": 1}));
        let down = listener.expect("upstream_down").await;
        assert_eq!(
            down,
            json!({"upstream": "a", "model": "text", "reason": "5 failures in 30s"})
        );
        listener.expect("upstream_up").await;
        assert_eq!(listener.expect("config_reloaded").await, json!({}));
    }
    assert_eq!(running.metric("sluicegate_listeners").await, 2.0);
    assert_eq!(running.metric("sluicegate_open_streams").await, 0.0);
    drop((one, other));
    within_timeout(async { while running.metric("sluicegate_listeners").await > 0.0 {} }).await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_lacks() {
    let running = gateway("");
    let mut first = listen(&running).await;
    for n in 1..=3 {
        announce(&running, json!({"n": n})).await;
    }
    let seen = next(&mut first).await;
    let mut back = listen_after(&running, &seen.id).await;
    for n in 2..=3 {
        assert_eq!(back.expect("announcement").await, json!({"n": n}));
    }
    announce(&running, json!({"n": 4})).await;
    let last = next(&mut back).await;
    assert_eq!(last.data, json!({"n": 4}));
    // A client without an id, and one that has everything, get only what is new.
    let (mut new, mut current) = (
        listen(&running).await,
        listen_after(&running, &last.id).await,
    );
    announce(&running, json!({"n": 5})).await;
    for listener in [&mut new, &mut current] {
        assert_eq!(listener.expect("announcement").await, json!({"n": 5}));
    }
}

#[tokio::test]
async fn the_last_100_are_replayed_to_a_client_with_an_unknown_id() {
    let running = gateway("");
    for n in 1..=103 {
        running
            .gateway
            .notifications
            .publish(&Notification::Announcement(
                json!({"n": n}).as_object().unwrap().clone(),
            ));
    }
    for id in ["nonsense", "nt_1", "st_aaaa.1"] {
        let mut back = listen_after(&running, id).await;
        for n in 4..=103 {
            assert_eq!(back.expect("announcement").await, json!({"n": n}));
        }
    }
}

#[tokio::test]
async fn a_key_is_needed_where_there_are_keys() {
    let running = gateway(&format!("keys:\n{}", key("app", "key-one", "")));
    let mut refused = running.ask(&listening()).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.error().await["code"], "unauthenticated");
    assert_eq!(running.ask(&listening().key("other")).await.status(), 401);
    assert_eq!(running.ask(&listening().key("key-one")).await.status(), 200);
}

#[tokio::test]
async fn one_listener_more_than_the_limit_gets_503() {
    let running = gateway("limits: { listeners: 2 }");
    let one = listen(&running).await;
    let _other = listen(&running).await;
    let mut refused = running.ask(&listening()).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.error().await["code"], "overloaded");
    let metric = "sluicegate_limit_refusals_total{policy=\"listeners\"}";
    assert_eq!(running.metric(metric).await, 1.0);
    drop(one);
    within_timeout(async { while running.ask(&listening()).await.status() != 200 {} }).await;
}

#[tokio::test]
async fn other_methods() {
    let running = gateway("");
    let head = running
        .ask(&ClientRequest::new("HEAD", "/v1/notifications"))
        .await;
    assert_eq!(
        (head.status(), head.header("content-type")),
        (200, "text/event-stream")
    );
    let mut posted = running
        .ask(&ClientRequest::at("/v1/notifications", &json!({})))
        .await;
    assert_eq!(posted.status(), 405);
    assert!(posted.has("allow"));
    assert_eq!(posted.error().await["code"], "method_not_allowed");
    within_timeout(async { while running.metric("sluicegate_listeners").await > 0.0 {} }).await;
}

#[tokio::test]
async fn a_wrong_announcement_is_refused_by_name() {
    let running = gateway("");
    for (body, named) in [
        ("no JSON", "not JSON"),
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "event"),
        (r#"{"event":"draining","data":{}}"#, "event"),
        (r#"{"event":"announcement"}"#, "data"),
        (r#"{"event":"announcement","data":"text"}"#, "data"),
        (
            r#"{"event":"announcement","data":{},"level":"info"}"#,
            "level",
        ),
    ] {
        let (status, answer) = post(&running, body.as_bytes()).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("invalid_request")),
            "{body}"
        );
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{body}: {message}");
    }
    let large = json!({"event": "announcement", "data": {"text": "x".repeat(64 * 1024)}});
    let (status, answer) = post(&running, large.to_string().as_bytes()).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (413, &json!("payload_too_large"))
    );
}

#[tokio::test]
async fn heartbeats_come_while_there_is_no_event() {
    let running = gateway("heartbeat: 20ms");
    let mut answer = listen(&running).await;
    assert_eq!(answer.chunk().await.unwrap().lines().last(), Some(""));
    for _ in 0..3 {
        assert_eq!(answer.chunk().await.unwrap(), ": keep-alive\n\n");
    }
}

#[tokio::test]
async fn a_drain_is_announced_and_ends_the_notifications() {
    let running = gateway("drain: 7s");
    let mut answer = listen(&running).await;
    running.gateway.begin_drain();
    assert_eq!(answer.expect("draining").await, json!({"seconds": 7}));
    assert_eq!(answer.event().await, None);
    assert_eq!(within_timeout(answer.into_client().closed()).await, 0);
    let mut refused = running.ask(&listening()).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.error().await["code"], "draining");
}

#[tokio::test]
async fn a_listener_that_does_not_read_is_disconnected() {
    let running = gateway("");
    let stalled = listen(&running).await;
    let mut reading = listen(&running).await;
    let text = "x".repeat(32 * 1024);
    let data = json!({"text": text}).as_object().unwrap().clone();
    within_timeout(async {
        // The buffers of two kernels are some megabytes.
        while running.metric("sluicegate_listeners").await > 1.0 {
            for _ in 0..20 {
                let announcement = Notification::Announcement(data.clone());
                running.gateway.notifications.publish(&announcement);
                reading.expect("announcement").await;
            }
        }
    })
    .await;
    assert_eq!(
        running.metric("sluicegate_listeners_dropped_total").await,
        1.0
    );
    // The connection is closed without a clean end.
    let mut rest = Vec::new();
    let mut socket = stalled.into_client().into_stream();
    let _ = within_timeout(socket.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

async fn pair(valkey: &Valkey) -> (TestGateway, TestGateway) {
    let (one, other) = (gateway(&state(valkey)), gateway(&state(valkey)));
    for replica in [&one, &other] {
        let app = replica.gateway.app();
        within_timeout(app.store.as_ref().unwrap().wait_until_up()).await;
    }
    (one, other)
}

#[tokio::test]
async fn an_announcement_reaches_the_listeners_of_all_replicas_once() {
    let valkey = Valkey::start();
    let (here, there) = pair(&valkey).await;
    let (mut near, mut far) = (listen(&here).await, listen(&there).await);
    for (n, replica) in [&here, &there, &here].into_iter().enumerate() {
        assert_eq!(announce(replica, json!({"n": n})).await["replicas"], "all");
    }
    let mut ids = Vec::new();
    for n in 0..3 {
        let (near, far) = (next(&mut near).await, next(&mut far).await);
        assert_eq!(
            (&near.data, &far.data),
            (&json!({"n": n}), &json!({"n": n}))
        );
        ids.push(near.id);
    }
    // A client that moves to another replica gets exactly what it lacks, also from a new replica.
    let late = gateway(&state(&valkey));
    for replica in [&there, &late] {
        let mut moved = listen_after(replica, &ids[0]).await;
        for n in 1..3 {
            assert_eq!(moved.expect("announcement").await, json!({"n": n}));
        }
    }
    announce(&late, json!({"n": 3})).await;
    for listener in [&mut near, &mut far] {
        assert_eq!(listener.expect("announcement").await, json!({"n": 3}));
    }
}

#[tokio::test]
async fn without_the_store_an_announcement_reaches_this_replica_only() {
    let mut valkey = Valkey::start();
    let (here, there) = pair(&valkey).await;
    let (mut near, mut far) = (listen(&here).await, listen(&there).await);
    announce(&here, json!({"n": 1})).await;
    near.expect("announcement").await;
    far.expect("announcement").await;
    valkey.kill();
    assert_eq!(announce(&here, json!({"n": 2})).await["replicas"], "this");
    assert_eq!(near.expect("announcement").await, json!({"n": 2}));
    valkey.restart();
    // The replicas find the store again by themselves.
    within_timeout(async { while announce(&here, json!({"n": 3})).await["replicas"] != "all" {} })
        .await;
    let far = next(&mut far).await;
    assert_eq!(far.data, json!({"n": 3}));
}

#[tokio::test]
async fn an_announcement_that_a_slow_store_takes_late_is_not_published_twice() {
    let valkey = Valkey::start();
    let (here, there) = pair(&valkey).await;
    let (mut near, mut far) = (listen(&here).await, listen(&there).await);
    announce(&here, json!({"n": 1})).await;
    near.expect("announcement").await;
    far.expect("announcement").await;
    valkey.stall();
    assert_eq!(announce(&here, json!({"n": 2})).await["replicas"], "this");
    assert_eq!(near.expect("announcement").await, json!({"n": 2}));
    valkey.resume();
    assert_eq!(far.expect("announcement").await, json!({"n": 2}));
    within_timeout(async { while announce(&here, json!({"n": 3})).await["replicas"] != "all" {} })
        .await;
    assert_eq!(near.expect("announcement").await, json!({"n": 3}));
}
