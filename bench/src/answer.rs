//! Model answers of any length in every wire: the bytes before the tokens, the tokens, the bytes after
//! them. All are prepared in advance; sending a token copies it and writes 15 digits.
//!
//! A token's text begins with `@` and the time at which it was sent, so that a reader can compute its
//! latency. The bytes around it have the fields and sizes of the vendors' own. The tokens of an answer
//! are alike or prose (see `texts`).

use std::fmt::Write as _;

#[path = "texts.rs"]
mod texts;

use texts::Part;

/// How many digits a stamp has.
pub const DIGITS: usize = 15;
/// Stamps are counted modulo this.
pub const WRAP: u64 = 1_000_000_000_000_000;

/// The texts of an answer's tokens.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// They differ in nothing but their times.
    Alike,
    /// Words, line breaks and escapes as models write them, in messages of varied lengths.
    Prose,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Alike, Self::Prose];

    /// The beginning of the names of the models that write so.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Alike => "bench-",
            Self::Prose => "prose-",
        }
    }
}

/// An answer's parts.
pub struct Answer {
    pub wire: &'static str,
    pub kind: Kind,
    pub content_type: &'static str,
    opening: Vec<u8>,
    /// The tokens' messages, which repeat in this order.
    tokens: Vec<Message>,
    /// Every message ends with a checksum of itself.
    checksummed: bool,
}

struct Message {
    bytes: Vec<u8>,
    /// The position of the digits.
    stamp: usize,
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
    pub fn of(wire: &str, kind: Kind) -> Option<Self> {
        let wire = WIRES.into_iter().find(|known| *known == wire)?;
        let opening = match wire {
            "openai-chat" => openai_chat(r#""role":"assistant","content":"""#),
            "anthropic-messages" => anthropic_messages(),
            "bedrock-converse" => message(
                "messageStart",
                r#"{"role":"assistant","p":"abcdefghijklmnopqrstu"}"#,
            ),
            "cohere-chat" => cohere_chat(),
            "openai-responses" => openai_responses(),
            _ => Vec::new(),
        };
        let tokens = texts::parts(wire, kind).into_iter().map(|part| {
            let bytes = token(wire, &part);
            let stamp = memchr::memmem::find(&bytes, texts::stamped("").as_bytes())? + 1;
            Some(Message { bytes, stamp })
        });
        Some(Self {
            wire,
            kind,
            content_type: match wire {
                "ollama-chat" => "application/x-ndjson",
                "bedrock-converse" => "application/vnd.amazon.eventstream",
                _ => "text/event-stream",
            },
            opening,
            tokens: tokens.collect::<Option<_>>()?,
            checksummed: wire == "bedrock-converse",
        })
    }

    pub fn opening(&self) -> &[u8] {
        &self.opening
    }

    /// The length of `count` tokens' messages from the token `number` on, in bytes.
    pub fn size(&self, number: u64, count: u64) -> usize {
        let sizes = (number..number + count).map(|number| self.message(number).bytes.len());
        sizes.sum()
    }

    fn message(&self, number: u64) -> &Message {
        &self.tokens[(number % self.tokens.len() as u64) as usize]
    }

    /// Appends the token `number`, counted from 0, that is sent at `now`, in nanoseconds.
    pub fn token(&self, number: u64, now: u64, out: &mut Vec<u8>) {
        let at = out.len();
        let message = self.message(number);
        out.extend_from_slice(&message.bytes);
        let out = &mut out[at..];
        let mut left = now % WRAP;
        for digit in out[message.stamp..message.stamp + DIGITS].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        if self.checksummed {
            let end = out.len() - 4;
            let sum = crc32fast::hash(&out[..end]);
            out[end..].copy_from_slice(&sum.to_be_bytes());
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
            "gemini" => gemini("", r#""finishReason":"STOP","#, tokens),
            "ollama-chat" => ollama_chat("", "421452", &format!(r#""done":true,"done_reason":"stop","total_duration":482007750,"load_duration":52719542,"prompt_eval_count":19,"prompt_eval_duration":44457208,"eval_count":{tokens},"eval_duration":384438167"#)),
            _ => events(&[
                ("response.output_text.done", format!(r#"{{"type":"response.output_text.done","sequence_number":{},"item_id":"msg_bench01","output_index":0,"content_index":0,"text":"whole","logprobs":[]}}"#, tokens + 4)),
                ("response.completed", format!(r#"{{"type":"response.completed","sequence_number":{},"response":{{"id":"resp_bench01","object":"response","created_at":1795000000,"status":"completed","error":null,"incomplete_details":null,"model":"sluice-large-2","output":[],"usage":{{"input_tokens":17,"output_tokens":{tokens},"total_tokens":{}}}}}}}"#, tokens + 5, 17 + tokens)),
            ]),
        }
    }
}

/// A whole OpenAI Chat answer that was not asked to stream.
pub fn whole(kind: Kind, now: u64, tokens: u64) -> Vec<u8> {
    let mut text = String::new();
    for part in texts::parts("openai-chat", kind)
        .iter()
        .cycle()
        .take(tokens as usize)
    {
        // Writing to a string cannot fail.
        let _ = write!(text, "@{:0DIGITS$}{}", now % WRAP, part.rest());
    }
    format!(
        r#"{{"id":"chatcmpl-Bench01","object":"chat.completion","created":1795000000,"model":"sluice-large-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":17,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
        17 + tokens
    )
    .into_bytes()
}

/// The body of a whole streamed answer.
pub fn body(wire: &str, kind: Kind, tokens: u64) -> Vec<u8> {
    let Some(answer) = Answer::of(wire, kind) else {
        panic!("{wire:?} is no wire");
    };
    let mut out = answer.opening().to_vec();
    for number in 0..tokens {
        answer.token(number, number, &mut out);
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

/// One token's message.
fn token(wire: &str, part: &Part) -> Vec<u8> {
    let Part {
        text,
        fill,
        number,
        created,
    } = part;
    match wire {
        "openai-chat" => {
            let mut out = openai_chat(&format!(r#""content":"{text}""#));
            out.truncate(out.len() - "}\n\n".len());
            out.extend_from_slice(format!(",\"obfuscation\":\"{fill}\"}}\n\n").as_bytes());
            out
        }
        "anthropic-messages" => events(&[(
            "content_block_delta",
            format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
            ),
        )]),
        "bedrock-converse" => message(
            "contentBlockDelta",
            &format!(r#"{{"contentBlockIndex":0,"delta":{{"text":"{text}"}},"p":"{fill}"}}"#),
        ),
        "cohere-chat" => events(&[(
            "content-delta",
            format!(
                r#"{{"type":"content-delta","index":0,"delta":{{"message":{{"content":{{"text":"{text}"}}}}}}}}"#
            ),
        )]),
        "gemini" => gemini(text, "", *number),
        "ollama-chat" => ollama_chat(text, created, r#""done":false"#),
        _ => events(&[(
            "response.output_text.delta",
            format!(
                r#"{{"type":"response.output_text.delta","sequence_number":{},"item_id":"msg_bench01","output_index":0,"content_index":0,"delta":"{text}","logprobs":[],"obfuscation":"{fill}"}}"#,
                number + 2
            ),
        )]),
    }
}

fn anthropic_messages() -> Vec<u8> {
    events(&[
        ("message_start", r#"{"type":"message_start","message":{"id":"msg_bench01","type":"message","role":"assistant","model":"sluice-opus-1","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":18,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1,"service_tier":"standard"}}}"#.to_owned()),
        ("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned()),
        ("ping", r#"{"type":"ping"}"#.to_owned()),
    ])
}

fn cohere_chat() -> Vec<u8> {
    events(&[
        ("message-start", r#"{"id":"c0he5e00-0000-4000-8000-000000000001","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#.to_owned()),
        ("content-start", r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#.to_owned()),
    ])
}

/// Gemini states the counts with every piece, and its last piece is an empty one here.
fn gemini(text: &str, finish: &str, tokens: u64) -> Vec<u8> {
    format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},{finish}\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":12,\"candidatesTokenCount\":{tokens},\"totalTokenCount\":{},\"promptTokensDetails\":[{{\"modality\":\"TEXT\",\"tokenCount\":12}}]}},\"modelVersion\":\"sluice-flash-3\",\"responseId\":\"bench01\"}}\r\n\r\n",
        12 + tokens
    )
    .into_bytes()
}

fn ollama_chat(text: &str, created: &str, done: &str) -> Vec<u8> {
    format!(
        "{{\"model\":\"sluice:1b\",\"created_at\":\"2026-11-22T21:00:00.{created}Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},{done}}}\n"
    )
    .into_bytes()
}

fn openai_responses() -> Vec<u8> {
    events(&[
        ("response.created", r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_bench01","object":"response","created_at":1795000000,"status":"in_progress","error":null,"incomplete_details":null,"model":"sluice-large-2","output":[],"usage":null}}"#.to_owned()),
        ("response.output_item.added", r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_bench01","type":"message","status":"in_progress","content":[],"role":"assistant"}}"#.to_owned()),
        ("response.content_part.added", r#"{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_bench01","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}}"#.to_owned()),
    ])
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
