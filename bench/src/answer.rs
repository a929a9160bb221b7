//! Model answers of any length in every wire: the bytes before the tokens, one token, the bytes after
//! them. All are prepared in advance; sending a token copies it and writes 15 digits.
//!
//! A token's text is `@` and the time at which it was sent, so that a reader can compute its latency.
//! The bytes around it have the fields and sizes of the vendors' own.

use std::fmt::Write as _;

/// How many digits a stamp has.
pub const DIGITS: usize = 15;
/// Stamps are counted modulo this.
pub const WRAP: u64 = 1_000_000_000_000_000;
/// A chunk of the OpenAI Chat wire, in bytes.
const CHUNK: usize = 291;

/// A text without a time, as long as one with a time.
const TEXT: &str = "@000000000000000";

/// An answer's parts.
pub struct Answer {
    pub wire: &'static str,
    pub content_type: &'static str,
    opening: Vec<u8>,
    token: Vec<u8>,
    /// The position of the digits in `token`.
    stamp: usize,
    /// Every message ends with a checksum of itself.
    checksummed: bool,
}

/// The wires that answers exist for.
pub const WIRES: [&str; 7] = [
    "openai-chat",
    "anthropic-messages",
    "bedrock-converse",
    "cohere-chat",
    "gemini",
    "ollama-chat",
    "openai-responses",
];

impl Answer {
    pub fn of(wire: &str) -> Option<Self> {
        let wire = WIRES.into_iter().find(|known| *known == wire)?;
        let (opening, token) = match wire {
            "openai-chat" => (openai_chat(r#""role":"assistant","content":"""#), padded()),
            "anthropic-messages" => anthropic_messages(),
            "bedrock-converse" => bedrock_converse(),
            "cohere-chat" => cohere_chat(),
            "gemini" => (Vec::new(), gemini("", 1)),
            "ollama-chat" => (Vec::new(), ollama_chat(TEXT, r#""done":false"#)),
            _ => openai_responses(),
        };
        let stamp = token.iter().position(|byte| *byte == b'@')? + 1;
        Some(Self {
            wire,
            content_type: match wire {
                "ollama-chat" => "application/x-ndjson",
                "bedrock-converse" => "application/vnd.amazon.eventstream",
                _ => "text/event-stream",
            },
            opening,
            token,
            stamp,
            checksummed: wire == "bedrock-converse",
        })
    }

    pub fn opening(&self) -> &[u8] {
        &self.opening
    }

    /// The length of one token's message, in bytes.
    pub fn token_size(&self) -> usize {
        self.token.len()
    }

    /// Appends one token that is sent at `now`, in nanoseconds.
    pub fn token(&self, now: u64, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.token);
        self.restamp(now, &mut out[at..]);
    }

    /// Writes another time into the token in `message`.
    pub fn restamp(&self, now: u64, message: &mut [u8]) {
        let mut left = now % WRAP;
        for digit in message[self.stamp..self.stamp + DIGITS].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        if self.checksummed {
            let end = message.len() - 4;
            let sum = crc32fast::hash(&message[..end]);
            message[end..].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// The bytes after the last of `tokens` tokens.
    pub fn closing(&self, tokens: u64) -> Vec<u8> {
        match self.wire {
            "openai-chat" => {
                let mut out = openai_chat("");
                let open = br#""finish_reason":null"#;
                let at = out.len() - br#"}],"usage":null}"#.len() - 2 - open.len();
                out.splice(at..at + open.len(), *br#""finish_reason":"stop""#);
                let usage = format!(
                    r#"data: {{"id":"chatcmpl-Bench01","object":"chat.completion.chunk","created":1795000000,"model":"sluice-large-1","choices":[],"usage":{{"prompt_tokens":17,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
                    17 + tokens
                );
                out.extend_from_slice(usage.as_bytes());
                out.extend_from_slice(b"\n\ndata: [DONE]\n\n");
                out
            }
            "anthropic-messages" => events(&[
                ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#.to_owned()),
                ("message_delta", format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{tokens}}}}}"#)),
                ("message_stop", r#"{"type":"message_stop"}"#.to_owned()),
            ]),
            "bedrock-converse" => [
                message("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abcdefghijkl"}"#),
                message("messageStop", r#"{"stopReason":"end_turn","p":"abcdefghijkl"}"#),
                message("metadata", &format!(r#"{{"metrics":{{"latencyMs":640}},"usage":{{"inputTokens":14,"outputTokens":{tokens},"totalTokens":{}}},"p":"abcdef"}}"#, 14 + tokens)),
            ]
            .concat(),
            "cohere-chat" => events(&[
                ("content-end", r#"{"type":"content-end","index":0}"#.to_owned()),
                ("message-end", format!(r#"{{"type":"message-end","delta":{{"finish_reason":"COMPLETE","usage":{{"billed_units":{{"input_tokens":14,"output_tokens":{tokens}}},"tokens":{{"input_tokens":22,"output_tokens":{tokens}}}}}}}}}"#)),
                ("", "[DONE]".to_owned()),
            ]),
            "gemini" => gemini(r#""finishReason":"STOP","#, tokens),
            "ollama-chat" => ollama_chat("", &format!(r#""done":true,"done_reason":"stop","total_duration":482007750,"load_duration":52719542,"prompt_eval_count":19,"prompt_eval_duration":44457208,"eval_count":{tokens},"eval_duration":384438167"#)),
            _ => events(&[
                ("response.output_text.done", format!(r#"{{"type":"response.output_text.done","sequence_number":{},"item_id":"msg_bench01","output_index":0,"content_index":0,"text":"whole","logprobs":[]}}"#, tokens + 4)),
                ("response.completed", format!(r#"{{"type":"response.completed","sequence_number":{},"response":{{"id":"resp_bench01","object":"response","created_at":1795000000,"status":"completed","error":null,"incomplete_details":null,"model":"sluice-large-2","output":[],"usage":{{"input_tokens":17,"output_tokens":{tokens},"total_tokens":{}}}}}}}"#, tokens + 5, 17 + tokens)),
            ]),
        }
    }
}

/// A whole OpenAI Chat answer that was not asked to stream.
pub fn whole(now: u64, tokens: u64) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..tokens {
        // Writing to a string cannot fail.
        let _ = write!(text, "@{:0DIGITS$}", now % WRAP);
    }
    format!(
        r#"{{"id":"chatcmpl-Bench01","object":"chat.completion","created":1795000000,"model":"sluice-large-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":17,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
        17 + tokens
    )
    .into_bytes()
}

/// The body of a whole streamed answer.
pub fn body(wire: &str, tokens: u64) -> Vec<u8> {
    let Some(answer) = Answer::of(wire) else {
        panic!("{wire:?} is no wire");
    };
    let mut out = answer.opening().to_vec();
    for number in 0..tokens {
        answer.token(number, &mut out);
    }
    out.extend_from_slice(&answer.closing(tokens));
    out
}

/// An OpenAI Chat answer whose one token is so many bytes long.
pub fn long_line(bytes: usize) -> Vec<u8> {
    let mut out = openai_chat(&format!(r#""content":"{}""#, "x".repeat(bytes)));
    out.extend_from_slice(b"data: [DONE]\n\n");
    out
}

fn openai_chat(delta: &str) -> Vec<u8> {
    format!(
        "data: {}{delta}{}\n\n",
        r#"{"id":"chatcmpl-Bench01","object":"chat.completion.chunk","created":1795000000,"model":"sluice-large-1","service_tier":"default","system_fingerprint":"fp_bench00001","choices":[{"index":0,"delta":{"#,
        r#"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    )
    .into_bytes()
}

/// A token's chunk, filled up as OpenAI does it itself.
fn padded() -> Vec<u8> {
    let mut out = openai_chat(&format!(r#""content":"{TEXT}""#));
    let (before, after) = (br#","obfuscation":""#, b"\"}\n\n");
    out.truncate(out.len() - 3);
    out.extend_from_slice(before);
    let fill = CHUNK.saturating_sub(out.len() + after.len());
    out.extend(std::iter::repeat_n(b'x', fill));
    out.extend_from_slice(after);
    out
}

fn anthropic_messages() -> (Vec<u8>, Vec<u8>) {
    let opening = events(&[
        ("message_start", r#"{"type":"message_start","message":{"id":"msg_bench01","type":"message","role":"assistant","model":"sluice-opus-1","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":18,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1,"service_tier":"standard"}}}"#.to_owned()),
        ("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned()),
        ("ping", r#"{"type":"ping"}"#.to_owned()),
    ]);
    let token = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{TEXT}"}}}}"#
    );
    (opening, events(&[("content_block_delta", token)]))
}

fn bedrock_converse() -> (Vec<u8>, Vec<u8>) {
    let opening = message(
        "messageStart",
        r#"{"role":"assistant","p":"abcdefghijklmnopqrstu"}"#,
    );
    let token = format!(
        r#"{{"contentBlockIndex":0,"delta":{{"text":"{TEXT}"}},"p":"abcdefghijklmnopqrstuvwxyz"}}"#
    );
    (opening, message("contentBlockDelta", &token))
}

fn cohere_chat() -> (Vec<u8>, Vec<u8>) {
    let opening = events(&[
        ("message-start", r#"{"id":"c0he5e00-0000-4000-8000-000000000001","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#.to_owned()),
        ("content-start", r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#.to_owned()),
    ]);
    let token = format!(
        r#"{{"type":"content-delta","index":0,"delta":{{"message":{{"content":{{"text":"{TEXT}"}}}}}}}}"#
    );
    (opening, events(&[("content-delta", token)]))
}

/// Gemini states the counts with every piece, and its last piece is an empty one here.
fn gemini(finish: &str, tokens: u64) -> Vec<u8> {
    let text = if finish.is_empty() { TEXT } else { "" };
    format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},{finish}\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":12,\"candidatesTokenCount\":{tokens},\"totalTokenCount\":{},\"promptTokensDetails\":[{{\"modality\":\"TEXT\",\"tokenCount\":12}}]}},\"modelVersion\":\"sluice-flash-3\",\"responseId\":\"bench01\"}}\r\n\r\n",
        12 + tokens
    )
    .into_bytes()
}

fn ollama_chat(text: &str, done: &str) -> Vec<u8> {
    format!(
        "{{\"model\":\"sluice:1b\",\"created_at\":\"2026-11-22T21:00:00.037417Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},{done}}}\n"
    )
    .into_bytes()
}

fn openai_responses() -> (Vec<u8>, Vec<u8>) {
    let opening = events(&[
        ("response.created", r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_bench01","object":"response","created_at":1795000000,"status":"in_progress","error":null,"incomplete_details":null,"model":"sluice-large-2","output":[],"usage":null}}"#.to_owned()),
        ("response.output_item.added", r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_bench01","type":"message","status":"in_progress","content":[],"role":"assistant"}}"#.to_owned()),
        ("response.content_part.added", r#"{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_bench01","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}}"#.to_owned()),
    ]);
    let token = format!(
        r#"{{"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_bench01","output_index":0,"content_index":0,"delta":"{TEXT}","logprobs":[],"obfuscation":"xxxxxxxx"}}"#
    );
    (opening, events(&[("response.output_text.delta", token)]))
}

/// Server-Sent Events, each with its name where it has one.
fn events(list: &[(&str, String)]) -> Vec<u8> {
    let mut out = String::new();
    for (name, data) in list {
        if !name.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "event: {name}");
        }
        let _ = write!(out, "data: {data}\n\n");
    }
    out.into_bytes()
}

/// One message of an AWS event stream.
fn message(event: &str, payload: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [
        (":event-type", event),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7); // a string
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let total = 12 + headers.len() + payload.len() + 4;
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}
