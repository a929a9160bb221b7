//! Coding agents whose protocol the upstream does not speak: their tools, and their heartbeats.

use serde_json::{Value, json};

use super::client::{Answer, ClientRequest};
use super::harness::TestGateway;
use super::keys::key;
use super::scripted::{Exchange, ScriptedUpstream};

/// The model `m` at an upstream of `wire`.
fn gateway(wire: &str, upstream: &ScriptedUpstream, settings: &str) -> TestGateway {
    let addr = upstream.addr();
    TestGateway::start(&format!(
        "upstreams:\n  u: {{ wire: {wire}, base_url: 'http://{addr}' }}\n\
         models:\n  m: {{ targets: [ {{ upstream: u, model: theirs }} ], retry: off }}\n{settings}\n"
    ))
}

/// A request with tools of each form that Codex sends.
fn codex(stream: bool) -> Value {
    json!({
        "model": "m",
        "stream": stream,
        "input": [{"role": "user", "content": "Hi"}],
        "tools": [
            {"type": "custom", "name": "apply_patch",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"x\""}},
            {"type": "namespace", "name": "mcp__mail", "tools": [
                {"type": "function", "name": "send", "parameters": {"type": "object"}},
            ]},
            {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
            {"type": "web_search"},
        ],
        "store": false,
    })
}

/// A chunk of an answer in OpenAI's form.
fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "c", "choices": [choice]}))
}

fn call(index: u32, name: &str, arguments: &str) -> String {
    let function = json!({"name": name, "arguments": arguments});
    let call = json!({"index": index, "id": format!("c{index}"), "type": "function", "function": function});
    chunk(&json!({ "tool_calls": [call] }), None)
}

fn arguments(index: u32, more: &str) -> String {
    let call = json!({"index": index, "function": {"arguments": more}});
    chunk(&json!({ "tool_calls": [call] }), None)
}

async fn write_calls(exchange: &mut Exchange) {
    exchange.begin().await;
    for piece in [
        call(0, "apply_patch", "{\"inp"),
        arguments(0, "ut\":\"*** Begin\\n"),
        arguments(0, "\\\"x\\\"\"}"),
        call(1, "send", "{\"to\":\"a\"}"),
        call(2, "tool_search", "{\"query\":\"mail\"}"),
        chunk(&json!({}), Some("tool_calls")),
        "data: [DONE]\n\n".to_owned(),
    ] {
        exchange.chunk(&piece).await;
    }
    exchange.end().await;
}

/// The items without their ids, which the gateway makes.
fn items(output: &Value) -> Vec<Value> {
    let mut items = output.as_array().unwrap().clone();
    for item in &mut items {
        item.as_object_mut().unwrap().remove("id");
    }
    items
}

fn expected_items() -> Vec<Value> {
    vec![
        json!({"type": "custom_tool_call", "status": "completed", "call_id": "c0",
               "name": "apply_patch", "input": "*** Begin\n\"x\""}),
        json!({"type": "function_call", "status": "completed", "call_id": "c1",
               "name": "send", "namespace": "mcp__mail", "arguments": "{\"to\":\"a\"}"}),
        json!({"type": "tool_search_call", "status": "completed", "call_id": "c2",
               "execution": "client", "arguments": {"query": "mail"}}),
    ]
}

#[tokio::test]
async fn calls_come_back_in_the_form_of_their_tools() {
    for stream in [true, false] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway("openai-chat", &upstream, "");
        let asked = ClientRequest::at("/v1/responses", &codex(stream));
        let answering = async {
            let mut exchange = upstream.request().await;
            let sent: Value = serde_json::from_slice(&exchange.body).unwrap();
            let names = sent["tools"].as_array().unwrap().iter();
            let names: Vec<_> = names.map(|tool| tool["function"]["name"].clone()).collect();
            assert_eq!(names, ["apply_patch", "send", "tool_search"]);
            write_calls(&mut exchange).await;
        };
        let (mut answer, ()) = tokio::join!(running.ask(&asked), answering);
        assert_eq!(answer.header("x-sluicegate-adapted"), "tools[3], store");
        if !stream {
            let whole: Value = serde_json::from_slice(&answer.body().await).unwrap();
            assert_eq!(items(&whole["output"]), expected_items());
            continue;
        }
        let events = Events::new(answer).rest().await;
        let last = &events.last().unwrap().data["response"];
        assert_eq!(items(&last["output"]), expected_items());
        let deltas = texts(&events, "response.custom_tool_call_input.delta", "delta");
        assert_eq!(deltas, ["*** Begin\n", "\"x\""]);
        let done = texts(&events, "response.custom_tool_call_input.done", "input");
        assert_eq!(done, ["*** Begin\n\"x\""]);
        assert_eq!(count(&events, "response.output_item.added"), 3);
        assert_eq!(count(&events, "response.output_item.done"), 3);
    }
}

/// An event without an id.
#[derive(Debug)]
struct Event {
    name: String,
    data: Value,
}

/// Reads the events of a stream.
struct Events {
    answer: Answer,
    unread: String,
}

impl Events {
    fn new(answer: Answer) -> Self {
        Self {
            answer,
            unread: String::new(),
        }
    }

    /// The next event; comments are skipped.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let lines = block.split_once('\n').map(|(name, data)| {
                    let name = name.strip_prefix("event: ").expect("a name");
                    let data = data.strip_prefix("data: ").expect("data");
                    Event {
                        name: name.to_owned(),
                        data: serde_json::from_str(data).expect("JSON"),
                    }
                });
                self.unread = rest.to_owned();
                if lines.is_some() {
                    return lines;
                }
                continue;
            }
            let more = self.answer.chunk().await?;
            self.unread.push_str(&more);
        }
    }

    async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn texts<'a>(events: &'a [Event], name: &str, member: &str) -> Vec<&'a str> {
    let events = events.iter().filter(|event| event.name == name);
    events
        .filter_map(|event| event.data[member].as_str())
        .collect()
}

fn count(events: &[Event], name: &str) -> usize {
    events.iter().filter(|event| event.name == name).count()
}

#[tokio::test]
async fn a_silent_response_repeats_that_it_is_in_progress() {
    for (wire, first) in [
        ("openai-chat", chunk(&json!({"content": "Hello"}), None)),
        (
            "openai-responses",
            concat!(
                "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,",
                "\"response\":{\"id\":\"resp_9\",\"object\":\"response\",\"model\":\"theirs\"}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",",
                "\"sequence_number\":4,\"output_index\":0,\"content_index\":0,\"delta\":\"Hello\"}\n\n",
            )
            .to_owned(),
        ),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(wire, &upstream, "heartbeat: 100ms");
        let body = json!({"model": "m", "input": "Hi", "stream": true});
        let asked = ClientRequest::at("/v1/responses", &body);
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.chunk(&first).await;
            exchange
        };
        let (answer, exchange) = tokio::join!(running.ask(&asked), answering);
        let mut events = Events::new(answer);
        let created = events.next().await.unwrap();
        assert_eq!(created.name, "response.created", "{wire}");
        let last = loop {
            let event = events.next().await.unwrap();
            if event.name == "response.output_text.delta" {
                break event.data["sequence_number"].clone();
            }
        };
        for _ in 0..2 {
            let heartbeat = events.next().await.unwrap();
            assert_eq!(heartbeat.name, "response.in_progress", "{wire}");
            assert_eq!(heartbeat.data["sequence_number"], last, "{wire}");
            let response = &heartbeat.data["response"];
            assert_eq!(response["id"], created.data["response"]["id"], "{wire}");
            assert_eq!(response["status"], "in_progress", "{wire}");
        }
        drop(exchange);
        let rest = events.rest().await;
        assert_eq!(rest.last().unwrap().name, "response.failed", "{wire}");
    }
}

#[tokio::test]
async fn an_unanswered_response_begins_with_the_first_heartbeat() {
    for fails in [false, true] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway("openai-chat", &upstream, "heartbeat: 100ms");
        let body = json!({"model": "m", "input": "Hi", "stream": true});
        let asked = ClientRequest::at("/v1/responses", &body);
        let (answer, mut exchange) = tokio::join!(running.ask(&asked), upstream.request());
        let mut events = Events::new(answer);
        let created = events.next().await.unwrap();
        assert_eq!(created.name, "response.created");
        for number in [1, 1, 1] {
            let heartbeat = events.next().await.unwrap();
            assert_eq!(heartbeat.name, "response.in_progress");
            assert_eq!(heartbeat.data["sequence_number"], number);
            assert_eq!(heartbeat.data["response"], created.data["response"]);
        }
        if fails {
            drop(exchange);
        } else {
            exchange.begin().await;
            exchange
                .chunk(&chunk(&json!({"content": "Hello"}), None))
                .await;
            exchange.chunk(&chunk(&json!({}), Some("stop"))).await;
            exchange.end().await;
        }
        let rest = events.rest().await;
        let rest = rest
            .iter()
            .filter(|event| event.name != "response.in_progress");
        let rest: Vec<_> = rest.collect();
        let numbers = rest
            .iter()
            .map(|event| event.data["sequence_number"].as_u64());
        assert!(numbers.eq((2..).take(rest.len()).map(Some)), "{rest:?}");
        let last = rest.last().unwrap();
        let end = if fails {
            "response.failed"
        } else {
            "response.completed"
        };
        assert_eq!(last.name, end);
        assert_eq!(last.data["response"]["id"], created.data["response"]["id"]);
    }
}

#[tokio::test]
async fn a_shortened_tool_name_comes_back_as_the_client_wrote_it() {
    let name = "mcp__plugin_youtube_content_strategist_youtube_analytics__get_video_transcript";
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway("openai-chat", &upstream, "");
    let body = json!({
        "model": "m",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": name, "input_schema": {"type": "object"}}],
    });
    let asked = ClientRequest::at("/v1/messages", &body);
    let answering = async {
        let mut exchange = upstream.request().await;
        let sent: Value = serde_json::from_slice(&exchange.body).unwrap();
        let short = sent["tools"][0]["function"]["name"].as_str().unwrap();
        assert!(short.len() <= 64, "{short}");
        exchange.begin().await;
        exchange.chunk(&call(0, short, "{}")).await;
        exchange.chunk(&chunk(&json!({}), Some("tool_calls"))).await;
        exchange.chunk("data: [DONE]\n\n").await;
        exchange.end().await;
    };
    let (mut answer, ()) = tokio::join!(running.ask(&asked), answering);
    assert_eq!(answer.header("x-sluicegate-adapted"), "tools[0]");
    let message: Value = serde_json::from_slice(&answer.body().await).unwrap();
    assert_eq!(message["content"][0]["name"], name);
}

#[tokio::test]
async fn the_rate_limits_of_the_vendor_are_passed_on_unless_the_key_has_its_own() {
    for (key_limits, requests) in [("", "500"), (", limits: { requests: 7/hour }", "7")] {
        let upstream = ScriptedUpstream::bind().await;
        let key = key("one", "key-one", key_limits);
        let running = gateway("openai-chat", &upstream, &format!("keys:\n{key}"));
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        let asked = ClientRequest::at("/v1/chat/completions", &body).key("key-one");
        let answering = async {
            let mut exchange = upstream.request().await;
            let headers = "content-type: text/event-stream\r\n\
                x-ratelimit-limit-requests: 500\r\nx-ratelimit-remaining-tokens: 90\r\n\
                anthropic-ratelimit-unified-status: allowed\r\nx-internal: 1\r\n";
            let text = chunk(&json!({"content": "Hi"}), Some("stop")) + "data: [DONE]\n\n";
            exchange.answer(200, headers, &text).await;
        };
        let (answer, ()) = tokio::join!(running.ask(&asked), answering);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), requests);
        assert_eq!(answer.header("x-ratelimit-remaining-tokens"), "90");
        assert_eq!(
            answer.header("anthropic-ratelimit-unified-status"),
            "allowed"
        );
        assert!(!answer.has("x-internal"));
    }
}

/// The signature that a client of `/v1/messages` gets from an upstream of the preset `anthropic`, where
/// the model's targets have these presets, and what the upstream gets back.
async fn signature(presets: &[&str]) -> (String, Value) {
    let upstream = ScriptedUpstream::bind().await;
    let addr = upstream.addr();
    let mut declared = String::new();
    let mut targets = String::new();
    for (at, preset) in presets.iter().enumerate() {
        declared.push_str(&format!(
            "  {preset}: {{ preset: {preset}, base_url: 'http://{addr}', api_key: k, fidelity: repaired{} }}\n",
            if *preset == "bedrock" { ", region: eu-west-1" } else { "" }
        ));
        targets.push_str(&format!(
            "{{ upstream: {preset}, model: anthropic.claude-x, priority: {at} }}, "
        ));
    }
    let running = TestGateway::start(&format!(
        "upstreams:\n{declared}models:\n  m: {{ targets: [ {targets} ] }}\n"
    ));
    let thinking = json!({"type": "thinking", "thinking": "Hm", "signature": "c2ln"});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "A"}]},
        {"role": "user", "content": "Go on"},
    ]});
    let asked = ClientRequest::at("/v1/messages", &body);
    let answering = async {
        let mut exchange = upstream.request().await;
        let document = json!({"type": "message", "role": "assistant", "content": [thinking],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
        let headers = "content-type: application/json\r\n";
        exchange.answer(200, headers, &document.to_string()).await;
        serde_json::from_slice::<Value>(&exchange.body).unwrap()
    };
    let (mut answer, sent) = tokio::join!(running.ask(&asked), answering);
    let message: Value = serde_json::from_slice(&answer.body().await).unwrap();
    let signature = message["content"][0]["signature"].as_str();
    (signature.unwrap_or_default().to_owned(), sent)
}

#[tokio::test]
async fn signatures_have_no_tag_if_every_target_accepts_them() {
    let (signature_at_one, sent) = signature(&["anthropic"]).await;
    assert_eq!(signature_at_one, "c2ln");
    assert_eq!(sent["messages"][1]["content"][0]["signature"], "c2ln");
    let (shared, _) = signature(&["anthropic", "bedrock"]).await;
    assert_eq!(shared, "c2ln");
    let (mixed, _) = signature(&["anthropic", "gemini"]).await;
    assert_eq!(mixed, "sluicegate:anthropic-messages:anthropic:c2ln");
}

#[tokio::test]
async fn long_numbers_in_the_arguments_of_calls_keep_their_digits() {
    let arguments = r#"{"wei":123456789012345678901234567890,"part":0.12345678901234567890}"#;
    for wire in ["anthropic-messages", "gemini", "ollama-chat"] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(wire, &upstream, "");
        let body = json!({"model": "m", "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
                "function": {"name": "f", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        ]});
        let asked = ClientRequest::at("/v1/chat/completions", &body);
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.answer(400, "", "{}").await;
            String::from_utf8(exchange.body.clone()).unwrap()
        };
        let (_, sent) = tokio::join!(running.ask(&asked), answering);
        assert!(sent.contains(arguments), "{wire}: {sent}");
    }
}
