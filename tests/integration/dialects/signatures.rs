//! Signatures of reasoning go back to the vendor that made them, and to no other upstream.

use serde_json::{Value, json};
use sluicegate::dialect;
use sluicegate::model::{ReasoningSigner, Request, Vendor};
use sluicegate::pipeline;
use sluicegate::wire;

use crate::naive_sse;

use super::parse;

/// Signers of reasoning: a wire and a vendor.
const ANTHROPIC: (&str, &str) = ("anthropic-messages", "anthropic");
const OTHER: (&str, &str) = ("anthropic-messages", "other");
const BEDROCK: (&str, &str) = ("bedrock-converse", "bedrock");
const OPENAI: (&str, &str) = ("openai-responses", "openai");
const AZURE: (&str, &str) = ("openai-responses", "azure");
const ALL: [(&str, &str); 5] = [ANTHROPIC, OTHER, BEDROCK, OPENAI, AZURE];

const SIGNATURE: &str = "EqQBCkYIBxgCKkD+/==";

fn signer((wire, vendor): (&str, &str)) -> ReasoningSigner {
    let wire = wire::by_name(wire).unwrap();
    ReasoningSigner::new(wire.name(), vendor).with_members(wire.signature_members())
}

/// The signature of `signer` as its client holds it.
fn tagged(maker: (&str, &str)) -> String {
    format!("{}{SIGNATURE}", signer(maker).origin_tag())
}

/// The body that the upstream of `reader` gets.
fn read_by(reader: (&str, &str), request: &Request) -> String {
    let request = signer(reader).verify(request.for_wire(reader.0).unwrap());
    let wire = wire::by_name(reader.0).unwrap();
    let outgoing = wire.request(&request, "m", &Vendor::default()).unwrap();
    outgoing.body.to_string()
}

/// A conversation in each dialect that has signatures.
fn conversations(signature: &str) -> [(&'static str, Value); 3] {
    let messages = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": signature},
            {"type": "redacted_thinking", "data": signature},
            {"type": "text", "text": "Hello"},
        ]},
        {"role": "user", "content": "Go on"},
    ]});
    let responses = json!({"model": "m", "input": [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": signature},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": signature},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Go on"},
    ]});
    let part = |kept: Value, text: &str| json!({"type": "reasoning", "text": text, "providerMetadata": {"sluicegate": kept}});
    let page = json!({"model": "m", "messages": [
        {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]},
        {"id": "2", "role": "assistant", "parts": [
            part(json!({"signature": signature}), "Hm."),
            part(json!({"sealed": signature}), ""),
            {"type": "text", "text": "Hello"},
        ]},
        {"id": "3", "role": "user", "parts": [{"type": "text", "text": "Go on"}]},
    ]});
    [
        ("/v1/messages", messages),
        ("/v1/responses", responses),
        ("/v1/ui-messages", page),
    ]
}

#[test]
fn a_signature_goes_unchanged_to_its_signer_only() {
    for maker in ALL {
        for (path, body) in conversations(&tagged(maker)) {
            let request = parse(path, &body).unwrap();
            for reader in ALL {
                let said = read_by(reader, &request);
                assert!(!said.contains("sluicegate:"), "{path} {said}");
                let seals = said.matches(&format!("\"{SIGNATURE}\"")).count();
                let expected = if maker == reader { 2 } else { 0 };
                assert_eq!(seals, expected, "{path}: {maker:?} to {reader:?}: {said}");
                assert_eq!(said.contains("Hm."), maker == reader, "{path}: {said}");
                assert!(said.contains("Hello") && said.contains("Go on"), "{said}");
            }
        }
    }
}

/// The client got the signature from the vendor directly.
#[test]
fn a_signature_without_an_origin_tag_is_for_the_clients_own_protocol() {
    for (path, body) in conversations(SIGNATURE) {
        let request = parse(path, &body).unwrap();
        for reader in ALL {
            let own = matches!(
                (path, reader.0),
                ("/v1/messages", "anthropic-messages") | ("/v1/responses", "openai-responses")
            );
            let said = read_by(reader, &request);
            assert_eq!(
                said.contains(SIGNATURE),
                own,
                "{path} to {reader:?}: {said}"
            );
        }
    }
}

#[test]
fn a_turn_of_nothing_but_foreign_reasoning_is_left_out() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": tagged(OPENAI)}]},
        {"role": "user", "content": "Go on"},
    ]});
    let request = parse("/v1/messages", &body).unwrap();
    for reader in ALL {
        let said: Value = serde_json::from_str(&read_by(reader, &request)).unwrap();
        if let Some(messages) = said["messages"].as_array() {
            let roles = messages.iter().map(|message| &message["role"]);
            assert!(
                !roles.clone().any(|role| role == "assistant") || reader == OPENAI,
                "{said}"
            );
        }
    }
}

/// Clients join the pieces of a signature.
#[test]
fn pieces_of_a_signature_are_joined() {
    let mark = signer(ANTHROPIC).origin_tag().to_owned();
    for (path, body) in conversations(&format!("{mark}EqQBCkYI{mark}BxgCKkD+/==")) {
        let said = read_by(ANTHROPIC, &parse(path, &body).unwrap());
        assert_eq!(said.matches(SIGNATURE).count(), 2, "{path}: {said}");
    }
}

/// The origin tag of a vendor is never a prefix of another's.
#[test]
fn vendors_with_similar_names_are_distinguished() {
    let marks = ["a", "a:b", "a%3Ab", "a%b", ""]
        .map(|vendor| signer((ANTHROPIC.0, vendor)).origin_tag().to_owned());
    for (at, mark) in marks.iter().enumerate() {
        for (other, longer) in marks.iter().enumerate() {
            assert_eq!(longer.starts_with(mark), at == other, "{mark} {longer}");
        }
    }
}

/// A text may look like a signature.
#[test]
fn only_signatures_are_changed() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": [{"type": "text", "text": "sluicegate:openai-responses:openai:x"}]},
    ]});
    let request = parse("/v1/messages", &body).unwrap();
    assert!(read_by(ANTHROPIC, &request).contains("sluicegate:openai-responses:openai:x"));
}

/// Signed reasoning of vendors that speak OpenAI's protocol.
const CHAT: (&str, &str) = ("openai-chat", "replay");
const OTHER_CHAT: (&str, &str) = ("openai-chat", "other");

/// The chunks of a vendor that sends signatures in every known member.
fn signed_answer() -> Vec<u8> {
    let deltas = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning": "The ", "reasoning_details": [{"type": "reasoning.text", "text": "The ", "format": "f-1", "index": 0}]}),
        json!({"reasoning": "moon", "reasoning_details": [{"type": "reasoning.text", "text": "moon", "format": "f-1", "index": 0}]}),
        json!({"reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "c2lnLVQ=", "format": "f-1", "index": 0}]}),
        json!({"content": "Let me look."}),
        json!({"tool_calls": [{"index": 0, "id": "call_a", "type": "function",
            "function": {"name": "look", "arguments": "{\"at\":"},
            "extra_content": {"google": {"thought_signature": "c2lnLUM="}}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"moon\"}"}}]}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "c2VhbGVk", "id": "call_a", "index": 1}]}),
        json!({"reasoning_opaque": "b3BhcXVl"}),
    ];
    let mut out = String::new();
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "c-1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    for delta in deltas {
        out += &chunk(delta, Value::Null);
    }
    out += &chunk(json!({}), json!("tool_calls"));
    out += "data: [DONE]\n\n";
    out.into_bytes()
}

fn answer(path: &str, stream: bool) -> Vec<u8> {
    let request = Request {
        model: "m".to_owned(),
        stream,
        ..Request::default()
    };
    let wire = wire::by_name(CHAT.0).unwrap();
    let body = signed_answer();
    pipeline::bytes(wire, dialect::at(path), &request, [&body[..]]).to_vec()
}

/// The message of a streamed answer, as a client collects it that keeps members which it does not know.
fn collected(bytes: &[u8]) -> Value {
    let mut message = json!({"role": "assistant", "content": "", "tool_calls": []});
    let mut details = Vec::new();
    for event in naive_sse::events(bytes) {
        let Ok(chunk) = serde_json::from_str::<Value>(&event.data) else {
            continue;
        };
        for (name, value) in chunk["choices"][0]["delta"]
            .as_object()
            .into_iter()
            .flatten()
        {
            match (name.as_str(), value) {
                ("role" | "reasoning_content", _) => {}
                ("content", value) => {
                    let text = message["content"].as_str().unwrap_or_default();
                    message["content"] = json!(format!("{text}{}", value.as_str().unwrap()));
                }
                ("reasoning_details", Value::Array(list)) => details.extend(list.clone()),
                ("tool_calls", Value::Array(pieces)) => {
                    let calls = message["tool_calls"].as_array_mut().unwrap();
                    for piece in pieces {
                        let at = piece["index"].as_u64().unwrap() as usize;
                        if at == calls.len() {
                            calls.push(piece.clone());
                            continue;
                        }
                        for (name, value) in piece.as_object().unwrap() {
                            if name == "function" {
                                let more = value["arguments"].as_str().unwrap();
                                let known = calls[at]["function"]["arguments"].as_str().unwrap();
                                calls[at]["function"]["arguments"] =
                                    json!(format!("{known}{more}"));
                            } else {
                                calls[at][name] = value.clone();
                            }
                        }
                    }
                }
                (name, value) => message[name] = value.clone(),
            }
        }
    }
    message["reasoning_details"] = details.into();
    message
}

#[test]
fn signatures_of_a_look_alike_reach_a_chat_client_and_return_to_their_members() {
    let whole: Value = serde_json::from_slice(&answer("/v1/chat/completions", false)).unwrap();
    let whole = whole["choices"][0]["message"].clone();
    let streamed = collected(&answer("/v1/chat/completions", true));
    for message in [whole, streamed] {
        let held = message.to_string();
        for signature in ["c2lnLVQ=", "c2lnLUM=", "c2VhbGVk", "b3BhcXVl"] {
            assert!(
                held.contains(&format!(":{signature}\"")),
                "{signature}: {held}"
            );
        }
        let body = json!({"model": "m", "messages": [
            {"role": "user", "content": "Hi"},
            message,
            {"role": "tool", "tool_call_id": "call_a", "content": "full"},
        ]});
        let request = parse("/v1/chat/completions", &body).unwrap();
        let sent: Value = serde_json::from_str(&read_by(CHAT, &request)).unwrap();
        let sent = &sent["messages"][1];
        let call = &sent["tool_calls"][0];
        assert_eq!(
            call["extra_content"]["google"]["thought_signature"], "c2lnLUM=",
            "{sent}"
        );
        assert_eq!(call["function"]["arguments"], "{\"at\":\"moon\"}");
        assert_eq!(sent["reasoning_opaque"], "b3BhcXVl");
        let details = sent["reasoning_details"].as_array().unwrap();
        let text: String = details
            .iter()
            .filter_map(|one| one["text"].as_str())
            .collect();
        assert_eq!(text, "The moon", "{sent}");
        assert!(
            details.iter().any(|one| one["signature"] == "c2lnLVQ="),
            "{sent}"
        );
        let last = details.last().unwrap();
        assert_eq!(
            (&last["data"], &last["id"]),
            (&json!("c2VhbGVk"), &json!("call_a"))
        );

        let other = read_by(OTHER_CHAT, &request);
        for foreign in [
            "c2lnLVQ=",
            "c2lnLUM=",
            "c2VhbGVk",
            "b3BhcXVl",
            "sluicegate:",
        ] {
            assert!(!other.contains(foreign), "{foreign}: {other}");
        }
        let other: Value = serde_json::from_str(&other).unwrap();
        let other = &other["messages"][1];
        assert_eq!(
            other["tool_calls"][0]["function"]["name"], "look",
            "{other}"
        );
        assert_eq!(other["content"], "Let me look.");
    }
}

#[test]
fn signatures_of_a_look_alike_return_over_other_client_protocols() {
    let message: Value = serde_json::from_slice(&answer("/v1/messages", false)).unwrap();
    let messages = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_a", "content": "full"},
        ]},
    ]});
    let response: Value = serde_json::from_slice(&answer("/v1/responses", false)).unwrap();
    let mut input = vec![json!({"role": "user", "content": "Hi"})];
    input.extend(response["output"].as_array().unwrap().clone());
    input.push(json!({"type": "function_call_output", "call_id": "call_a", "output": "full"}));
    let responses = json!({"model": "m", "input": input});
    for (path, body) in [("/v1/messages", messages), ("/v1/responses", responses)] {
        let request = parse(path, &body).unwrap();
        let sent: Value = serde_json::from_str(&read_by(CHAT, &request)).unwrap();
        let messages = sent["messages"].as_array().unwrap();
        let said = sent.to_string();
        assert!(!said.contains("sluicegate:"), "{path}: {said}");
        let turns: Vec<_> = messages
            .iter()
            .filter(|turn| turn["role"] == "assistant")
            .collect();
        let [turn] = turns[..] else {
            panic!("{path}: {said}");
        };
        let details = turn["reasoning_details"].as_array().unwrap();
        assert_eq!(details[0]["text"], "The moon", "{path}: {said}");
        assert_eq!(details[0]["signature"], "c2lnLVQ=");
        assert_eq!(details[0]["format"], "f-1");
        assert_eq!(details[1]["data"], "c2VhbGVk");
        let call = &turn["tool_calls"][0];
        assert_eq!(
            call["extra_content"]["google"]["thought_signature"],
            "c2lnLUM="
        );
        assert_eq!(turn["reasoning_opaque"], "b3BhcXVl");
        let other = read_by(OTHER_CHAT, &request);
        assert!(
            !other.contains("c2ln") && !other.contains("details"),
            "{path}: {other}"
        );
    }
}
