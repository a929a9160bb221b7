//! Tests of the decoder's state.

use super::decode::ChatDecoder;
use crate::framing::Frame;
use crate::model::Event;
use crate::wire::Decoder;

/// Decodes `frames`: one line per event or error.
fn read(frames: &[&str]) -> Vec<String> {
    let mut decoder = ChatDecoder::default();
    let mut lines = Vec::new();
    for data in frames {
        let outcome = decoder.frame(&Frame::new("", data), &mut |event: Event<'_>| {
            lines.push(match event {
                Event::ToolCall(call) => format!(
                    "tool {} {} {} {}",
                    call.index,
                    call.id.unwrap_or("-"),
                    call.name.unwrap_or("-"),
                    call.arguments
                ),
                Event::Usage(usage) => format!(
                    "usage {:?} {:?} {:?} {:?}",
                    usage.input, usage.output, usage.cached_input, usage.reasoning
                ),
                event => format!("{event:?}"),
            });
        });
        lines.extend(outcome.err().map(|error| error.to_string()));
    }
    lines
}

fn end(delta: &str) -> Vec<String> {
    read(&[&format!(r#"{{"type":"message-end","delta":{delta}}}"#)])
}

#[test]
fn usage_is_tokens_else_billed_units() {
    let counted = |usage: &str| {
        let mut lines = end(&format!(
            r#"{{"finish_reason":"COMPLETE","usage":{usage}}}"#
        ));
        assert_eq!(lines.pop().as_deref(), Some("Finish(Stop)"));
        lines.join(" ")
    };
    let billed = r#""billed_units":{"input_tokens":2.0,"output_tokens":3.0}"#;
    assert_eq!(
        counted(&format!(
            r#"{{{billed},"tokens":{{"input_tokens":66.0,"output_tokens":4,"reasoning_tokens":1}},"cached_tokens":9}}"#
        )),
        "usage Some(66) Some(4) Some(9) Some(1)"
    );
    for tokens in ["", r#","tokens":null"#, r#","tokens":{}"#] {
        assert_eq!(
            counted(&format!("{{{billed}{tokens}}}")),
            "usage Some(2) Some(3) None None",
            "{tokens}"
        );
    }
    for nothing in ["{}", "null", "7"] {
        assert_eq!(counted(nothing), "", "{nothing}");
    }
}

#[test]
fn every_finish_reason_is_mapped() {
    for (delta, expected) in [
        (r#"{"finish_reason":"COMPLETE"}"#, "Finish(Stop)"),
        (
            r#"{"finish_reason":"STOP_SEQUENCE","error":null}"#,
            "Finish(Stop)",
        ),
        (r#"{"finish_reason":"MAX_TOKENS"}"#, "Finish(Length)"),
        (r#"{"finish_reason":"TOOL_CALL"}"#, "Finish(ToolCalls)"),
        (r#"{"finish_reason":"TOOL_CALLS"}"#, "Finish(ToolCalls)"),
        (
            r#"{"finish_reason":"ERROR_TOXIC"}"#,
            "Finish(ContentFilter)",
        ),
        (r#"{"finish_reason":"USER_CANCEL"}"#, "Finish(Other)"),
        ("{}", "Finish(Other)"),
        (
            r#"{"finish_reason":"ERROR","error":"try again"}"#,
            "upstream_error: try again",
        ),
        (
            r#"{"finish_reason":"ERROR_LIMIT"}"#,
            "upstream_error: the upstream reported a failure without a reason",
        ),
        (
            r#"{"finish_reason":"TIMEOUT"}"#,
            "upstream_error: the upstream reported a timeout of the model",
        ),
    ] {
        assert_eq!(end(delta), [expected], "{delta}");
    }
}

#[test]
fn a_call_without_arguments_has_an_empty_object() {
    let start = |index: u32, id: &str| {
        format!(
            r#"{{"type":"tool-call-start","index":{index},"delta":{{"message":{{"tool_calls":{{{id}"function":{{"name":"f","arguments":""}}}}}}}}}}"#
        )
    };
    let lines = read(&[
        &start(0, r#""id":"a","#),
        r#"{"type":"tool-call-end","index":0}"#,
        &start(1, ""),
        r#"{"type":"tool-call-delta","index":7,"delta":{"message":{"tool_calls":{"function":{"arguments":"lost"}}}}}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL"}}"#,
    ]);
    assert_eq!(
        lines,
        [
            "tool 0 a f ",
            "tool 0 - - {}",
            "tool 1 - f ",
            "tool 1 - - {}",
            "Finish(ToolCalls)"
        ]
    );
}

#[test]
fn only_a_complete_end_is_terminal() {
    let decoder = ChatDecoder::default();
    let is_terminal = |name, data| decoder.is_terminal(&Frame::new(name, data));
    assert!(is_terminal("", r#"{"type":"message-end","delta":{}}"#));
    assert!(is_terminal("message-end", r#"{"delta":{}}"#));
    assert!(is_terminal("", r#"{"message":"internal server error"}"#));
    assert!(!is_terminal("", r#"{"type":"content-end","index":0}"#));
    assert!(!is_terminal("message-end", r#"{"delta":{"finish_"#));
    assert!(!is_terminal("", "[DONE]"));
}

#[test]
fn an_empty_object_in_the_start_is_a_placeholder() {
    let start = |arguments: &str| {
        format!(
            r#"{{"type":"tool-call-start","index":0,"delta":{{"message":{{"tool_calls":{{"id":"a","function":{{"name":"f","arguments":"{arguments}"}}}}}}}}}}"#
        )
    };
    let delta = r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"x\":1}"}}}}}"#;
    let end = r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}"#;
    assert_eq!(
        read(&[&start("{}"), delta, end]),
        ["tool 0 a f ", r#"tool 0 - - {"x":1}"#, "Finish(Stop)"]
    );
    assert_eq!(
        read(&[&start("{}"), end]),
        ["tool 0 a f ", "tool 0 - - {}", "Finish(Stop)"]
    );
    let cut = r#"{"type":"message-end","delta":{"finish_reason":"MAX_TOKENS"}}"#;
    assert_eq!(read(&[&start(""), cut]), ["tool 0 a f ", "Finish(Length)"]);
}
