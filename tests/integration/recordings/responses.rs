//! The naive reading of the Responses API's answers: what the last event says that the answer was,
//! and not the pieces that the pipeline reads. Only reasoning is joined from pieces: OpenAI has been
//! seen to take words of a summary back, which a stream cannot.

use serde_json::Value;

use super::Heard;
use super::naive::{append, list};

pub(super) fn responses(values: &[Value]) -> Heard {
    let mut heard = Heard::default();
    heard.failed |= values
        .iter()
        .any(|value| value["type"] == "error" || value["error"].is_object());
    let ends = ["completed", "incomplete", "failed"];
    let last = values.iter().find(|value| {
        let kind = value["type"].as_str().unwrap_or_default();
        let kind = kind.strip_prefix("response.").unwrap_or_default();
        ends.contains(&kind) || value["object"] == "response"
    });
    let Some(last) = last else {
        heard.failed = true;
        return heard;
    };
    let response = last.get("response").unwrap_or(last);
    for item in list(&response["output"]) {
        self::item(item, response, &mut heard);
    }
    let kinds = ["reasoning_text", "reasoning_summary_text"];
    let joined = kinds.map(|kind| {
        let kind = format!("response.{kind}.delta");
        let pieces = values.iter().filter(|value| value["type"] == kind.as_str());
        pieces
            .filter_map(|value| value["delta"].as_str())
            .collect::<String>()
    });
    if let Some(reasoning) = joined.into_iter().find(|joined| !joined.is_empty()) {
        heard.reasoning = reasoning;
    }
    heard.input_tokens = response["usage"]["input_tokens"].as_u64();
    heard.output_tokens = response["usage"]["output_tokens"].as_u64();
    heard.failed |= response["status"] == "failed";
    if !heard.failed {
        heard.finish = Some(match response["status"].as_str() {
            Some("incomplete")
                if response["incomplete_details"]["reason"] == "max_output_tokens" =>
            {
                "length"
            }
            _ if !heard.calls.is_empty() => "tool_calls",
            Some("completed") => "stop",
            _ => "other",
        });
    }
    heard
}

fn item(item: &Value, response: &Value, heard: &mut Heard) {
    let name = item["name"].as_str().unwrap_or_default();
    let mut call = |arguments: &Value| {
        let arguments = arguments.as_str().unwrap_or_default();
        heard.calls.push((name.to_owned(), arguments.to_owned()));
    };
    match item["type"].as_str().unwrap_or_default() {
        "message" => {
            for part in list(&item["content"]) {
                append(&mut heard.text, &part["text"]);
                append(&mut heard.text, &part["refusal"]);
            }
        }
        "reasoning" => {
            let raw = list(&item["content"]);
            let parts = if raw.is_empty() {
                list(&item["summary"])
            } else {
                raw
            };
            for part in parts {
                append(&mut heard.reasoning, &part["text"]);
            }
        }
        "function_call" => call(&item["arguments"]),
        "custom_tool_call" => {
            let declared = list(&response["tools"])
                .iter()
                .any(|tool| tool["type"] == "custom" && tool["name"] == name);
            if declared {
                call(&item["input"]);
            }
        }
        _ => {}
    }
}
