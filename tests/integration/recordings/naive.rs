//! A reader that shares no code with the pipeline and takes no care of speed, pieces or borrowing.

use serde_json::Value;

use super::Heard;
use super::google::gemini;
use super::responses::responses;

/// Reads a whole answer in the plainest way, from JSON values.
pub(super) fn naive(wire: &str, body: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let mut calls: Vec<(Value, String, String)> = Vec::new();
    let values = if body.starts_with(&[0]) {
        messages_of(body)
    } else {
        values(&String::from_utf8_lossy(body))
    };
    match wire {
        "gemini" => return gemini(&values),
        "openai-responses" => return responses(&values),
        _ => {}
    }
    let mut whole = values.len() == 1;
    heard.finish = Some("other");
    for value in &values {
        if let Some(reason) = finish(value) {
            heard.finish = Some(reason);
        }
        heard.failed |= value.get("error").is_some_and(|error| !error.is_null());
        heard.failed |= value["delta"]["error"].is_string();
        match wire {
            "openai-chat" => chat(value, &mut heard, &mut calls, &mut whole),
            "anthropic-messages" => messages(value, &mut heard, &mut calls),
            "bedrock-converse" => converse(value, &mut heard, &mut calls),
            "cohere-chat" => cohere(value, &mut heard, &mut calls),
            _ => ollama(value, &mut heard, &mut calls),
        }
    }
    let json = |call: &(Value, String, String)| serde_json::from_str::<Value>(&call.2).is_ok();
    heard.failed |= heard.finish != Some("length") && !calls.iter().all(json);
    if heard.failed {
        heard.finish = None;
    }
    match heard.finish {
        Some("stop") if !calls.is_empty() => heard.finish = Some("tool_calls"),
        Some("tool_calls") if calls.is_empty() => heard.finish = Some("stop"),
        _ => {}
    }
    heard.calls = calls
        .into_iter()
        .map(|(_, name, arguments)| (name, arguments))
        .collect();
    heard
}

/// The JSON values of an answer in order, however they are framed.
fn values(body: &str) -> Vec<Value> {
    match serde_json::from_str(body) {
        Ok(Value::Array(list)) => return list,
        Ok(whole) => return vec![whole],
        Err(_) => {}
    }
    body.lines()
        .map(|line| line.strip_prefix("data:").unwrap_or(line).trim())
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The JSON values of an AWS event stream: what stands between the headers of each message, whose
/// names are not needed to tell the values apart, and its checksum.
fn messages_of(mut body: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while let [a, b, c, d, e, f, g, h, ..] = *body {
        let total = u32::from_be_bytes([a, b, c, d]) as usize;
        let headers = u32::from_be_bytes([e, f, g, h]) as usize;
        values.extend(serde_json::from_slice(&body[12 + headers..total - 4]));
        body = &body[total..];
    }
    values
}

/// The reason that a value states, wherever its wire has it.
fn finish(value: &Value) -> Option<&'static str> {
    let places = [
        &value["choices"][0]["finish_reason"],
        &value["delta"]["stop_reason"],
        &value["stop_reason"],
        &value["done_reason"],
        &value["stopReason"],
        &value["delta"]["finish_reason"],
        &value["finish_reason"],
    ];
    let said = places.into_iter().find_map(Value::as_str)?;
    match said {
        "stop" | "end_turn" | "stop_sequence" | "COMPLETE" | "STOP_SEQUENCE" => Some("stop"),
        "length" | "max_tokens" | "MAX_TOKENS" => Some("length"),
        "tool_calls" | "function_call" | "tool_use" | "TOOL_CALL" => Some("tool_calls"),
        "content_filter" | "guardrail_intervened" => Some("content_filter"),
        "refusal" => Some("refusal"),
        "pause_turn" => Some("pause"),
        _ => None,
    }
}

pub(super) fn append(into: &mut String, value: &Value) {
    into.push_str(value.as_str().unwrap_or_default());
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn chat(
    value: &Value,
    heard: &mut Heard,
    calls: &mut Vec<(Value, String, String)>,
    whole: &mut bool,
) {
    for usage in [&value["x_groq"]["usage"], &value["usage"]] {
        let input = usage["prompt_tokens"].as_u64();
        let output = usage["completion_tokens"].as_u64();
        heard.input_tokens = input.or(heard.input_tokens);
        heard.output_tokens = output.or(heard.output_tokens);
        // xAI's total is larger than its parts by the reasoning.
        let reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64();
        if let (Some(input), Some(output), Some(reasoning)) = (input, output, reasoning)
            && usage["total_tokens"].as_u64() == Some(input + output + reasoning)
        {
            heard.output_tokens = Some(output + reasoning);
        }
    }
    for choice in list(&value["choices"]) {
        if choice["index"].as_u64().unwrap_or(0) != 0 {
            continue;
        }
        let delta = if *whole {
            &choice["message"]
        } else {
            &choice["delta"]
        };
        append(&mut heard.text, &delta["content"]);
        for part in list(&delta["content"]) {
            append(&mut heard.text, &part["text"]);
            for thought in list(&part["thinking"]) {
                append(&mut heard.reasoning, &thought["text"]);
            }
        }
        append(&mut heard.text, &delta["refusal"]);
        if delta["refusal"]
            .as_str()
            .is_some_and(|words| !words.is_empty())
        {
            heard.finish = Some("refusal");
        }
        let before = heard.reasoning.len();
        append(&mut heard.reasoning, &delta["reasoning_content"]);
        if heard.reasoning.len() == before {
            append(&mut heard.reasoning, &delta["reasoning"]);
        }
        if heard.reasoning.len() == before {
            for detail in list(&delta["reasoning_details"]) {
                append(&mut heard.reasoning, &detail["text"]);
                append(&mut heard.reasoning, &detail["summary"]);
            }
        }
        for (place, call) in list(&delta["tool_calls"]).iter().enumerate() {
            let index = if *whole {
                Value::from(place)
            } else {
                call["index"].clone()
            };
            if !calls.iter().any(|known| known.0 == index) {
                let name = call["function"]["name"].as_str().unwrap_or_default();
                calls.push((index.clone(), name.to_owned(), String::new()));
            }
            if let Some(known) = calls.iter_mut().find(|known| known.0 == index) {
                append(&mut known.2, &call["function"]["arguments"]);
            }
        }
        let function = &delta["function_call"];
        if function["name"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
        {
            let text = |field: &str| function[field].as_str().unwrap_or_default().to_owned();
            calls.push((Value::Null, text("name"), text("arguments")));
        }
    }
}

fn messages(value: &Value, heard: &mut Heard, calls: &mut Vec<(Value, String, String)>) {
    let usage = if value["usage"].is_object() {
        &value["usage"]
    } else {
        &value["message"]["usage"]
    };
    heard.output_tokens = usage["output_tokens"].as_u64().or(heard.output_tokens);
    // All recorded vendors state every part of the input again when they state one.
    if usage["input_tokens"].is_u64() {
        let part = |name: &str| usage[name].as_u64().unwrap_or(0);
        heard.input_tokens = Some(
            part("input_tokens")
                + part("cache_read_input_tokens")
                + part("cache_creation_input_tokens"),
        );
    }
    for block in list(&value["content"])
        .iter()
        .chain([&value["content_block"]])
    {
        match block["type"].as_str() {
            Some("text") => append(&mut heard.text, &block["text"]),
            Some("thinking") => append(&mut heard.reasoning, &block["thinking"]),
            Some("tool_use") => {
                let name = block["name"].as_str().unwrap_or_default().to_owned();
                let input = if value["type"] == "message" {
                    block["input"].to_string()
                } else {
                    String::new()
                };
                calls.push((value["index"].clone(), name, input));
            }
            _ => {}
        }
    }
    let delta = &value["delta"];
    append(&mut heard.text, &delta["text"]);
    append(&mut heard.reasoning, &delta["thinking"]);
    if let Some(call) = calls.iter_mut().find(|call| call.0 == value["index"]) {
        append(&mut call.2, &delta["partial_json"]);
        if value["type"] == "content_block_stop" && call.2.is_empty() {
            call.2.push_str("{}");
        }
    }
}

fn ollama(value: &Value, heard: &mut Heard, calls: &mut Vec<(Value, String, String)>) {
    append(&mut heard.text, &value["message"]["content"]);
    append(&mut heard.reasoning, &value["message"]["thinking"]);
    heard.input_tokens = value["prompt_eval_count"].as_u64().or(heard.input_tokens);
    heard.output_tokens = value["eval_count"].as_u64().or(heard.output_tokens);
    for call in list(&value["message"]["tool_calls"]) {
        let function = &call["function"];
        let name = function["name"].as_str().unwrap_or_default();
        calls.push((
            Value::Null,
            name.to_owned(),
            function["arguments"].to_string(),
        ));
    }
}

fn converse(value: &Value, heard: &mut Heard, calls: &mut Vec<(Value, String, String)>) {
    let usage = &value["usage"];
    if usage.is_object() {
        let cached = ["cacheReadInputTokens", "cacheWriteInputTokens"];
        let cached = cached.iter().filter_map(|name| usage[name].as_u64());
        heard.input_tokens = usage["inputTokens"]
            .as_u64()
            .map(|own| own + cached.sum::<u64>());
        heard.output_tokens = usage["outputTokens"].as_u64();
        // All counts together are the total, which says what the input count leaves out.
        let both = heard.input_tokens.zip(heard.output_tokens);
        assert_eq!(both.map(|(a, b)| a + b), usage["totalTokens"].as_u64());
    }
    for block in list(&value["output"]["message"]["content"]) {
        append(&mut heard.text, &block["text"]);
        let reasoning = &block["reasoningContent"]["reasoningText"];
        append(&mut heard.reasoning, &reasoning["text"]);
        for piece in list(&block["citationsContent"]["content"]) {
            append(&mut heard.text, &piece["text"]);
        }
        let call = &block["toolUse"];
        if call.is_object() && call["type"] != "server_tool_use" {
            let name = call["name"].as_str().unwrap_or_default().to_owned();
            calls.push((Value::Null, name, call["input"].to_string()));
        }
    }
    let index = &value["contentBlockIndex"];
    let begun = &value["start"]["toolUse"];
    if begun.is_object() && begun["type"] != "server_tool_use" {
        let name = begun["name"].as_str().unwrap_or_default().to_owned();
        calls.push((index.clone(), name, String::new()));
    }
    let delta = &value["delta"];
    append(&mut heard.text, &delta["text"]);
    append(&mut heard.reasoning, &delta["reasoningContent"]["text"]);
    if let Some(call) = calls.iter_mut().find(|call| call.0 == *index) {
        append(&mut call.2, &delta["toolUse"]["input"]);
    }
}

fn cohere(value: &Value, heard: &mut Heard, calls: &mut Vec<(Value, String, String)>) {
    let whole = &value["message"];
    append(&mut heard.reasoning, &whole["tool_plan"]);
    for block in list(&whole["content"]) {
        append(&mut heard.reasoning, &block["thinking"]);
        append(&mut heard.text, &block["text"]);
    }
    let delta = &value["delta"]["message"];
    append(&mut heard.reasoning, &delta["tool_plan"]);
    append(&mut heard.reasoning, &delta["content"]["thinking"]);
    append(&mut heard.text, &delta["content"]["text"]);
    let function = &delta["tool_calls"]["function"];
    match value["type"].as_str() {
        Some("tool-call-start") => {
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            calls.push((value["index"].clone(), name, String::new()));
        }
        Some("tool-call-end") => {
            let call = calls.iter_mut().find(|call| call.0 == value["index"]);
            if let Some((_, _, arguments)) = call
                && arguments.is_empty()
            {
                arguments.push_str("{}");
            }
        }
        _ => {}
    }
    if let Some(call) = calls.iter_mut().find(|call| call.0 == value["index"]) {
        append(&mut call.2, &function["arguments"]);
    }
    for usage in [&value["usage"], &value["delta"]["usage"]] {
        let tokens = &usage["tokens"];
        heard.input_tokens = tokens["input_tokens"].as_u64().or(heard.input_tokens);
        heard.output_tokens = tokens["output_tokens"].as_u64().or(heard.output_tokens);
    }
}
