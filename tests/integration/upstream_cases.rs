//! Every wire against streams that vendors were reported to send.
//!
//! `SLUICEGATE_SHARED` names a folder that has in `trials/upstream` a folder for each case, with the
//! bytes of the upstream's answer (`upstream.*`) and `case.json`: its wire and, for each dialect, what
//! the client must get.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sluicegate::dialect;
use sluicegate::model::Request;
use sluicegate::pipeline;
use sluicegate::wire;

use crate::naive_sse;

/// Cases whose expectation is not met, with the reason.
const NOT_MET: &[(&str, &str)] = &[
    (
        "57-think-tags-inline",
        "off unless an upstream or preset sets think_tags; without it the text stays as sent",
    ),
    (
        "79-pause-turn-with-server-tool",
        "blocks of the vendor's own tools reach a client only verbatim, which is not in this pipeline",
    ),
];

#[test]
#[expect(clippy::print_stdout, reason = "the table is what this is run for")]
fn reported_streams_give_what_a_client_must_get() {
    let Ok(folder) = std::env::var("SLUICEGATE_SHARED") else {
        println!("skipped: SLUICEGATE_SHARED names no folder with trials");
        return;
    };
    let folder = Path::new(&folder).join("trials/upstream");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the folder of the cases")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let (mut right, mut wrong, mut not_met) = (0, Vec::new(), 0);
    for name in &names {
        let problems = check(&folder.join(name));
        let reason = NOT_MET.iter().find(|(case, _)| case == name);
        match (problems.as_slice(), reason) {
            ([], _) => right += 1,
            (_, Some((_, reason))) => {
                not_met += 1;
                println!("{name}: not met: {reason}");
            }
            (problems, None) => {
                println!("{name}: {}", problems.join("; "));
                wrong.push(name.as_str());
            }
        }
    }
    println!(
        "{} cases: {right} right, {not_met} not met, {} wrong",
        names.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
}

fn check(folder: &Path) -> Vec<String> {
    let case = fs::read(folder.join("case.json")).expect("a case");
    let case: Value = serde_json::from_slice(&case).expect("a case is JSON");
    let body = fs::read_dir(folder)
        .expect("a case's folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_stem().is_some_and(|stem| stem == "upstream"))
        .map(|path| fs::read(path).expect("the upstream's bytes"))
        .expect("a case has the upstream's bytes");
    let wire = wire::by_name(case["wire"].as_str().expect("a wire")).expect("a known wire");
    let mut problems = Vec::new();
    for (client, expected) in case["expect"].as_object().expect("expectations") {
        let path = match client.as_str() {
            "native" => "/v1/streams",
            "chat" => "/v1/chat/completions",
            "responses" => "/v1/responses",
            "anthropic" => "/v1/messages",
            other => panic!("no dialect {other}"),
        };
        let dialect = dialect::at(path);
        let request = Request {
            model: "case".to_owned(),
            stream: true,
            usage_wanted: true,
            ..Request::default()
        };
        let whole = pipeline::bytes(wire, dialect, &request, [&body[..]]);
        let single = pipeline::bytes(wire, dialect, &request, body.chunks(1));
        if single != whole {
            problems.push(format!("{client}: byte by byte it gives other bytes"));
        }
        let answer = match client.as_str() {
            "native" => native(&whole),
            "chat" => chat(&whole),
            "anthropic" => anthropic(&whole),
            _ => responses(&whole),
        };
        let raw = String::from_utf8_lossy(&whole);
        problems.extend(
            differences(&answer, expected, &raw)
                .into_iter()
                .map(|problem| format!("{client}: {problem}")),
        );
    }
    problems
}

/// What a client reads in the end.
#[derive(Default)]
struct Answer {
    text: String,
    reasoning: String,
    /// Id, name, arguments.
    calls: Vec<(String, String, String)>,
    finish: Option<String>,
    usage: Value,
    /// Code and message.
    error: Option<(String, String)>,
}

impl Answer {
    fn call(&mut self, at: usize) -> &mut (String, String, String) {
        if self.calls.len() <= at {
            self.calls.resize_with(at + 1, Default::default);
        }
        &mut self.calls[at]
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn events(bytes: &[u8]) -> impl Iterator<Item = (String, Value)> {
    naive_sse::events(bytes).into_iter().map(|event| {
        let data = serde_json::from_str(&event.data).unwrap_or_default();
        (event.name, data)
    })
}

fn native(bytes: &[u8]) -> Answer {
    let mut answer = Answer::default();
    for (name, data) in events(bytes) {
        match name.as_str() {
            "token" => answer.text += text(&data["text"]),
            "reasoning" => answer.reasoning += text(&data["text"]),
            "tool_call" => {
                let call = answer.call(data["index"].as_u64().unwrap_or(0) as usize);
                call.0 += text(&data["id"]);
                call.1 += text(&data["name"]);
                call.2 += text(&data["arguments"]);
            }
            "complete" => {
                answer.finish = Some(text(&data["finish_reason"]).to_owned());
                answer.usage = data["usage"].clone();
            }
            "error" => {
                let error = &data["error"];
                answer.error = Some((text(&error["code"]).into(), text(&error["message"]).into()));
            }
            _ => {}
        }
    }
    answer
}

fn chat(bytes: &[u8]) -> Answer {
    let mut answer = Answer::default();
    for (_, data) in events(bytes) {
        let choice = &data["choices"][0];
        let delta = &choice["delta"];
        answer.text += text(&delta["content"]);
        answer.reasoning += text(&delta["reasoning_content"]);
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let call = answer.call(piece["index"].as_u64().unwrap_or(0) as usize);
            call.0 += text(&piece["id"]);
            call.1 += text(&piece["function"]["name"]);
            call.2 += text(&piece["function"]["arguments"]);
        }
        if let Some(finish) = choice["finish_reason"].as_str() {
            answer.finish = Some(finish.to_owned());
        }
        if data["usage"].is_object() {
            answer.usage = data["usage"].clone();
        }
        if let Some(error) = data["error"].as_object() {
            answer.error = Some((text(&error["code"]).into(), text(&error["message"]).into()));
        }
    }
    answer
}

fn anthropic(bytes: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let mut usage = json!({});
    for (name, data) in events(bytes) {
        match name.as_str() {
            "content_block_start" if data["content_block"]["type"] == "tool_use" => {
                let block = &data["content_block"];
                let (id, name) = (text(&block["id"]), text(&block["name"]));
                answer.calls.push((id.into(), name.into(), String::new()));
            }
            "content_block_delta" => {
                answer.text += text(&data["delta"]["text"]);
                answer.reasoning += text(&data["delta"]["thinking"]);
                if let Some(call) = answer.calls.last_mut() {
                    call.2 += text(&data["delta"]["partial_json"]);
                }
            }
            "message_start" => usage = data["message"]["usage"].clone(),
            "message_delta" => {
                answer.finish = data["delta"]["stop_reason"].as_str().map(str::to_owned);
                for (name, count) in data["usage"].as_object().into_iter().flatten() {
                    usage[name] = count.clone();
                }
            }
            "error" => {
                let error = &data["error"];
                answer.error = Some((text(&error["type"]).into(), text(&error["message"]).into()));
            }
            _ => {}
        }
    }
    answer.usage = usage;
    answer
}

fn responses(bytes: &[u8]) -> Answer {
    let mut answer = Answer::default();
    for (name, data) in events(bytes) {
        match name.as_str() {
            "response.output_text.delta" => answer.text += text(&data["delta"]),
            "response.output_item.done" if data["item"]["type"] == "function_call" => {
                let item = &data["item"];
                answer.calls.push((
                    text(&item["call_id"]).into(),
                    text(&item["name"]).into(),
                    text(&item["arguments"]).into(),
                ));
            }
            _ => {}
        }
    }
    answer
}

fn differences(answer: &Answer, expected: &Value, raw: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut compare = |what: &str, got: &str, wanted: &Value| {
        if let Some(wanted) = wanted.as_str()
            && wanted != got
        {
            problems.push(format!("{what} {got:?}, not {wanted:?}"));
        }
    };
    compare("text", &answer.text, &expected["text"]);
    compare("reasoning", &answer.reasoning, &expected["reasoning"]);
    if let Some(calls) = expected["tool_calls"].as_array() {
        problems.extend(call_differences(&answer.calls, calls));
    }
    let finish = answer.finish.as_deref();
    let allowed = match &expected["finish"] {
        Value::String(wanted) => finish == Some(wanted),
        Value::Array(list) => finish.is_some_and(|finish| list.iter().any(|one| one == finish)),
        Value::Null if expected.get("finish").is_some() => finish.is_none(),
        _ => true,
    };
    if !allowed {
        problems.push(format!("finish {finish:?}, not {}", expected["finish"]));
    }
    for (name, count) in expected["usage"].as_object().into_iter().flatten() {
        if answer.usage[name] != *count {
            problems.push(format!("usage.{name} {}, not {count}", answer.usage[name]));
        }
    }
    let code = answer.error.as_ref().map(|error| error.0.as_str());
    let right = match expected.get("error") {
        None | Some(Value::Null) => code.is_none(),
        Some(Value::Bool(_)) => code.is_some(),
        Some(Value::Array(list)) => code.is_some_and(|code| list.iter().any(|one| one == code)),
        Some(wanted) => code == wanted.as_str(),
    };
    if !right {
        problems.push(format!(
            "error {:?}, not {}",
            answer.error, expected["error"]
        ));
    }
    let message = answer.error.as_ref().map_or("", |error| &error.1);
    if !message.contains(text(&expected["message_has"])) {
        problems.push(format!(
            "message {message:?} without {}",
            expected["message_has"]
        ));
    }
    for needle in expected["raw_has"].as_array().into_iter().flatten() {
        if !raw.contains(text(needle)) {
            problems.push(format!("nothing has {needle}"));
        }
    }
    problems
}

fn call_differences(calls: &[(String, String, String)], expected: &[Value]) -> Vec<String> {
    if calls.len() != expected.len() {
        return vec![format!("calls {calls:?}, not {expected:?}")];
    }
    let mut problems = Vec::new();
    for ((id, name, arguments), wanted) in calls.iter().zip(expected) {
        let fits = |wanted: &Value, got: &str| wanted.as_str().is_none_or(|wanted| wanted == got);
        let json = serde_json::from_str::<Value>(arguments).ok();
        if !fits(&wanted["id"], id)
            || !fits(&wanted["name"], name)
            || !fits(&wanted["arguments"], arguments)
            || wanted
                .get("json")
                .is_some_and(|wanted| json.as_ref() != Some(wanted))
        {
            problems.push(format!("call {id:?} {name:?} {arguments:?}, not {wanted}"));
        }
    }
    problems
}
