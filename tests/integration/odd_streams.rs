//! Streams of every wire with the oddities that vendors are known for, at every place.

use serde_json::{Value, json};
use sluicegate::dialect;
use sluicegate::model::Request;
use sluicegate::pipeline;
use sluicegate::wire;

use crate::naive_sse;

/// A wire, and the frames of an ordinary answer of it: `Good day.`
struct Base {
    wire: &'static str,
    frames: &'static [&'static str],
}

const WORDS: &str = "the sluice is stuck";

const BASES: &[Base] = &[
    Base {
        wire: "openai-chat",
        frames: &[
            r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Good "},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"day."},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ],
    },
    Base {
        wire: "anthropic-messages",
        frames: &[
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Good "}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"day."}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#,
            r#"{"type":"message_stop"}"#,
        ],
    },
    Base {
        wire: "gemini",
        frames: &[
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Good "}]},"index":0}],"modelVersion":"m","responseId":"r"}"#,
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"day."}]},"index":0}],"modelVersion":"m","responseId":"r"}"#,
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}"#,
        ],
    },
    Base {
        wire: "openai-responses",
        frames: &[
            r#"{"type":"response.created","response":{"id":"resp_1","object":"response","model":"m","status":"in_progress","output":[]}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}"#,
            r#"{"type":"response.content_part.added","item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":""}}"#,
            r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"Good "}"#,
            r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"day."}"#,
            r#"{"type":"response.output_text.done","item_id":"msg_1","output_index":0,"content_index":0,"text":"Good day."}"#,
            r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Good day."}]}}"#,
            r#"{"type":"response.completed","response":{"id":"resp_1","object":"response","model":"m","status":"completed","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Good day."}]}],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#,
        ],
    },
    Base {
        wire: "cohere-chat",
        frames: &[
            r#"{"id":"c","type":"message-start","delta":{"message":{"role":"assistant","content":[]}}}"#,
            r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Good "}}}}"#,
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"day."}}}}"#,
            r#"{"type":"content-end","index":0}"#,
            r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":3,"output_tokens":2}}}}"#,
        ],
    },
    Base {
        wire: "ollama-chat",
        frames: &[
            r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"Good "},"done":false}"#,
            r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"day."},"done":false}"#,
            r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"prompt_eval_count":3,"eval_count":2}"#,
        ],
    },
];

/// Failures in the forms of many vendors; each says [`WORDS`].
const FAILURES: &[&str] = &[
    r#"{"error":{"message":"W"}}"#,
    r#"{"error":"W"}"#,
    r#"{"error":["W"]}"#,
    r#"{"error":true,"message":"W"}"#,
    r#"{"error":1,"message":"W"}"#,
    r#"{"error":{"code":500,"msg":"W"}}"#,
    r#"{"error":{"details":"W"}}"#,
    r#"{"error":{"reason":"W"}}"#,
    r#"{"error":{"error":{"message":"W"}}}"#,
    r#"{"error":{"message":{"detail":"W"}}}"#,
    r#"{"code":500,"message":"W"}"#,
    r#"{"code":"500","msg":"W","data":null}"#,
    r#"{"status":500,"message":"W"}"#,
    r#"{"status":"error","message":"W"}"#,
    r#"{"success":false,"message":"W"}"#,
    r#"{"success":false,"errors":[{"code":7,"message":"W"}],"result":null}"#,
    r#"{"detail":"W"}"#,
    r#"{"detail":{"error":"W"}}"#,
    r#"{"detail":[{"loc":["body"],"msg":"W"}]}"#,
    r#"{"errors":["W"]}"#,
    r#"{"errors":{"message":"W"}}"#,
    r#"{"errors":"W"}"#,
    r#"{"error_code":17,"text":"W"}"#,
    r#"{"error_code":17,"error_msg":"W"}"#,
    r#"{"errorCode":17,"errorMessage":"W"}"#,
    r#"{"base_resp":{"status_code":1002,"status_msg":"W"}}"#,
    r#"{"message":"W","type":"error"}"#,
    r#"{"type":"error","error":{"type":"overloaded_error","message":"W"}}"#,
    r#"{"object":"error","message":"W","code":40303}"#,
    r#"{"title":"W","status":503}"#,
    r#"{"fault":{"faultstring":"W"}}"#,
    r#"{"Error":{"Message":"W"}}"#,
    r#"{"Message":"W"}"#,
    r#"{"exception":"W"}"#,
    r#"{"reason":"W"}"#,
    r#"{"description":"W"}"#,
    r#"{"header":{"code":10013,"message":"W"}}"#,
    r#"{"statusCode":503,"error":"Service Unavailable","message":"W"}"#,
    r#"{"timestamp":"t","status":500,"error":"Internal","path":"/x","message":"W"}"#,
    r#"[{"error":{"message":"W"}}]"#,
    "internal server error: W",
    "502 Bad Gateway: W",
    "Error: W",
    "upstream connect error or disconnect/reset before headers: W",
    "<html><head><title>502 Bad Gateway</title></head><body>W</body></html>",
];

/// Frames that mean nothing.
const TRIFLES: &[&str] = &[
    "ping",
    ": keepalive",
    "",
    "null",
    "{}",
    "[]",
    "keep-alive",
    "OK",
    "[PING]",
    "heartbeat",
    "true",
    "0",
    r#"{"type":"ping"}"#,
    r#"{"type":"keepalive"}"#,
    r#"{"error":null}"#,
    r#"{"error":""}"#,
    r#"{"error":{}}"#,
    r#"{"error":false}"#,
    r#"{"error":[]}"#,
    r#"{"ping":1}"#,
    r#"{"usage":null}"#,
    r#"{"type":"unknown.kind","data":{"x":1}}"#,
    r#"{"choices":[]}"#,
    r#"{"status":"ok"}"#,
    r#"{"code":0,"message":""}"#,
    r#"{"base_resp":{"status_code":0,"status_msg":""}}"#,
    r#"{"code":200,"message":"success"}"#,
    r#"{"code":0,"msg":"ok"}"#,
    r#"{"base_resp":{"status_code":0,"status_msg":"success"}}"#,
];

fn render(wire: &str, frames: &[String]) -> Vec<u8> {
    let mut out = String::new();
    for frame in frames {
        if wire == "ollama-chat" {
            out += frame;
            out.push('\n');
            continue;
        }
        let kind = serde_json::from_str::<Value>(frame).unwrap_or_default();
        if let (Some(kind), "anthropic-messages" | "openai-responses") =
            (kind["type"].as_str(), wire)
        {
            out += &format!("event: {kind}\n");
        }
        out += &format!("data: {frame}\n\n");
    }
    out.into_bytes()
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    text: String,
    calls: Vec<(String, String, String)>,
    finish: String,
    usage: Value,
    error: String,
    message: String,
}

fn read(wire: &str, body: &[u8]) -> Outcome {
    let request = Request {
        model: "m".to_owned(),
        stream: true,
        ..Request::default()
    };
    let wire = wire::by_name(wire).unwrap();
    let whole = pipeline::bytes(wire, dialect::NATIVE, &request, [body]);
    let single = pipeline::bytes(wire, dialect::NATIVE, &request, body.chunks(1));
    assert_eq!(whole, single, "{}", String::from_utf8_lossy(body));
    let mut outcome = Outcome::default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for event in naive_sse::events(&whole) {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.name.as_str() {
            "token" => outcome.text += &text(&data["text"]),
            "tool_call" => {
                let at = data["index"].as_u64().unwrap() as usize;
                if at == outcome.calls.len() {
                    outcome
                        .calls
                        .push((text(&data["id"]), text(&data["name"]), String::new()));
                }
                outcome.calls[at].2 += &text(&data["arguments"]);
            }
            "complete" => {
                outcome.finish = text(&data["finish_reason"]);
                outcome.usage = data["usage"].clone();
            }
            "error" => {
                outcome.error = text(&data["error"]["code"]);
                outcome.message = text(&data["error"]["message"]);
            }
            _ => {}
        }
    }
    outcome
}

fn inserted(base: &Base, at: usize, frame: &str) -> Vec<u8> {
    let mut frames: Vec<String> = base
        .frames
        .iter()
        .map(|frame| (*frame).to_owned())
        .collect();
    frames.insert(
        at,
        frame
            .replace("\"W\"", &format!("\"{WORDS}\""))
            .replace(": W", &format!(": {WORDS}"))
            .replace(">W<", &format!(">{WORDS}<")),
    );
    render(base.wire, &frames)
}

#[test]
fn a_failure_in_any_words_at_any_place_ends_the_answer_in_an_error_with_them() {
    let mut wrong = Vec::new();
    for base in BASES {
        for failure in FAILURES {
            for at in 0..base.frames.len() {
                if base.wire == "ollama-chat" && at == base.frames.len() {
                    continue;
                }
                let got = read(base.wire, &inserted(base, at, failure));
                let kept = got.message.contains(WORDS) || failure.starts_with('<');
                if got.error.is_empty() || !kept {
                    wrong.push(format!(
                        "{} {at}: {failure}: {} {} finish {:?}",
                        base.wire, got.error, got.message, got.finish
                    ));
                }
            }
            // Under a 200 in place of the stream, and as a refusal.
            let body = failure
                .replace("\"W\"", &format!("\"{WORDS}\""))
                .replace(": W", &format!(": {WORDS}"))
                .replace(">W<", &format!(">{WORDS}<"));
            let got = read(base.wire, body.as_bytes());
            let kept = got.message.contains(WORDS) || failure.starts_with('<');
            if got.error.is_empty() || !kept {
                wrong.push(format!(
                    "{} document: {failure}: {} {}",
                    base.wire, got.error, got.message
                ));
            }
            if failure.starts_with(['{', '[']) {
                let wire = wire::by_name(base.wire).unwrap();
                let refusal = wire.refusal(body.as_bytes());
                if !refusal
                    .as_ref()
                    .is_some_and(|refusal| refusal.message.contains(WORDS))
                {
                    wrong.push(format!("{} refusal: {failure}: {refusal:?}", base.wire));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_frame_that_means_nothing_changes_nothing_at_any_place() {
    let mut wrong = Vec::new();
    for base in BASES {
        let plain: Vec<String> = base
            .frames
            .iter()
            .map(|frame| (*frame).to_owned())
            .collect();
        let expected = read(base.wire, &render(base.wire, &plain));
        assert_eq!(expected.text, "Good day.", "{}", base.wire);
        assert_eq!(expected.finish, "stop", "{}", base.wire);
        for trifle in TRIFLES {
            for at in 0..=base.frames.len() {
                let got = read(base.wire, &inserted(base, at, trifle));
                let same = got.text == expected.text
                    && got.finish == expected.finish
                    && got.usage == expected.usage;
                if !same {
                    wrong.push(format!("{} {at}: {trifle}: {got:?}", base.wire));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// An answer of `openai-chat` with these choices, one a frame.
fn chat(choices: &[Value]) -> Vec<u8> {
    let chunk = |choice: &Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})
            .to_string()
    };
    let mut frames: Vec<String> = choices.iter().map(chunk).collect();
    frames.push("[DONE]".to_owned());
    render("openai-chat", &frames)
}

/// The pieces of two calls, each with its arguments in two pieces, in the ways in which vendors name them.
#[test]
fn calls_stay_two_calls_however_their_pieces_are_named() {
    let ids: [(&str, [Value; 3]); 7] = [
        ("first", [json!("ID"), Value::Null, Value::Null]),
        ("always", [json!("ID"), json!("ID"), json!("ID")]),
        ("late", [Value::Null, json!("ID"), Value::Null]),
        ("empty", [json!("ID"), json!(""), json!("")]),
        ("null text", [json!("null"), json!("null"), json!("null")]),
        ("never", [Value::Null, Value::Null, Value::Null]),
        ("changing", [json!("ID"), json!("ID-b"), json!("ID-c")]),
    ];
    let names: [(&str, [Value; 3]); 4] = [
        ("first", [json!("NAME"), Value::Null, Value::Null]),
        ("late", [Value::Null, json!("NAME"), Value::Null]),
        ("empty", [json!("NAME"), json!(""), json!("")]),
        ("twice", [json!("NAME"), json!("NAME"), Value::Null]),
    ];
    let indexes = ["number", "text", "missing", "float"];
    let mut wrong = Vec::new();
    for (id_form, ids) in &ids {
        for (name_form, names) in &names {
            for index in indexes {
                // Nothing tells where the second call begins, or that a call of the same name with
                // another id is the same one.
                let late = *name_form == "late" && *id_form != "first" && *id_form != "empty";
                let renamed = *name_form == "twice" && *id_form == "changing";
                if index == "missing" && (late || renamed) {
                    continue;
                }
                let mut choices = Vec::new();
                for (at, (id, name)) in [("call_1", "raise"), ("call_2", "lower")]
                    .iter()
                    .enumerate()
                {
                    for (nth, arguments) in ["", "{\"gate\":", "\"east\"}"].iter().enumerate() {
                        let mut call =
                            json!({"type": "function", "function": {"arguments": arguments}});
                        if let Some(word) = ids[nth].as_str() {
                            call["id"] = json!(word.replace("ID", id));
                        }
                        if let Some(word) = names[nth].as_str() {
                            call["function"]["name"] = json!(word.replace("NAME", name));
                        }
                        match index {
                            "number" => call["index"] = json!(at),
                            "text" => call["index"] = json!(at.to_string()),
                            "float" => call["index"] = json!(at as f64),
                            _ => {}
                        }
                        choices.push(json!({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}));
                    }
                }
                choices.push(json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"}));
                let got = read("openai-chat", &chat(&choices));
                let calls: Vec<_> = got
                    .calls
                    .iter()
                    .map(|(_, name, arguments)| (name.as_str(), arguments.as_str()))
                    .collect();
                let arguments = "{\"gate\":\"east\"}";
                let two = calls == [("raise", arguments), ("lower", arguments)];
                let unique = got.calls.len() == 2
                    && got.calls[0].0 != got.calls[1].0
                    && !got.calls[0].0.is_empty();
                if !two || !unique || got.finish != "tool_calls" {
                    wrong.push(format!(
                        "id {id_form}, name {name_form}, index {index}: {got:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// Whole calls in one piece, in the forms that vendors write arguments in.
#[test]
fn arguments_in_any_form_become_one_json_text() {
    let forms = [
        (json!({"gate": "east"}), Some(json!({"gate": "east"}))),
        (json!("{\"gate\":\"east\"}"), Some(json!({"gate": "east"}))),
        (json!({}), Some(json!({}))),
        (json!("{}"), Some(json!({}))),
        (json!(""), Some(json!({}))),
        (Value::Null, Some(json!({}))),
        (json!("  "), Some(json!({}))),
        (json!("{\"gate\":"), None),
        (json!("east"), None),
    ];
    let mut wrong = Vec::new();
    for (arguments, wanted) in &forms {
        let function = json!({"name": "raise", "arguments": arguments});
        let call = json!({"index": 0, "id": "call_1", "type": "function", "function": function});
        for list in [json!([call]), call.clone(), json!([Value::Null, call])] {
            let delta = json!({"tool_calls": list});
            let streams = [
                chat(&[
                    json!({"index": 0, "delta": delta, "finish_reason": null}),
                    json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"}),
                ]),
                chat(&[json!({"index": 0, "delta": delta, "finish_reason": "stop"})]),
                json!({"object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": delta, "finish_reason": "tool_calls"}]})
                    .to_string()
                    .into_bytes(),
            ];
            for stream in streams {
                let got = read("openai-chat", &stream);
                let read = got
                    .calls
                    .first()
                    .and_then(|call| serde_json::from_str::<Value>(&call.2).ok());
                let right = match wanted {
                    Some(wanted) => got.finish == "tool_calls" && read.as_ref() == Some(wanted),
                    None => got.error == "bad_upstream_data",
                };
                if !right {
                    wrong.push(format!(
                        "{arguments}: {got:?} of {}",
                        String::from_utf8_lossy(&stream)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// Members of a type that the protocol does not have, which the answer does not depend on.
#[test]
fn a_member_of_another_type_does_not_break_an_answer() {
    let values = [
        Value::Null,
        json!(""),
        json!("x"),
        json!(0),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(true),
        json!(false),
        json!([]),
        json!([null]),
        json!({}),
        json!({"x": null}),
        json!([[]]),
        json!("null"),
    ];
    // What an answer depends on: its texts, kinds and ends, and whose they are.
    let vital = [
        "type",
        "text",
        "content",
        "delta",
        "choices",
        "finish_reason",
        "finishReason",
        "stop_reason",
        "candidates",
        "parts",
        "message",
        "done",
        "done_reason",
        "response",
        "error",
        "output",
        "status",
        "index",
        "thought",
    ];
    let mut wrong = Vec::new();
    for base in BASES {
        let plain: Vec<String> = base
            .frames
            .iter()
            .map(|frame| (*frame).to_owned())
            .collect();
        let expected = read(base.wire, &render(base.wire, &plain));
        for (at, frame) in base.frames.iter().enumerate() {
            let Ok(frame) = serde_json::from_str::<Value>(frame) else {
                continue;
            };
            let mut paths = Vec::new();
            members(&frame, "", &mut paths);
            for path in paths {
                let name = path.rsplit('/').next().unwrap();
                if vital.contains(&name) || path.contains("/parts") || path.contains("/output/") {
                    continue;
                }
                for value in &values {
                    let mut changed = frame.clone();
                    *changed.pointer_mut(&path).unwrap() = value.clone();
                    let mut frames = plain.clone();
                    frames[at] = changed.to_string();
                    let got = read(base.wire, &render(base.wire, &frames));
                    if got.text != expected.text || got.finish != expected.finish {
                        wrong.push(format!("{} {at} {path} = {value}: {got:?}", base.wire));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

fn members(value: &Value, at: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                paths.push(format!("{at}/{name}"));
                members(value, &format!("{at}/{name}"), paths);
            }
        }
        Value::Array(list) => {
            for (nth, value) in list.iter().enumerate() {
                members(value, &format!("{at}/{nth}"), paths);
            }
        }
        _ => {}
    }
}

/// The same word for the end means the same at every wire.
#[test]
fn words_for_the_end_mean_the_same_at_every_wire() {
    let ends = [
        ("openai-chat", "\"finish_reason\":\"stop\""),
        ("anthropic-messages", "\"stop_reason\":\"end_turn\""),
        ("gemini", "\"finishReason\":\"STOP\""),
        ("cohere-chat", "\"finish_reason\":\"COMPLETE\""),
        ("ollama-chat", "\"done_reason\":\"stop\""),
    ];
    let words = [
        ("stop", "stop"),
        ("end", "stop"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("completed", "stop"),
        ("STOP", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("max_output_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
        ("content_filtered", "content_filter"),
        ("safety", "content_filter"),
        ("risk", "content_filter"),
        ("some_new_word", "other"),
        ("network_error", "error"),
        ("error", "error"),
        ("engine_overloaded", "error"),
        ("ERROR", "error"),
    ];
    let mut wrong = Vec::new();
    for base in BASES {
        let Some((_, end)) = ends.iter().find(|(wire, _)| *wire == base.wire) else {
            continue;
        };
        let (member, _) = end.split_once(':').unwrap();
        for (word, meaning) in words {
            let frames: Vec<String> = base
                .frames
                .iter()
                .map(|frame| frame.replace(end, &format!("{member}:\"{word}\"")))
                .collect();
            let got = read(base.wire, &render(base.wire, &frames));
            let right = match meaning {
                "error" => got.error == "upstream_error",
                meaning => got.finish == meaning,
            };
            if !right || got.text != "Good day." {
                wrong.push(format!("{} {word}: {got:?}", base.wire));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
