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
fn a_finish_reason_on_an_early_chunk_is_not_the_end() {
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
            "Finish(Stop)",
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
            "stream_interrupted: the upstream's stream ended before the answer was complete",
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
    assert!(is_terminal(r#"{"error":{"code":500}}"#));
    assert!(!is_terminal(r#"{"error":{}}"#));
    assert!(!is_terminal(r#"{"candidates":[{"finishReason":"STOP"}]"#));
    assert!(!is_terminal(r#"{"candidates":[{"content":{}}]}"#));
}

/// The events of parts with these `functionCall`s, and of a finish.
fn calls(parts: &[&str], reason: &str) -> Vec<String> {
    let chunk = |part: &&str| {
        format!(r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{part}}}]}}}}]}}"#)
    };
    let mut chunks: Vec<String> = parts.iter().map(chunk).collect();
    chunks.push(format!(
        r#"{{"candidates":[{{"finishReason":"{reason}"}}]}}"#
    ));
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    read(&chunks)
}

#[test]
fn streamed_arguments_are_one_call() {
    let lines = calls(
        &[
            r#"{"id":"a","name":"f","willContinue":true}"#,
            r#"{"partialArgs":[{"jsonPath":"$.x","stringValue":"1","willContinue":true}],"willContinue":true}"#,
            r#"{"partialArgs":[{"jsonPath":"$.x","stringValue":"2"},{"jsonPath":"$.x"}],"willContinue":true}"#,
            r#"{"partialArgs":[{"jsonPath":"$.y[0]","nullValue":null},{"jsonPath":"$.y[1]","boolValue":false}],"willContinue":true}"#,
            "{}",
        ],
        "STOP",
    );
    assert_eq!(
        lines,
        [
            "tool 0 a f ",
            r#"tool 0 - - {"x":"1"#,
            "tool 0 - - 2",
            r#"tool 0 - - ","y":[null,false"#,
            "tool 0 - - ]}",
            "Finish(Stop)",
        ]
    );
}

#[test]
fn a_streamed_call_ends_with_the_next_call_or_the_answer() {
    let part = r#"{"partialArgs":[{"jsonPath":"$.x","numberValue":1}],"willContinue":true}"#;
    let start = r#"{"name":"f","willContinue":true}"#;
    let text = ["tool 0 - f ", r#"tool 0 - - {"x":1"#, "tool 0 - - }"];
    let next = calls(&[start, part, r#"{"name":"f","args":{}}"#], "STOP");
    assert_eq!(next[..3], text);
    assert_eq!(next[3..], ["tool 1 - f {}", "Finish(Stop)"]);
    let end = calls(&[start, part], "STOP");
    assert_eq!(end[..3], text);
    assert_eq!(end[3..], ["Finish(Stop)"]);
    let cut = calls(&[start, part], "MAX_TOKENS");
    assert_eq!(cut[..2], text[..2]);
    assert_eq!(cut[2..], ["Finish(Length)"]);
}

#[test]
fn streamed_arguments_out_of_order_are_an_error() {
    let lines = calls(
        &[
            r#"{"name":"f","partialArgs":[{"jsonPath":"$.x","numberValue":1},{"jsonPath":"$.y","numberValue":1}],"willContinue":true}"#,
            r#"{"partialArgs":[{"jsonPath":"$.x","numberValue":2}]}"#,
        ],
        "STOP",
    );
    let error = lines.last().map(String::as_str).unwrap_or_default();
    assert!(error.starts_with("bad_upstream_data: "), "{error}");
}

#[test]
fn counts_that_a_later_chunk_leaves_out_are_kept() {
    let lines = read(&[
        r#"{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":3,"thoughtsTokenCount":4}}"#,
        r#"{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":0}}"#,
    ]);
    assert_eq!(lines[0], "usage Some(9) Some(7)");
    assert_eq!(lines.len(), 2, "{lines:?}");

    // A total that is the sum of the counts shows that none is missing.
    let lines = read(&[
        r#"{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":3,"totalTokenCount":12}}"#,
        r#"{"usageMetadata":{"promptTokenCount":30,"thoughtsTokenCount":8,"totalTokenCount":38}}"#,
    ]);
    assert_eq!(lines[1], "usage Some(30) Some(8)");
}

#[test]
fn the_total_shows_whether_candidates_include_thoughts() {
    for (total, output) in [(20, 11), (13, 7), (0, 11)] {
        let usage = format!(
            r#"{{"usageMetadata":{{"promptTokenCount":6,"candidatesTokenCount":7,"thoughtsTokenCount":4,"totalTokenCount":{total}}}}}"#
        );
        assert_eq!(read(&[&usage])[0], format!("usage Some(6) Some({output})"));
    }
}

#[test]
fn citations_of_one_source_stay_within_a_budget() {
    let text = "x".repeat(100_000);
    let indices = vec!["0"; 10_000].join(",");
    let data = format!(
        r#"{{"candidates":[{{"finishReason":"STOP","groundingMetadata":{{"groundingChunks":[{{"maps":{{"text":"{text}"}}}}],"groundingSupports":[{{"groundingChunkIndices":[{indices}]}}]}}}}]}}"#
    );
    let mut bytes = 0;
    let mut sink = |event: Event<'_>| bytes += event.size();
    let mut decoder = ContentDecoder::default();
    let outcome = decoder.frame(&Frame::new("", &data), &mut sink);
    assert!(outcome.and_then(|()| decoder.end(&mut sink)).is_ok());
    assert!((text.len()..5 * data.len()).contains(&bytes), "{bytes}");
}
