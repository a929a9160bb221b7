//! Tests of the decoder's state.

use super::decode::MessagesDecoder;
use crate::framing::Frame;
use crate::model::Event;
use crate::wire::Decoder;

/// Decodes `frames`: one line per event or error.
fn read(frames: &[(&str, &str)]) -> Vec<String> {
    let mut decoder = MessagesDecoder::default();
    let mut lines = Vec::new();
    for (name, data) in frames {
        let outcome = decoder.frame(&Frame::new(name, data), &mut |event: Event<'_>| {
            lines.push(match event {
                Event::ToolCall(call) => format!(
                    "tool {} {} {} {}",
                    call.index,
                    call.id.unwrap_or("-"),
                    call.name.unwrap_or("-"),
                    call.arguments
                ),
                Event::Usage(usage) => {
                    format!("usage {:?} {:?}", usage.input, usage.output)
                }
                event => format!("{event:?}"),
            });
        });
        if let Err(error) = outcome {
            lines.push(error.to_string());
        }
    }
    lines
}

#[test]
fn later_counts_override_earlier_ones() {
    let lines = read(&[
        (
            "",
            r#"{"type":"message_start","message":{"usage":{"input_tokens":8834,"cache_read_input_tokens":0,"output_tokens":1}}}"#,
        ),
        (
            "",
            r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":18,"cache_read_input_tokens":8831,"output_tokens":7}}"#,
        ),
    ]);
    assert_eq!(
        lines,
        [
            "usage Some(8834) Some(1)",
            "usage Some(8849) Some(7)", // 18 + 8831
        ]
    );
}

#[test]
fn overlapping_blocks_and_server_tools_are_kept_apart() {
    let lines = read(&[
        (
            "",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
        ),
        (
            "",
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
        ),
        (
            "",
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"b","name":"g","input":{"x":1}}}"#,
        ),
        (
            "",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":1}"}}"#,
        ),
        (
            "",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        ),
        ("", r#"{"type":"content_block_stop","index":1}"#),
        (
            "",
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","name":"h"}}"#,
        ),
        (
            "",
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#,
        ),
        ("", r#"{"type":"message_stop"}"#),
    ]);
    assert_eq!(
        lines,
        [
            "tool 0 a f ",
            "tool 1 b g ",
            "tool 0 - - {}",
            "tool 2 - h ",
            r#"tool 1 - - {"x":1}"#,
            "tool 2 - - {}",
            "Finish(ToolCalls)",
        ]
    );
}

#[test]
fn the_event_name_replaces_a_missing_type_and_unknown_kinds_are_ignored() {
    let lines = read(&[
        ("ping", "{}"),
        (
            "message",
            r#"{"type":"novelty","delta":"text","index":"x"}"#,
        ),
        ("", "null"),
        ("ping", " "),
        (
            "content_block_delta",
            r#"{"index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
        ),
        ("message_stop", "{}"),
    ]);
    assert_eq!(lines, [r#"Text("Hi")"#, "Finish(Other)"]);
}

#[test]
fn errors_keep_the_upstreams_message() {
    let lines = read(&[
        (
            "error",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded  "}}"#,
        ),
        ("error", r#"{"code":400,"message":"too long"}"#),
        ("", r#"{"code":503,"message":"lost power"}"#),
        ("", r#"{"type":"content_block_delta","delta":7}"#),
        ("", "{"),
    ]);
    assert_eq!(lines[0], "upstream_error: Overloaded");
    assert_eq!(lines[1], "upstream_error: too long");
    assert_eq!(lines[2], "upstream_error: lost power");
    assert!(lines[3].starts_with("bad_upstream_data"), "{}", lines[3]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn only_a_complete_end_is_terminal() {
    let decoder = MessagesDecoder::default();
    let is_terminal = |name, data| decoder.is_terminal(&Frame::new(name, data));
    assert!(is_terminal("message_stop", r#"{"type":"message_stop"}"#));
    assert!(is_terminal("error", r#"{"error":{"message":"x"}}"#));
    assert!(!is_terminal("message_stop", r#"{"type":"message_stop""#));
    assert!(!is_terminal("", r#"{"type":"message_delta"}"#));
}

/// The frames of one complete call, and its finish.
fn call_frames(start: &str, pieces: &[&str], stop_reason: &str) -> Vec<String> {
    let mut frames = vec![format!(
        r#"{{"type":"content_block_start","index":0,"content_block":{start}}}"#
    )];
    frames.extend(pieces.iter().map(|piece| {
        let delta = serde_json::json!({"type": "input_json_delta", "partial_json": piece});
        format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#)
    }));
    frames.push(format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{stop_reason}"}}}}"#
    ));
    frames.push(r#"{"type":"message_stop"}"#.to_owned());
    let frames: Vec<(&str, &str)> = frames.iter().map(|data| ("", data.as_str())).collect();
    read(&frames)
}

#[test]
fn the_input_of_the_start_may_be_a_string() {
    let lines = call_frames(
        r#"{"type":"tool_use","id":"a","name":"f","input":"{\"x\":1}"}"#,
        &[],
        "tool_use",
    );
    assert_eq!(
        lines,
        ["tool 0 a f ", r#"tool 0 - - {"x":1}"#, "Finish(ToolCalls)"]
    );
}

#[test]
fn a_compaction_is_a_pause() {
    let text = r#"{"type":"text","text":"a"}"#;
    let finish = call_frames(text, &[], "compaction").pop();
    assert_eq!(finish.as_deref(), Some("Finish(Pause)"));
}

#[test]
fn a_call_that_the_bound_cuts_stays_incomplete() {
    let call = r#"{"type":"tool_use","id":"a","name":"f"}"#;
    assert_eq!(
        call_frames(call, &[], "max_tokens"),
        ["tool 0 a f ", "Finish(Length)"]
    );
}

#[test]
fn zeros_replace_no_counts() {
    let lines = read(&[
        (
            "",
            r#"{"type":"message_start","message":{"usage":{"input_tokens":94,"output_tokens":1}}}"#,
        ),
        (
            "",
            r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":7}}"#,
        ),
    ]);
    assert_eq!(lines, ["usage Some(94) Some(1)", "usage Some(94) Some(7)"]);
    // A zero beside another count of the input is one.
    let lines = read(&[
        (
            "",
            r#"{"type":"message_start","message":{"usage":{"input_tokens":100,"cache_read_input_tokens":5000}}}"#,
        ),
        (
            "",
            r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":181,"cache_read_input_tokens":0}}"#,
        ),
    ]);
    assert_eq!(lines, ["usage Some(5100) None", "usage Some(181) None"]);
}
