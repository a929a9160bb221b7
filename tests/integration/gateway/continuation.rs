//! Answers that break off and are continued by another target, with `continue: on`.

use serde_json::{Value, json};
use sluicegate::config::{Config, Overrides};

use super::client::{ClientRequest, outcome, text};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream, event};

/// The model `m` with two upstreams of that preset, or of none.
fn config(upstreams: [&ScriptedUpstream; 2], preset: &str, continues: &str) -> String {
    let [a, b] = upstreams.map(ScriptedUpstream::addr);
    format!(
        "upstreams:\n  a: {{ {preset}, base_url: 'http://{a}/v1' }}\n  \
         b: {{ {preset}, base_url: 'http://{b}/v1' }}\n\
         models:\n  m:\n    continue: {continues}\n    targets:\n    \
         - {{ upstream: a, model: one }}\n    - {{ upstream: b, model: two, priority: 1 }}\n    retry: off\n\
         resume: {{ window: 1h }}\n"
    )
}

const PLAIN: &str = "wire: openai-chat";

async fn started(upstream: &ScriptedUpstream, tokens: &[&str]) -> Exchange {
    let mut exchange = upstream.request().await;
    exchange.begin().await;
    for token in tokens {
        exchange.token(token).await;
    }
    exchange
}

fn body(exchange: &Exchange) -> Value {
    serde_json::from_slice(&exchange.body).unwrap()
}

#[tokio::test]
async fn another_target_continues_a_broken_answer() {
    let (a, b) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = TestGateway::start(&config([&a, &b], PLAIN, "on"));
    let upstreams = async {
        // It breaks in the middle of an event.
        let mut broken = started(&a, &["one ", "two "]).await;
        broken.chunk("data: {\"choices\":[{\"del").await;
        drop(broken);
        let mut other = b.request().await;
        let asked = body(&other);
        other.begin().await;
        // It may or may not repeat the white space.
        other.token(" th").await;
        other.token("ree").await;
        other.finish().await;
        asked
    };
    let (mut answer, asked) = tokio::join!(running.prompt(), upstreams);
    let events = answer.events().await;
    assert_eq!(text(&events), "one two three");
    assert_eq!(events[0].data["upstream"], "a");
    let complete = &events.last().unwrap().data;
    assert_eq!(
        (&complete["finish_reason"], &complete["continued"]),
        (&json!("stop"), &json!(1))
    );
    assert_eq!(asked["model"], "two");
    let messages = json!([
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "one two"},
    ]);
    assert_eq!(asked["messages"], messages);
    // A client that comes back reads the same events.
    let stream = events[0].data["stream"].as_str().unwrap();
    let again = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
    assert_eq!(running.ask(&again).await.events().await, events);
}

#[tokio::test]
async fn an_answer_is_continued_several_times_but_not_for_ever() {
    let (a, b) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = TestGateway::start(&config([&a, &b], PLAIN, "on"));
    let upstreams = async {
        drop(started(&a, &["one"]).await);
        drop(started(&b, &["two"]).await);
        drop(started(&a, &["three"]).await);
        let mut last = started(&b, &["four"]).await;
        let asked = body(&last);
        last.chunk(event(&json!({"error": {"message": "overloaded"}})))
            .await;
        asked
    };
    let (mut answer, asked) = tokio::join!(running.prompt(), upstreams);
    let events = answer.events().await;
    assert_eq!(text(&events), "onetwothreefour");
    assert_eq!(outcome(&events), "upstream_error");
    assert_eq!(asked["messages"][1]["content"], "onetwothree");
}

#[tokio::test]
async fn the_first_error_is_reported_when_no_target_continues() {
    let (a, b) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = TestGateway::start(&config([&a, &b], PLAIN, "on"));
    let upstreams = async {
        drop(started(&a, &["one"]).await);
        b.request().await.answer(500, "", "{}").await;
        a.request().await.answer(400, "", "{}").await;
    };
    let (mut answer, ()) = tokio::join!(running.prompt(), upstreams);
    let events = answer.events().await;
    assert_eq!(
        (text(&events).as_str(), outcome(&events)),
        ("one", "stream_interrupted")
    );
}

#[tokio::test]
async fn tool_calls_empty_answers_and_vendors_without_prefill_are_not_continued() {
    let call = json!({"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{\"a\""}}
    ]}}]});
    let reasoning = json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]});
    let word = json!({"choices": [{"index": 0, "delta": {"content": "one"}}]});
    // The text that is kept for a continuation is bounded.
    let much = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(1 << 20)}}]});
    let never = "preset: openai, api_key: sk-1";
    for (preset, continues, sent) in [
        (PLAIN, "on", vec![&word, &call]),
        (PLAIN, "on", vec![&reasoning]),
        (PLAIN, "on", vec![&word, &much]),
        (PLAIN, "off", vec![&word]),
        (never, "on", vec![&word]),
    ] {
        let (a, b) = (
            ScriptedUpstream::bind().await,
            ScriptedUpstream::bind().await,
        );
        let running = TestGateway::start(&config([&a, &b], preset, continues));
        let upstreams = async {
            let mut exchange = started(&a, &[]).await;
            for delta in &sent {
                exchange.chunk(event(delta)).await;
            }
        };
        let (mut answer, ()) = tokio::join!(running.prompt(), upstreams);
        assert_eq!(outcome(&answer.events().await), "stream_interrupted");
        assert!(!a.was_asked_again() && !b.was_asked_again());
    }
}

#[tokio::test]
async fn a_stream_is_cancelled_during_a_continuation() {
    let (a, b) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = TestGateway::start(&config([&a, &b], PLAIN, "on"));
    let upstreams = async {
        drop(started(&a, &["one"]).await);
        b.request().await
    };
    let (mut answer, asked) = tokio::join!(running.prompt(), upstreams);
    let start = answer.expect("start").await;
    let stream = start["stream"].as_str().unwrap();
    let cancel = ClientRequest::new("DELETE", format!("/v1/streams/{stream}"));
    assert_eq!(running.ask(&cancel).await.status(), 200);
    asked.closed().await;
    answer.expect("token").await;
    assert_eq!(
        answer.expect("complete").await["finish_reason"],
        "cancelled"
    );
}

#[test]
fn continue_gives_no_warning() {
    let text = "upstreams: { ollama: {} }\nmodels: { m: { targets: [ { upstream: ollama, model: x } ], continue: on } }\n";
    let loaded = Config::parse(text, "test", &|_| None, &Overrides::default()).unwrap();
    assert_eq!(loaded.warnings.len(), 0);
}
