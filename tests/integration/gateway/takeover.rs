//! What happens to the streams of replicas that are gone.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::client::{ClientRequest, outcome, text};
use super::harness::{TestGateway, resumable_targets};
use super::program::{GatewayProcess, TemporaryFile};
use super::replicas::{pair, started, state, status, viewed};
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::valkey::Valkey;

#[tokio::test]
async fn streams_of_a_killed_replica_end_for_remote_readers() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let config = resumable_targets(&[upstream.addr()], "{ window: 1h }", &state(&valkey));
    let file = TemporaryFile::new(&config);
    let killed = GatewayProcess::start(&file, &[]).await;
    let there = TestGateway::start(&config);
    within_timeout(there.gateway.app().store.as_ref().unwrap().wait_until_up()).await;
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange
    };
    let asked = ClientRequest::prompt("m");
    let (mut answer, _exchange) = tokio::join!(killed.ask(&asked), answering);
    let start = answer.expect("start").await;
    let stream = start["stream"].as_str().unwrap().to_owned();
    let mut reader = viewed(&there, &stream).await;
    reader.expect("start").await;
    reader.expect("token").await;
    killed.program.signal(Signal::KILL);
    let started = tokio::time::Instant::now();
    let error = reader.event().await.unwrap();
    let took = started.elapsed();
    // The leading zero names the epoch of another producer.
    assert_eq!(error.id, format!("{stream}.02"));
    assert_eq!(error.data["error"]["code"], "stream_interrupted");
    assert_eq!(error.data["error"]["retryable"], true);
    assert_eq!(reader.event().await, None);
    // This bound is part of the public contract and does not depend on the machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (_, status) = status(&there, &stream).await;
    assert_eq!(status["state"], "error");
    let taken_over = "sluicegate_streams_taken_over_total{outcome=\"ended\"}";
    assert_eq!(there.metric(taken_over).await, 1.0);
    // A client that has more events than the store gets the same error: neither a 204 nor a 400. But it gets
    // it once.
    let back = async |seen: &str| {
        let back = ClientRequest::prompt("m").header("last-event-id", seen);
        there.ask(&back).await
    };
    assert_eq!(back(&error.id).await.status(), 204);
    for seen in [2, 7] {
        let events = back(&format!("{stream}.{seen}")).await.rest().await;
        assert_eq!(outcome(&events), "stream_interrupted");
        assert_eq!(events[0].id, format!("{stream}.0{}", seen + 1));
        assert_eq!(back(&events[0].id).await.status(), 204);
    }
}

/// A gateway that lets another target continue its answers.
fn continuing(upstream: &ScriptedUpstream, valkey: &Valkey) -> TemporaryFile {
    TemporaryFile::new(&format!(
        "upstreams: {{ a: {{ wire: openai-chat, base_url: 'http://{}/v1' }} }}\n\
         models: {{ m: {{ continue: on, targets: [ {{ upstream: a, model: one }} ] }} }}\n\
         resume: {{ window: 1h }}\ndrain: 50ms\n{}\n",
        upstream.addr(),
        state(valkey)
    ))
}

#[tokio::test]
async fn a_drain_hands_over_streams_that_others_can_continue() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let file = continuing(&upstream, &valkey);
    let leaving = GatewayProcess::start(&file, &[]).await;
    let there = GatewayProcess::start(&file, &[]).await;
    let asked = ClientRequest::prompt("m");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one").await;
        exchange
    };
    let (mut answer, exchange) = tokio::join!(leaving.ask(&asked), answering);
    answer.expect("start").await;
    let token = answer.event().await.unwrap();
    leaving.program.signal(Signal::TERM);
    // The stream has not ended: a client that comes back with this id finds the rest.
    let error = answer.event().await.unwrap();
    assert_eq!((error.name.as_str(), &error.id), ("error", &token.id));
    assert_eq!(error.data["error"]["code"], "draining");
    assert_eq!(error.data["error"]["retryable"], true);
    assert_eq!(answer.event().await, None);
    exchange.closed().await;
    let back = ClientRequest::prompt("m").header("last-event-id", &error.id);
    let mut answer = there.ask(&back).await;
    let mut exchange = upstream.request().await;
    exchange.begin().await;
    exchange.token(" two").await;
    exchange.finish().await;
    let events = answer.rest().await;
    assert_eq!((text(&events).as_str(), outcome(&events)), (" two", ""));
    assert_eq!(events.last().unwrap().data["continued"], 1);
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_stream_of_a_killed_replica_continues_on_another() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let file = continuing(&upstream, &valkey);
    let killed = GatewayProcess::start(&file, &[]).await;
    let there = GatewayProcess::start(&file, &[]).await;
    let asked = ClientRequest::prompt("m");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange.token("two ").await;
        exchange
    };
    let (mut answer, _exchange) = tokio::join!(killed.ask(&asked), answering);
    let start = answer.expect("start").await;
    let stream = start["stream"].as_str().unwrap().to_owned();
    let mut text_read = String::new();
    while text_read != "one two " {
        text_read += answer.expect("token").await["text"].as_str().unwrap();
    }
    // Everything that a client has is stored.
    let events = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
    let mut reader = there.ask(&events).await;
    reader.expect("start").await;
    reader.expect("token").await;
    let second = reader.event().await.unwrap();
    killed.program.signal(Signal::KILL);
    let mut exchange = upstream.request().await;
    let asked: Value = serde_json::from_slice(&exchange.body).unwrap();
    assert_eq!(asked["messages"][1]["content"], "one two");
    exchange.begin().await;
    exchange.token(" three").await;
    let token = reader.event().await.unwrap();
    assert_eq!(token.data["text"], "three");
    assert_eq!(token.id, format!("{stream}.03"));
    exchange.finish().await;
    let complete = reader.event().await.unwrap();
    assert_eq!(
        (complete.name.as_str(), &complete.data["continued"]),
        ("complete", &1.into())
    );
    let taken_over = "sluicegate_streams_taken_over_total{outcome=\"continued\"}";
    assert_eq!(there.metric(taken_over).await, 1.0);
    // The client of the killed replica continues without noticing.
    let back = ClientRequest::prompt("m").header("last-event-id", &second.id);
    let events = there.ask(&back).await.rest().await;
    assert_eq!((text(&events).as_str(), outcome(&events)), ("three", ""));
    let back = ClientRequest::prompt("m").header("last-event-id", &complete.id);
    assert_eq!(there.ask(&back).await.status(), 204);
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_leaving_replica_stores_what_a_slow_store_did_not_take_at_first() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (mut answer, mut exchange, stream) = started(&here, &upstream).await;
    valkey.stall();
    exchange.token("two").await;
    exchange.finish().await;
    // The client waits for the store until the store has missed its deadline.
    assert_eq!(text(&answer.rest().await), "two");
    valkey.resume();
    within_timeout(here.gateway.app().replicas.as_ref().unwrap().leave()).await;
    drop(here);
    let (_, status) = status(&there, &stream).await;
    assert_eq!(status["state"], "complete");
    assert_eq!(status["text"], "one two");
}
