//! Tests of the decoder's state.

use super::decode::ContentDecoder;
use crate::framing::Frame;
use crate::model::Event;
use crate::wire::Decoder;

/// Decodes `frames` and the end of the body: one line per event or error.
fn read(frames: &[&str]) -> Vec<String> {
    let mut decoder = ContentDecoder::default();
    let mut lines = Vec::new();
    let mut sink = |event: Event<'_>| {
        lines.push(match event {
            Event::ToolCall(call) => format!(
                "tool {} {} {} {}",
                call.index,
                call.id.unwrap_or("-"),
                call.name.unwrap_or("-"),
                call.arguments
            ),
            Event::Usage(usage) => format!("usage {:?} {:?}", usage.input, usage.output),
            Event::Citation(citation) => format!(
                "cite {} {:?} {:?}",
                citation.url.or(citation.title).unwrap_or("-"),
                citation.start,
                citation.end
            ),
            event => format!("{event:?}"),
        });
    };
    let outcome = frames
        .iter()
        .try_for_each(|data| decoder.frame(&Frame::new("", data), &mut sink));
    if let Err(error) = outcome.and_then(|()| decoder.end(&mut sink)) {
        lines.push(error.to_string());
    }
    lines.retain(|line| line != r#"Text("")"#);
    lines
}

fn ending(candidate: &str) -> Vec<String> {
    read(&[&format!(r#"{{"candidates":[{{{candidate}}}]}}"#)])
}

#[test]
fn the_last_finish_reason_counts_and_calls_make_it_tool_calls() {
    let lines = read(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"A"}]},"finishReason":"STOP"}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"b":1, "a":2}}}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"x","name":"g"}},{"text":"B","thought":true}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":""}]},"finishReason":"STOP"}]}"#,
    ]);
    assert_eq!(
        lines,
        [
            r#"Text("A")"#,
            r#"tool 0 - f {"b":1, "a":2}"#,
            "tool 1 x g {}",
            r#"Reasoning("B")"#,
            "Finish(ToolCalls)",
        ]
    );
}

#[test]
fn every_finish_reason_is_mapped() {
    for (reason, end) in [
        (r#""STOP""#, "Finish(Stop)"),
        ("1", "Finish(Stop)"),
        ("2", "Finish(Length)"),
        (r#""MAX_TOKENS""#, "Finish(Length)"),
        (r#""SPII""#, "Finish(ContentFilter)"),
        (r#""IMAGE_SAFETY""#, "Finish(ContentFilter)"),
        (r#""LANGUAGE""#, "Finish(Other)"),
        (
            r#""UNEXPECTED_TOOL_CALL""#,
            "upstream_error: the upstream failed to finish its answer: UNEXPECTED_TOOL_CALL",
        ),
        (
            r#""MALFORMED_FUNCTION_CALL","finishMessage":"print(""#,
            "upstream_error: the upstream failed to finish its answer: MALFORMED_FUNCTION_CALL: print(",
        ),
        (
            r#""FINISH_REASON_UNSPECIFIED""#,
            "stream_interrupted: the upstream's stream ended before its answer did",
        ),
    ] {
        let lines = ending(&format!(r#""finishReason":{reason}"#));
        assert_eq!(lines, [end], "{reason}");
    }
}

#[test]
fn a_blocked_prompt_is_content_filter() {
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
    assert_eq!(read(&[blocked]), ["Finish(ContentFilter)"]);
    let passed = r#"{"promptFeedback":{"blockReason":"BLOCK_REASON_UNSPECIFIED"}}"#;
    assert!(read(&[passed])[0].starts_with("stream_interrupted"));
}

#[test]
fn usage_sums_separate_counts_and_the_last_one_counts() {
    let lines = read(&[
        r#"{"usageMetadata":{"promptTokenCount":9}}"#,
        r#"{"usageMetadata":{"promptTokenCount":9,"toolUsePromptTokenCount":20,"candidatesTokenCount":3,"thoughtsTokenCount":4}}"#,
        r#"{"usageMetadata":{"promptTokenCount":9,"toolUsePromptTokenCount":20,"candidatesTokenCount":3,"thoughtsTokenCount":4}}"#,
    ]);
    assert_eq!(lines[..2], ["usage Some(9) None", "usage Some(29) Some(7)"]);
    assert_eq!(lines.len(), 3);
}

#[test]
fn each_source_is_emitted_once() {
    let grounding = |supports: &str| {
        format!(
            r#"{{"candidates":[{{"groundingMetadata":{{"groundingChunks":[{{"web":{{"uri":"a"}}}},{{"retrievedContext":{{"title":"b"}}}}],"groundingSupports":[{supports}]}}}}]}}"#
        )
    };
    let both = r#"{"segment":{"endIndex":5},"groundingChunkIndices":[0,7]},{"segment":{"startIndex":6,"endIndex":9},"groundingChunkIndices":[0]}"#;
    let lines = read(&[
        &grounding(""),
        r#"{"candidates":[{"citationMetadata":{"citationSources":[{"uri":"c","startIndex":1,"endIndex":2}]}}]}"#,
        &grounding(both),
        r#"{"candidates":[{"citationMetadata":{"citations":[{"uri":"c","startIndex":1,"endIndex":2}]},"groundingMetadata":{},"finishReason":"STOP"}]}"#,
    ]);
    assert_eq!(
        lines,
        [
            "cite c Some(1) Some(2)",
            "cite a Some(0) Some(5)",
            "cite a Some(6) Some(9)",
            "cite b None None",
            "Finish(Stop)",
        ]
    );
}

#[test]
fn errors_are_read_alone_in_a_chunk_or_in_a_list() {
    for data in [
        r#"{"error":{"code":503,"message":"Overloaded.","status":"UNAVAILABLE"}}"#,
        r#"[{"error":{"code":503,"message":"Overloaded."}}]"#,
        r#"{"candidates":[],"error":{"message":"Overloaded."}}"#,
    ] {
        assert_eq!(read(&[data]), ["upstream_error: Overloaded."], "{data}");
    }
}

#[test]
fn a_list_is_a_stream_and_other_candidates_are_ignored() {
    let document = r#"[{"candidates":[{"content":{"parts":[{"text":"A"}]}},{"index":1,"content":{"parts":[{"text":"X"}]},"finishReason":"SAFETY"}]},
        {"candidates":[{"content":{"parts":[{"text":"B"}]},"finishReason":"STOP"}]}]"#;
    assert_eq!(
        read(&[document]),
        [r#"Text("A")"#, r#"Text("B")"#, "Finish(Stop)"]
    );
    let document = |document: &str| {
        let outcome = ContentDecoder::default().document(document, &mut |_: Event<'_>| {});
        outcome.err().map_or("", |error| error.code().as_str())
    };
    assert_eq!(document(r#"[{"candidates":[]}]"#), "bad_upstream_data");
    assert_eq!(document(r#"[{"candidates":[{}]}]"#), "stream_interrupted");
    assert_eq!(document(r#"[{"candidates":"#), "bad_upstream_data");
}

#[test]
fn only_a_complete_end_is_terminal() {
    let decoder = ContentDecoder::default();
    let is_terminal = |data| decoder.is_terminal(&Frame::new("", data));
    assert!(is_terminal(r#"{"candidates":[{"finishReason":"STOP"}]}"#));
    assert!(is_terminal(
        r#"{"candidates":[{"finishReason":"MALFORMED_RESPONSE"}]}"#
    ));
    assert!(is_terminal(r#"{"promptFeedback":{"blockReason":"OTHER"}}"#));
    assert!(is_terminal(r#"{"error":{}}"#));
    assert!(!is_terminal(r#"{"candidates":[{"finishReason":"STOP"}]"#));
    assert!(!is_terminal(r#"{"candidates":[{"content":{}}]}"#));
}
