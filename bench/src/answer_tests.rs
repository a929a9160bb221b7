//! Tests of `answer`, not in it: it is also compiled where there is no test harness.

use crate::answer::{Answer, Kind, WIRES, body};

#[test]
fn a_chunk_of_an_alike_answer_has_the_documented_size() {
    let answer = Answer::of("openai-chat", Kind::Alike).unwrap();
    assert_eq!(answer.size(0, 1), 304);
}

#[test]
fn every_token_of_every_wire_has_its_size_and_its_time() {
    for (wire, kind) in WIRES
        .iter()
        .flat_map(|wire| Kind::ALL.map(|kind| (wire, kind)))
    {
        let answer = Answer::of(wire, kind).unwrap();
        for number in 0..200 {
            let mut out = Vec::new();
            answer.token(number, 123_456_789, &mut out);
            assert_eq!(out.len(), answer.size(number, 1));
            let text = String::from_utf8_lossy(&out);
            assert!(text.contains("@000000123456789"), "{wire} {kind:?}: {text}");
        }
    }
}

#[test]
fn prose_has_what_models_write() {
    for wire in WIRES {
        let body = body(wire, Kind::Prose, 200);
        let text = String::from_utf8_lossy(&body);
        for part in ["\\\"", "\\n\\n", "é", "漢", "\u{1f600}", "\\u00e9"] {
            assert!(text.contains(part), "{part} in {wire}");
        }
    }
    let answer = Answer::of("openai-chat", Kind::Prose).unwrap();
    let sizes = (0..64).map(|number| answer.size(number, 1));
    let sizes: std::collections::HashSet<usize> = sizes.collect();
    assert!(sizes.len() > 16, "{sizes:?}");
}
