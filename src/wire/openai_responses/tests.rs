//! The decoder's state, frame by frame.

use super::decode::ResponsesDecoder;
use crate::framing::Frame;
use crate::model::{Event, Vendor};
use crate::wire::Decoder;

/// Every event of `frames` as a line, and how it ended.
fn read(frames: &[&str]) -> Vec<String> {
    let mut decoder = ResponsesDecoder::new(&Vendor::PLAIN);
    let mut lines = Vec::new();
    for data in frames {
        let frame = Frame::new("", data);
        let outcome = decoder.frame(&frame, &mut |event: Event<'_>| lines.push(line(&event)));
        if let Err(error) = outcome {
            decoder.flush(&mut |event: Event<'_>| lines.push(line(&event)));
            lines.push(error.to_string());
        }
    }
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
        Event::Citation(cited) => format!("cite {} {:?}", cited.url.unwrap_or("-"), cited.end),
        event => format!("{event:?}"),
    }
}

fn raw(delta: &str) -> String {
    format!(
        r#"{{"type":"response.reasoning_text.delta","item_id":"r","output_index":0,"content_index":0,"delta":"{delta}"}}"#
    )
}

fn summary(delta: &str) -> String {
    format!(
        r#"{{"type":"response.reasoning_summary_text.delta","item_id":"r","output_index":0,"summary_index":0,"delta":"{delta}"}}"#
    )
}

const REASONED: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"r","type":"reasoning","content":[{"type":"reasoning_text","text":"raw"}],"summary":[{"type":"summary_text","text":"short"}]}}"#;

#[test]
fn raw_reasoning_wins_whichever_comes_first() {
    let said = [r#"Reasoning("raw")"#];
    assert_eq!(read(&[&raw("raw"), &summary("short"), REASONED]), said);
    assert_eq!(read(&[&summary("short"), &raw("raw"), REASONED]), said);
    assert_eq!(read(&[&summary("short"), REASONED]), said);
    assert_eq!(read(&[REASONED]), said);
}

#[test]
fn a_summary_waits_for_its_item_unless_it_was_asked_for() {
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"r","type":"reasoning","summary":[{"type":"summary_text","text":"short"}]}}"#;
    assert!(read(&[&summary("sh"), &summary("ort")]).is_empty());
    assert_eq!(
        read(&[&summary("sh"), &summary("ort"), done]),
        [r#"Reasoning("short")"#]
    );
    let asked =
        r#"{"type":"response.created","response":{"reasoning":{"summary":"auto"},"id":"x"}}"#;
    assert_eq!(
        read(&[asked, &summary("sh"), &summary("ort"), &raw("raw"), done])[1..],
        [r#"Reasoning("sh")"#, r#"Reasoning("ort")"#]
    );
    let text = r#"{"type":"response.output_text.delta","output_index":1,"delta":"Hi"}"#;
    assert_eq!(
        read(&[&summary("short"), text]),
        [r#"Reasoning("short")"#, r#"Text("Hi")"#]
    );
}

#[test]
fn a_summary_too_long_to_hold_is_shown() {
    let long = "x".repeat(100 * 1024);
    let lines = read(&[&summary(&long), &summary(&long), &summary(&long)]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() > 300 * 1024);
}

#[test]
fn a_signature_goes_with_its_text_or_stands_for_it() {
    let item = |summary: &str| {
        format!(
            r#"{{"type":"response.output_item.done","output_index":0,"item":{{"id":"r","type":"reasoning","summary":[{summary}],"encrypted_content":"sealed"}}}}"#
        )
    };
    let signed = [r#"Reasoning("short")"#, r#"Signature("sealed")"#];
    let text = r#"{"type":"summary_text","text":"short"}"#;
    assert_eq!(read(&[&item(text)]), signed);
    assert_eq!(read(&[&summary("short"), &item(text)]), signed);
    assert_eq!(read(&[&item("")]), [r#"EncryptedReasoning("sealed")"#]);
}

#[test]
fn a_text_is_emitted_once_wherever_it_comes_from() {
    let delta =
        r#"{"type":"response.output_text.delta","item_id":"m","content_index":1,"delta":"Hi"}"#;
    let done =
        r#"{"type":"response.output_text.done","item_id":"m","content_index":1,"text":"Hi"}"#;
    let part = r#"{"type":"response.content_part.done","item_id":"m","content_index":1,"part":{"type":"output_text","text":"Hi","annotations":[{"url":"u","end_index":2},{"url":"v"}]}}"#;
    let item = r#"{"type":"response.output_item.done","item":{"id":"m","type":"message","content":[{"type":"output_text","text":"Hi","annotations":[{"url":"u"},{"url":"v"},{"url":"w"}]},{"type":"output_text","text":"You"}]}}"#;
    let cited = ["cite u Some(2)", "cite v None", "cite w None"];
    let whole = [
        r#"Text("Hi")"#,
        cited[0],
        cited[1],
        cited[2],
        r#"Text("You")"#,
    ];
    for frames in [
        &[delta, done, part, item][..],
        &[done, part, item],
        &[part, item],
        &[delta, part, item],
    ] {
        assert_eq!(read(frames), whole, "{frames:?}");
    }
    assert_eq!(
        read(&[delta, item]),
        [whole[0], "cite u None", cited[1], cited[2], whole[4]]
    );
}

#[test]
fn an_output_that_only_the_last_event_holds_is_read() {
    let lines = read(&[
        r#"{"type":"response.completed","response":{"id":"x","output":[{"type":"message","content":[{"type":"refusal","refusal":"No."}]}]}}"#,
    ]);
    assert_eq!(lines[1..], [r#"Refusal("No.")"#, "Finish(Refusal)"]);
}

#[test]
fn calls_find_their_pieces() {
    let lines = read(&[
        r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"one","type":"function_call","call_id":"a","name":"f","arguments":""}}"#,
        r#"{"type":"response.output_item.added","output_index":2,"item":{"id":"two","type":"function_call","call_id":"b","name":"g","arguments":""}}"#,
        r#"{"type":"response.output_item.added","output_index":3,"item":{"id":"own","type":"mcp_call","name":"h","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"item_id":"another","delta":"{}"}"#,
        r#"{"type":"response.mcp_call_arguments.delta","output_index":3,"item_id":"own","delta":"[]"}"#,
        r#"{"type":"response.function_call_arguments.delta","item_id":"one","delta":"{\"x\":"}"#,
        r#"{"type":"response.function_call_arguments.delta","item_id":"one","delta":"1}"}"#,
        r#"{"type":"response.function_call_arguments.done","item_id":"one","arguments":"{\"x\":1}"}"#,
        r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"one","type":"function_call","call_id":"a","name":"f","arguments":"{\"x\":1}"}}"#,
        r#"{"type":"response.output_item.done","output_index":4,"item":{"id":"three","type":"function_call","name":"h"}}"#,
        r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#,
    ]);
    assert_eq!(
        lines,
        [
            "tool 0 a f ",
            "tool 1 b g ",
            r#"tool 0 - - {"x":"#,
            "tool 0 - - 1}",
            "tool 2 - h ",
            "tool 1 - - {}",
            "Finish(ToolCalls)",
        ]
    );
}

/// llama.cpp has named its calls in three ways.
#[test]
fn a_call_is_one_call_whatever_names_it() {
    let added = |ids: &str| {
        format!(
            r#"{{"type":"response.output_item.added","item":{{{ids},"type":"function_call","name":"f"}}}}"#
        )
    };
    let delta = |id: &str| {
        format!(r#"{{"type":"response.function_call_arguments.delta",{id}"delta":"[1]"}}"#)
    };
    let done = |ids: &str| {
        format!(
            r#"{{"type":"response.output_item.done","item":{{{ids},"type":"function_call","name":"f","arguments":"[1]"}}}}"#
        )
    };
    let (both, call) = (r#""id":"fc_a","call_id":"a""#, r#""call_id":"a""#);
    let emitted = ["tool 0 a f ", "tool 0 - - [1]"];
    for (begin, id, end) in [
        (both, r#""item_id":"fc_a","#, both),
        (both, r#""item_id":"fc_a","#, call),
        (call, r#""item_id":"a","#, call),
        (call, "", call),
    ] {
        let lines = read(&[&added(begin), &delta(id), &done(end)]);
        assert_eq!(lines, emitted, "{begin} {id} {end}");
    }
}

#[test]
fn a_custom_call_that_was_not_declared_is_the_vendors_own() {
    let call = r#"{"type":"response.output_item.done","item":{"id":"c","type":"custom_tool_call","call_id":"a","name":"run","input":"ls"}}"#;
    let created = |tools: &str| {
        format!(r#"{{"type":"response.created","response":{{"id":"x","tools":{tools}}}}}"#)
    };
    let emitted = ["tool 0 a run ", "tool 0 - - ls"];
    for tools in [
        "null",
        r#"[{"type":"custom","name":"run"}]"#,
        r#"[{"type":"namespace","name":"n","tools":[{"type":"custom","name":"run"}]}]"#,
    ] {
        assert_eq!(read(&[&created(tools), call])[1..], emitted, "{tools}");
    }
    let searching = r#"[{"type":"x_search","name":"run"}]"#;
    assert_eq!(read(&[&created(searching), call]).len(), 1);
}

#[test]
fn the_status_is_the_finish() {
    let ended = |kind: &str, response: &str| {
        let frame = format!(r#"{{"type":"response.{kind}","response":{{{response}}}}}"#);
        read(&[&frame]).pop().unwrap_or_default()
    };
    for (kind, response, end) in [
        ("completed", "", "Finish(Stop)"),
        ("completed", r#""status":"in_progress""#, "Finish(Stop)"),
        ("completed", r#""status":"novel""#, "Finish(Other)"),
        ("incomplete", "", "Finish(Other)"),
        (
            "completed",
            r#""status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}"#,
            "Finish(Length)",
        ),
        (
            "incomplete",
            r#""incomplete_details":{"reason":"content_filter"}"#,
            "Finish(ContentFilter)",
        ),
        (
            "failed",
            r#""error":{"code":"server_error","message":"Oh."}"#,
            "upstream_error: Oh.",
        ),
        ("failed", "", "upstream_error: no reason given"),
        (
            "cancelled",
            "",
            "upstream_error: the upstream cancelled its answer",
        ),
    ] {
        assert_eq!(ended(kind, response), end, "{kind} {response}");
    }
}

#[test]
fn errors_come_flat_or_nested() {
    for data in [
        r#"{"type":"error","code":"x","message":"Oh.","param":null,"sequence_number":2}"#,
        r#"{"type":"error","error":{"type":"x","message":"Oh."}}"#,
        r#"{"error":{"message":"Oh."}}"#,
    ] {
        assert_eq!(read(&[data]), ["upstream_error: Oh."], "{data}");
    }
    assert_eq!(
        read(&[&summary("short"), r#"{"type":"error","message":"Oh."}"#]),
        [r#"Reasoning("short")"#, "upstream_error: Oh."]
    );
}

#[test]
fn what_is_no_answer_is_an_error() {
    let document = |document: &str| {
        let outcome =
            ResponsesDecoder::new(&Vendor::PLAIN).document(document, &mut |_: Event<'_>| {});
        outcome.err().map_or("", |error| error.code().as_str())
    };
    assert_eq!(
        document(r#"{"object":"response","output":[],"error":null}"#),
        ""
    );
    assert_eq!(
        document(r#"{"status":"queued","output":[]}"#),
        "stream_interrupted"
    );
    assert_eq!(document(r#"{"error":{"message":"x"}}"#), "upstream_error");
    assert_eq!(document(r#"{"choices":[]}"#), "bad_upstream_data");
    assert_eq!(document("[]"), "bad_upstream_data");
}

#[test]
fn only_a_whole_end_is_terminal() {
    let decoder = ResponsesDecoder::new(&Vendor::PLAIN);
    let is_terminal = |name, data| decoder.is_terminal(&Frame::new(name, data));
    assert!(is_terminal("", r#"{"type":"response.completed"}"#));
    assert!(is_terminal("response.failed", "{}"));
    assert!(is_terminal("error", r#"{"message":"x"}"#));
    assert!(!is_terminal("", r#"{"type":"response.completed""#));
    assert!(!is_terminal("", r#"{"type":"response.output_text.done"}"#));
}
