//! Tests of the decoder's state.

use super::decode::ConverseDecoder;
use crate::framing::Frame;
use crate::model::{ErrorCode, Event};
use crate::wire::Decoder;

/// Decodes `frames` and the end of the body: one line per event or error.
fn read(frames: &[(&str, &str)]) -> Vec<String> {
    let mut decoder = ConverseDecoder::default();
    let mut lines = Vec::new();
    for (name, data) in frames {
        let frame = Frame {
            failure: name.ends_with("Exception"),
            ..Frame::new(name, data)
        };
        let outcome = decoder.frame(&frame, &mut |event: Event<'_>| lines.push(line(&event)));
        lines.extend(outcome.err().map(|error| error.to_string()));
    }
    let outcome = decoder.end(&mut |event: Event<'_>| lines.push(line(&event)));
    lines.extend(outcome.err().map(|error| error.code().as_str().to_owned()));
    lines
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::ToolCall(call) => format!(
            "tool {} {} {} {}",
            call.index,
            call.id.unwrap_or("-"),
            call.name.unwrap_or("-"),
            call.arguments
        ),
        Event::Usage(usage) => format!("usage {:?} {:?}", usage.input, usage.output),
        event => format!("{event:?}"),
    }
}

#[test]
fn calls_are_kept_apart_by_block_index() {
    let start = |index: u32, call: &str| {
        format!(r#"{{"contentBlockIndex":{index},"start":{{"toolUse":{call}}}}}"#)
    };
    let input = |index: u32, piece: &str| {
        format!(r#"{{"contentBlockIndex":{index},"delta":{{"toolUse":{{"input":"{piece}"}}}}}}"#)
    };
    let lines = read(&[
        (
            "contentBlockStart",
            &start(
                0,
                r#"{"toolUseId":"s","name":"own","type":"server_tool_use"}"#,
            ),
        ),
        (
            "contentBlockStart",
            &start(1, r#"{"toolUseId":"a","name":"f","type":"tool_use"}"#),
        ),
        ("contentBlockStart", &start(2, r#"{"name":"g"}"#)),
        ("contentBlockDelta", &input(0, "{}")),
        ("contentBlockDelta", &input(1, "[1]")),
        ("contentBlockDelta", &input(9, "[9]")),
        ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
        (
            "contentBlockStart",
            &start(2, r#"{"toolUseId":"c","name":"h"}"#),
        ),
        ("messageStop", r#"{"stopReason":"tool_use"}"#),
    ]);
    assert_eq!(
        lines,
        [
            "tool 0 a f ",
            "tool 1 - g ",
            "tool 0 - - [1]",
            "tool 1 - - {}",
            "tool 2 c h ",
            "tool 2 - - {}",
            "Finish(ToolCalls)",
        ]
    );
}

#[test]
fn usage_is_emitted_before_the_finish() {
    let stop = ("messageStop", r#"{"stopReason":"malformed_tool_use"}"#);
    let counts = (
        "metadata",
        r#"{"usage":{"inputTokens":5,"cacheReadInputTokens":7,"cacheWriteInputTokens":11,"outputTokens":2}}"#,
    );
    let failed = "upstream_error: the model's answer was discarded: malformed_tool_use";
    let read = |frames: &[(&str, &str)]| {
        let mut lines = read(frames);
        lines.retain(|line| line != "stream_interrupted");
        lines
    };
    assert_eq!(read(&[stop, counts]), ["usage Some(23) Some(2)", failed]);
    let done = ("messageStop", r#"{"stopReason":"end_turn"}"#);
    let usage = "usage Some(23) Some(2)";
    assert_eq!(read(&[counts, done]), [usage, "Finish(Stop)"]);
    assert_eq!(read(&[done]), ["Finish(Stop)"]);
    assert_eq!(read(&[counts]), [usage]);
}

#[test]
fn exceptions_keep_the_upstreams_message() {
    let failure = |name, data| read(&[(name, data)]).swap_remove(0);
    assert_eq!(
        failure("throttlingException", r#"{"message":"Slow down. "}"#),
        "upstream_error: Slow down."
    );
    assert_eq!(
        failure("serviceUnavailableException", "{}"),
        "upstream_error: serviceUnavailableException"
    );
    assert_eq!(
        failure("InternalException", "it broke"),
        "upstream_error: it broke"
    );
    // The same name on an event is not an exception.
    let mut decoder = ConverseDecoder::default();
    let frame = Frame::new("throttlingException", "{}");
    assert!(decoder.frame(&frame, &mut |_: Event<'_>| {}).is_ok());
    let broken = decoder.frame(&Frame::new("metadata", "{"), &mut |_: Event<'_>| {});
    assert_eq!(
        broken.map_err(|error| error.code()),
        Err(ErrorCode::BadUpstreamData)
    );
}

#[test]
fn the_input_of_the_start_is_used_unless_the_bound_cuts_the_call() {
    let start = (
        "contentBlockStart",
        r#"{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"a","name":"f","input":"{\"x\":1}"}}}"#,
    );
    let stop = |reason| ("messageStop", reason);
    let called = read(&[start, stop(r#"{"stopReason":"end_turn"}"#)]);
    assert_eq!(called[1..], [r#"tool 0 - - {"x":1}"#, "Finish(Stop)"]);
    let cut = read(&[start, stop(r#"{"stopReason":"max_tokens"}"#)]);
    assert_eq!(cut[1..], ["Finish(Length)"]);
}
