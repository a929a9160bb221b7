//! What the operator sees and does on the admin listener: samples, open streams, pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::client::{Answer, ClientRequest, Event, outcome};
use super::harness::TestGateway;
use super::keys::key;
use super::scripted::{Exchange, ScriptedUpstream};
use super::within_timeout;
use crate::raw_client::RawClient;

/// Asks the admin listener, and waits for the answer's head.
async fn ask(running: &TestGateway, method: &str, path: &str) -> Answer {
    within_timeout(async {
        let mut client = RawClient::connect(running.admin).await.unwrap();
        client.send(method, path, "").await.unwrap();
        let head = client.head().await.unwrap();
        Answer::new(head, client)
    })
    .await
}

async fn json_of(running: &TestGateway, method: &str, path: &str) -> (u16, Value) {
    let mut answer = ask(running, method, path).await;
    let body = answer.body().await;
    (answer.status(), serde_json::from_slice(&body).unwrap())
}

/// The data of the next event of this name, which has no id.
async fn sample(answer: &mut Answer, text: &mut String, name: &str) -> Value {
    let mark = format!("event: {name}\ndata: ");
    loop {
        if let Some((_, rest)) = text.split_once(&mark)
            && let Some((data, rest)) = rest.split_once("\n\n")
        {
            let data = serde_json::from_str(data).unwrap();
            *text = rest.to_owned();
            return data;
        }
        text.push_str(&answer.chunk().await.expect("the samples ended"));
    }
}

/// A stream that has one token.
async fn begun(running: &TestGateway, upstream: &ScriptedUpstream) -> (Answer, Exchange, Event) {
    begun_with(running, upstream, ClientRequest::prompt("m")).await
}

async fn begun_with(
    running: &TestGateway,
    upstream: &ScriptedUpstream,
    request: ClientRequest,
) -> (Answer, Exchange, Event) {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange
    };
    let (mut answer, exchange) = tokio::join!(running.ask(&request), answering);
    let start = answer.event().await.unwrap();
    answer.expect("token").await;
    (answer, exchange, start)
}

#[tokio::test]
async fn samples_show_what_happens_now() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { streams: 2 }");
    let (mut one, mut exchange, _) = begun(&running, &upstream).await;
    let (other, _exchange, _) = begun(&running, &upstream).await;
    assert_eq!(running.prompt().await.status(), 503);
    let mut viewer = ask(&running, "GET", "/metrics-stream").await;
    assert_eq!(viewer.header("content-type"), "text/event-stream");
    let mut text = String::new();
    let first = sample(&mut viewer, &mut text, "metrics").await;
    assert_eq!(first["open_streams"], 2.0);
    assert_eq!(first["models"]["m"]["open_streams"], 2.0);
    assert_eq!(first["draining"], false);
    assert_eq!(first["limits"]["streams"], 2);
    for number in ["cpu_percent", "memory_bytes", "errors_per_second"] {
        assert!(first[number].is_number(), "{number}");
    }
    drop(other);
    for _ in 0..50 {
        exchange.token("more ").await;
    }
    drop(exchange);
    assert_eq!(outcome_of_rest(&mut one).await, "stream_interrupted");
    running.wait_idle().await;
    // One of the samples sees the tokens, the error and the time of the first token.
    let (mut tokens, mut errors) = (0.0, 0.0);
    while tokens < 10.0 || errors == 0.0 {
        let sample = sample(&mut viewer, &mut text, "metrics").await;
        tokens += sample["tokens_per_second"].as_f64().unwrap();
        errors += sample["models"]["m"]["errors_per_second"].as_f64().unwrap();
        if errors > 0.0 {
            assert!(sample["first_token_ms"]["p99"].is_number(), "{sample}");
            assert_eq!(sample["open_streams"], 0.0);
        }
    }
    // A second viewer has the same samples, and those before it came.
    let mut second = ask(&running, "GET", "/metrics-stream?history=1").await;
    let mut text = String::new();
    let history = sample(&mut second, &mut text, "history").await;
    let refused = |sample: &Value| sample["refusals_per_second"]["replica_streams"].is_number();
    assert!(history.as_array().unwrap().iter().any(refused), "{history}");
}

async fn outcome_of_rest(answer: &mut Answer) -> String {
    let mut events = Vec::new();
    while let Some(event) = answer.event().await {
        events.push(event);
    }
    outcome(&events).to_owned()
}

#[tokio::test]
async fn viewers_of_samples_are_bounded_and_end_with_the_gateway() {
    let running = TestGateway::start("{}");
    let mut viewer = ask(&running, "GET", "/metrics-stream").await;
    viewer.chunk().await.unwrap();
    running.stop();
    within_timeout(async { while viewer.chunk().await.is_some() {} }).await;
}

#[tokio::test]
async fn open_streams_are_listed_without_their_ids() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}' }}\n\
         models:\n  m: {{ targets: [ {{ upstream: a, model: text }} ] }}\nkeys:\n{}",
        upstream.addr(),
        key("app", "key-one", "")
    ));
    assert_eq!(
        json_of(&running, "GET", "/streams").await,
        (200, json!({"open": 0, "streams": []}))
    );
    let asked = ClientRequest::prompt("m").key("key-one");
    let (mut answer, mut exchange, start) = begun_with(&running, &upstream, asked).await;
    let chat =
        json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "?"}]});
    let chat = ClientRequest::at("/v1/chat/completions", &chat).key("key-one");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange
    };
    let (_chat, _other) = tokio::join!(running.ask(&chat), answering);
    let (_, list) = json_of(&running, "GET", "/streams").await;
    assert_eq!(list["open"], 2);
    let [native, chat] = &list["streams"].as_array().unwrap()[..] else {
        panic!("{list}");
    };
    let id = start.data["stream"].as_str().unwrap();
    let prefix = native["id"].as_str().unwrap();
    assert!(
        id.starts_with(prefix) && prefix.len() < id.len(),
        "{prefix}"
    );
    for (name, value) in [
        ("key", "app"),
        ("model", "m"),
        ("upstream", "a"),
        ("dialect", "native"),
    ] {
        assert_eq!(native[name], value, "{native}");
    }
    assert_eq!(
        (&native["tokens"], &chat["dialect"]),
        (&json!(1), &json!("openai_chat"))
    );
    assert!(native["age_seconds"].as_f64().unwrap() < 20.0);
    let (_, one) = json_of(&running, "GET", "/streams?limit=1").await;
    assert_eq!(
        (&one["open"], one["streams"].as_array().unwrap().len()),
        (&json!(2), 1)
    );
    for wrong in ["0", "1001", "many"] {
        let (status, body) = json_of(&running, "GET", &format!("/streams?limit={wrong}")).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("invalid_request"))
        );
    }
    exchange.finish().await;
    answer.rest().await;
    assert_eq!(json_of(&running, "GET", "/streams").await.1["open"], 1);
}

#[tokio::test]
async fn the_operator_cancels_a_stream_by_the_beginning_of_its_id() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 1h }", "");
    let (mut answer, exchange, start) = begun(&running, &upstream).await;
    let (_kept, _other, _) = begun(&running, &upstream).await;
    let id = start.data["stream"].as_str().unwrap();
    for (prefix, status) in [("st_", 400), ("st_aaa", 400), ("st_zzzzzzzz", 404)] {
        let (found, body) = json_of(&running, "DELETE", &format!("/streams/{prefix}")).await;
        assert_eq!(found, status, "{prefix}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
    let (status, body) = json_of(&running, "DELETE", &format!("/streams/{}", &id[..11])).await;
    assert_eq!((status, &body["cancelled"]["id"]), (200, &json!(id[..11])));
    exchange.closed().await;
    let end = answer.expect("complete").await;
    assert_eq!(end["finish_reason"], "cancelled");
    assert_eq!(json_of(&running, "GET", "/streams").await.1["open"], 1);
    let (status, _) = json_of(&running, "DELETE", &format!("/streams/{}", &id[..11])).await;
    assert_eq!(status, 404);
}

/// A viewer that finds its stream locked waits for a wake, and heartbeats come too late to hide a lost one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_at_streams_holds_up_no_token() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "heartbeat: 1h");
    let (mut answer, mut exchange, _) = begun(&running, &upstream).await;
    let looking = Arc::new(AtomicBool::new(true));
    let operator = std::thread::spawn({
        let (streams, looking) = (
            Arc::clone(&running.gateway.open_streams),
            Arc::clone(&looking),
        );
        move || {
            while looking.load(Ordering::Relaxed) {
                for stream in streams.all() {
                    stream.progress();
                }
            }
        }
    });
    for _ in 0..3000 {
        exchange.token("more ").await;
        answer.expect("token").await;
    }
    looking.store(false, Ordering::Relaxed);
    operator.join().unwrap();
    exchange.finish().await;
    answer.rest().await;
}

#[tokio::test]
async fn unknown_paths_of_the_admin_listener_are_refused_with_the_known_ones() {
    let running = TestGateway::start("{}");
    let (status, body) = json_of(&running, "GET", "/v1/models").await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")));
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/metrics-stream")
    );
    let (status, body) = json_of(&running, "PUT", "/notifications").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (405, &json!("method_not_allowed"))
    );
}
