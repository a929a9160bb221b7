//! SIGTERM: new requests are refused, open streams finish, and the process exits with 0.

use rustix::process::Signal;
use sluicegate::fixture::{Fault, Options, Server};

use super::client::{Answer, ClientRequest, Event, check_order, outcome, text};
use super::harness::{page, targets};
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::ScriptedUpstream;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

async fn serving(upstream: &Server, settings: &str) -> GatewayProcess {
    let config = TemporaryFile::new(&targets(&[upstream.addr()], settings));
    GatewayProcess::start(&config, &[]).await
}

/// An upstream that sends one token and then nothing more.
fn stalling() -> Server {
    serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    })
}

/// The rest of a stream after its start.
async fn rest(answer: &mut Answer, start: Event) -> Vec<Event> {
    let mut events = vec![start];
    while let Some(event) = answer.event().await {
        events.push(event);
    }
    check_order(&events);
    events
}

#[tokio::test]
async fn streams_in_flight_arrive_whole() {
    for threads in ["1", "2"] {
        streams_arrive_whole(threads).await;
    }
}

async fn streams_arrive_whole(threads: &str) {
    const STREAMS: usize = 50;
    let upstream = ScriptedUpstream::bind().await;
    let config = TemporaryFile::new(&targets(&[upstream.addr()], ""));
    let environment = [("TOKIO_WORKER_THREADS", threads)];
    let mut serving = GatewayProcess::start(&config, &environment).await;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.token("before ").await;
            exchange
        };
        let asked = ClientRequest::prompt("m");
        open.push(tokio::join!(serving.ask(&asked), answering));
    }
    let count = serving.metric("sluicegate_open_streams").await;
    assert_eq!(count, STREAMS as f64);
    serving.program.signal(Signal::TERM);
    serving.program.wait_for_log("draining").await;
    assert_eq!(serving.ready().await, 503);
    assert_eq!(page(serving.admin, "/livez").await.0, 200);
    let refused = serving.ask(&ClientRequest::prompt("m")).await;
    check_draining(refused).await;
    for (answer, exchange) in &mut open {
        exchange.token("and after").await;
        exchange.finish().await;
        let events = answer.events().await;
        assert_eq!(text(&events), "before and after");
        assert_eq!(outcome(&events), "");
    }
    let ended = serving.program.ended().await;
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(ended.out, "");
    assert!(!upstream.was_asked_again());
}

async fn check_draining(mut answer: Answer) {
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("connection"), "close");
    let error = answer.error().await;
    assert_eq!(error["code"], "draining");
    assert_eq!(error["retryable"], true);
    assert_eq!(error["origin"], "gateway");
}

#[tokio::test]
async fn streams_that_outlast_the_drain_end_in_draining() {
    let upstream = stalling();
    let mut serving = serving(&upstream, "drain: 200ms").await;
    let mut answer = serving.ask(&ClientRequest::prompt("m")).await;
    let start = answer.event().await.unwrap();
    serving.program.signal(Signal::TERM);
    let events = rest(&mut answer, start).await;
    assert_eq!(outcome(&events), "draining");
    assert!(!text(&events).is_empty());
    let error = &events.last().unwrap().data["error"];
    assert_eq!(error["retryable"], true);
    assert_eq!(error["origin"], "gateway");
    serving.program.wait_for_log("ending open streams").await;
    let ended = serving.program.ended().await;
    assert_eq!(ended.status, Some(0), "{}", ended.err);
}

#[tokio::test]
async fn unanswered_requests_end_in_draining_too() {
    let upstream = ScriptedUpstream::bind().await;
    for (settings, status) in [("", 503), ("heartbeat: 50ms", 200)] {
        let settings = format!("drain: 200ms\n{settings}");
        let config = TemporaryFile::new(&targets(&[upstream.addr()], &settings));
        let serving = GatewayProcess::start(&config, &[]).await;
        let stopping = async {
            let exchange = upstream.request().await;
            serving.program.signal(Signal::TERM);
            exchange
        };
        let asked = ClientRequest::prompt("m");
        let (mut answer, _exchange) = tokio::join!(serving.ask(&asked), stopping);
        assert_eq!(answer.status(), status);
        if status == 200 {
            assert_eq!(outcome(&answer.events().await), "draining");
        } else {
            check_draining(answer).await;
        }
        let ended = serving.program.ended().await;
        assert_eq!(ended.status, Some(0), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    for second in [Signal::TERM, Signal::INT] {
        let upstream = stalling();
        let mut serving = serving(&upstream, "drain: 1h").await;
        let mut answer = serving.ask(&ClientRequest::prompt("m")).await;
        let start = answer.event().await.unwrap();
        serving.program.signal(Signal::INT);
        serving.program.wait_for_log("draining").await;
        serving.program.signal(second);
        assert_eq!(outcome(&rest(&mut answer, start).await), "draining");
        assert_eq!(serving.program.ended().await.status, Some(0));
    }
}

#[tokio::test]
async fn without_streams_the_process_exits_at_once() {
    let upstream = serve(&fast());
    let serving = serving(&upstream, "drain: 1h").await;
    // An idle connection does not delay the exit.
    let mut idle = RawClient::connect(serving.clients).await.unwrap();
    idle.send("GET", "/v1/models", "").await.unwrap();
    let head = idle.head().await.unwrap();
    idle.body(&head).await.unwrap();
    let _silent = RawClient::connect(serving.clients).await.unwrap();
    serving.program.signal(Signal::TERM);
    assert_eq!(serving.program.ended().await.status, Some(0));
    assert_eq!(idle.closed().await, 0);
}

#[tokio::test]
async fn a_request_whose_body_is_still_being_sent_is_answered() {
    let upstream = serve(&fast());
    let mut serving = serving(&upstream, "drain: 1h").await;
    let body = serde_json::json!({"model": "m", "prompt": "Hello?"}).to_string();
    let mut client = RawClient::connect(serving.clients).await.unwrap();
    let head = format!(
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    client.write(head.as_bytes()).await.unwrap();
    // The gateway has admitted the request and waits for its body.
    let go_on = client.head().await.unwrap();
    assert_eq!(go_on.status, 100);
    serving.program.signal(Signal::TERM);
    serving.program.wait_for_log("draining").await;
    // The drain waits for it as for an open stream, and new requests are still refused.
    for _ in 0..50 {
        check_draining(serving.ask(&ClientRequest::prompt("m")).await).await;
    }
    client.write(body.as_bytes()).await.unwrap();
    let mut answer = Answer::new(client.head().await.unwrap(), client);
    assert_eq!(outcome(&answer.events().await), "");
    assert_eq!(serving.program.ended().await.status, Some(0));
}
