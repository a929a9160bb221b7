//! Streams of every wire with the oddities that vendors are known for, at every place.

use serde_json::Value;
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
