//! Signatures of reasoning go back to the vendor that made them, and to no other upstream.

use serde_json::{Value, json};
use sluicegate::model::{ReasoningSigner, Request, Vendor};
use sluicegate::wire;

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
