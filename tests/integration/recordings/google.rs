//! The naive reading of Gemini's answers.

use serde_json::Value;

use super::Heard;
use super::naive::{append, list};

pub(super) fn gemini(values: &[Value]) -> Heard {
    let mut heard = Heard::default();
    let mut reason = None;
    for value in values {
        heard.failed |= value.get("error").is_some();
        let candidate = &value["candidates"][0];
        for part in list(&candidate["content"]["parts"]) {
            if part["thought"] == true {
                append(&mut heard.reasoning, &part["text"]);
            } else {
                append(&mut heard.text, &part["text"]);
            }
            let call = &part["functionCall"];
            if let Some(name) = call["name"].as_str() {
                let arguments = call["args"].to_string();
                heard.calls.push((name.to_owned(), arguments));
            }
        }
        if !candidate["finishReason"].is_null() {
            reason = Some(candidate["finishReason"].clone());
        }
        if value["promptFeedback"]["blockReason"].is_string() {
            reason = Some("SAFETY".into());
        }
        let usage = &value["usageMetadata"];
        if usage.is_object() {
            let sum = |one: &str, other: &str| {
                let both = [usage[one].as_u64(), usage[other].as_u64()];
                both.into_iter().flatten().reduce(|a, b| a + b)
            };
            heard.input_tokens = sum("promptTokenCount", "toolUsePromptTokenCount");
            heard.output_tokens = sum("candidatesTokenCount", "thoughtsTokenCount");
        }
    }
    heard.failed |= reason.is_none();
    if !heard.failed {
        heard.finish = Some(match reason.unwrap_or_default() {
            Value::String(word) => match word.as_str() {
                "STOP" if !heard.calls.is_empty() => "tool_calls",
                "STOP" => "stop",
                "MAX_TOKENS" => "length",
                "SAFETY" => "content_filter",
                _ => "other",
            },
            // What a request with `$alt=…;enum-encoding=int` gets.
            number if number == 1 => "stop",
            number if number == 2 => "length",
            _ => "other",
        });
    }
    heard
}
