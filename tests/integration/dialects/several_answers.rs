//! `n`: several answers to one request of Chat Completions.

use serde_json::{Value, json};
use sluicegate::pipeline::{self, FRAME_CAP};
use sluicegate::wire;

use super::{dialect, parse, sent};

const PATH: &str = "/v1/chat/completions";

fn asked(n: u64, stream: bool) -> Value {
    json!({
        "model": "m",
        "messages": [{"role": "user", "content": "Name a lake."}],
        "n": n,
        "stream": stream,
        "stream_options": {"include_usage": true},
    })
}

fn fixture() -> Vec<u8> {
    let path = "proto-fixtures/openai-chat/several-choices/upstream.sse";
    std::fs::read(path).expect("the fixture")
}

/// What the client gets, of the answer that `body` is.
fn answered(n: u64, stream: bool, body: &[u8]) -> String {
    let request = parse(PATH, &asked(n, stream)).unwrap();
    let wire = wire::by_name("openai-chat").unwrap();
    let bytes = pipeline::bytes(wire, dialect(PATH), &request, [body]);
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn chunks(stream: &str) -> Vec<Value> {
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"));
    data.map(|data| serde_json::from_str(&format!("{{{data}")).unwrap())
        .collect()
}

#[test]
fn n_reaches_only_upstreams_of_the_same_protocol() {
    let request = parse(PATH, &asked(3, false)).unwrap();
    assert_eq!(sent("openai-chat", &request).unwrap()["n"], 3);
    for wire in wire::ALL.iter().filter(|wire| wire.name() != "openai-chat") {
        let error = sent(wire.name(), &request).expect_err("only one answer");
        assert_eq!(error.field(), Some("n"));
    }
    // One answer is what everybody gives.
    let request = parse(PATH, &asked(1, false)).unwrap();
    assert!(sent("openai-chat", &request).unwrap().get("n").is_none());
    assert!(sent("gemini", &request).is_ok());
}

#[test]
fn a_whole_answer_has_a_choice_for_each() {
    let answer: Value = serde_json::from_str(&answered(3, false, &fixture())).unwrap();
    let choice = |index: usize| {
        let choice = &answer["choices"][index];
        assert_eq!(choice["index"], index);
        (
            &choice["message"],
            choice["finish_reason"].as_str().unwrap(),
        )
    };
    let (first, stopped) = choice(0);
    assert_eq!((&first["content"], stopped), (&json!("The Müritz"), "stop"));
    let (second, stopped) = choice(1);
    assert_eq!(
        (&second["content"], stopped),
        (&json!("Lake Garda"), "length")
    );
    let (third, stopped) = choice(2);
    let function = &third["tool_calls"][0]["function"];
    assert_eq!(function["arguments"], r#"{"near":"Waren"}"#);
    assert_eq!((&third["content"], stopped), (&Value::Null, "tool_calls"));
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
    assert_eq!(answer["usage"]["completion_tokens"], 23);
}

#[test]
fn a_stream_has_every_choice_and_ends_after_the_last() {
    let stream = answered(3, true, &fixture());
    let chunks = chunks(&stream);
    for (index, text) in [(0, "The Müritz"), (1, "Lake Garda"), (2, "")] {
        let of = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
        let of: Vec<&Value> = of.filter(|choice| choice["index"] == index).collect();
        assert_eq!(of[0]["delta"]["role"], "assistant");
        let said = of
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str());
        assert_eq!(said.collect::<String>(), text);
        let (last, before) = of.split_last().unwrap();
        assert!(last["finish_reason"].is_string());
        assert!(
            before
                .iter()
                .all(|choice| choice["finish_reason"].is_null())
        );
    }
    assert_eq!(chunks.last().unwrap()["usage"]["prompt_tokens"], 9);
    assert!(stream.ends_with("data: [DONE]\n\n"));
}

#[test]
fn a_client_that_asked_for_one_answer_gets_the_first() {
    let answer: Value = serde_json::from_str(&answered(1, false, &fixture())).unwrap();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
    assert_eq!(answer["choices"][0]["message"]["content"], "The Müritz");
    assert!(!answered(1, true, &fixture()).contains("Garda"));
}

#[test]
fn an_incomplete_choice_fails_the_whole_answer() {
    let body = String::from_utf8(fixture()).unwrap();
    let blocks: Vec<&str> = body.split_inclusive("\n\n").collect();
    let without = |words: &str| {
        let kept = blocks.iter().filter(|block| !block.contains(words));
        kept.copied().collect::<String>()
    };
    // Every answer's own finish is an end where the marker is missing.
    let whole = without("[DONE]");
    assert!(answered(3, true, whole.as_bytes()).ends_with("data: [DONE]\n\n"));
    let broken =
        without("[DONE]").replace(r#""finish_reason":"length""#, r#""finish_reason":null"#);
    let stream = answered(3, true, broken.as_bytes());
    assert!(
        stream.contains("stream_interrupted") && !stream.contains("[DONE]"),
        "{stream}"
    );
}

/// llama.cpp begins with the last.
#[test]
fn the_answers_come_in_any_order() {
    let chunk = |index: usize, text: &str, finish: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let body = [
        chunk(1, "B", "null"),
        chunk(0, "A", "null"),
        chunk(1, "b", "\"stop\""),
        chunk(0, "a", "\"stop\""),
        "data: [DONE]\n\n".to_owned(),
    ];
    let answer = answered(2, false, body.concat().as_bytes());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    for (index, text) in [(0, "Aa"), (1, "Bb")] {
        assert_eq!(answer["choices"][index]["message"]["content"], text);
    }
}

#[test]
fn choices_beyond_the_protocols_maximum_are_ignored() {
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"A\"},\"finish_reason\":\"stop\"},\
        {\"index\":4294967295,\"delta\":{\"content\":\"B\"}}]}\n\ndata: [DONE]\n\n";
    let mut events = 0;
    let wire = wire::by_name("openai-chat").unwrap();
    let read = pipeline::read(
        wire,
        FRAME_CAP,
        [body.as_bytes()],
        &mut |_: sluicegate::model::Event<'_>| {
            events += 1;
        },
    );
    assert!(read.1.is_ok());
    assert_eq!(events, 2);
}
