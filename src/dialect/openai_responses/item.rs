//! An output item under construction.

use serde_json::{Value, json};

use super::tools::{ClientTool, ToolKind};
use crate::model::{Citation, ToolCallDelta};

/// The open item; or the last part of a message, with the parts before it.
pub(super) struct Item {
    pub(super) id: String,
    pub(super) kind: ItemKind,
    /// The text, the summary or the arguments so far.
    pub(super) text: String,
    /// The annotations of a text.
    pub(super) annotations: Vec<Value>,
    /// The earlier parts of a message.
    pub(super) parts: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ItemKind {
    Text,
    Refusal,
    Reasoning {
        /// Whether it has a summary.
        shown: bool,
        /// The signature that the vendor needs to accept it again; empty if it gave none.
        encrypted: String,
    },
    Call {
        index: u32,
        call_id: String,
        /// The client's name of the tool.
        name: String,
        namespace: Option<String>,
        tool: ToolKind,
    },
    /// A generated image: its bytes in base64, or its address.
    Image(String),
}

impl ItemKind {
    /// `url` is an address, or a `data:` URL.
    pub(super) fn image(url: &str) -> Self {
        let data = url
            .strip_prefix("data:")
            .and_then(|data| data.split_once(";base64,"));
        Self::Image(data.map_or(url, |(_, base64)| base64).to_owned())
    }

    /// A call of `tool`; of an unknown one if it is none of the client's.
    pub(super) fn call(call: &ToolCallDelta<'_>, tool: Option<&ClientTool>) -> Self {
        let offered = call.name.unwrap_or_default();
        Self::Call {
            index: call.index,
            call_id: call.id.unwrap_or_default().to_owned(),
            name: tool.map_or(offered, |tool| &tool.name).to_owned(),
            namespace: tool.and_then(|tool| tool.namespace.clone()),
            tool: tool.map_or(ToolKind::Function, |tool| tool.kind),
        }
    }

    /// Whether it is a part of a message.
    pub(super) fn is_part(&self) -> bool {
        matches!(self, Self::Text | Self::Refusal)
    }

    fn prefix(&self) -> &'static str {
        match self {
            Self::Text | Self::Refusal => "msg",
            Self::Reasoning { .. } => "rs",
            Self::Call { tool, .. } => match tool {
                ToolKind::Function => "fc",
                ToolKind::Custom => "ctc",
                ToolKind::Search => "tsc",
            },
            Self::Image(_) => "ig",
        }
    }
}

impl Item {
    /// `key` makes the id unique.
    pub(super) fn new(kind: ItemKind, key: &str) -> Self {
        Self {
            id: format!("{}_{key}", kind.prefix()),
            kind,
            text: String::new(),
            annotations: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// The item without its open part.
    pub(super) fn begun(&self) -> Value {
        self.json("in_progress", &[])
    }

    /// `status`: `completed` or `incomplete`.
    pub(super) fn done(&self, status: &str) -> Value {
        let mut parts = self.parts.clone();
        parts.push(self.part());
        self.json(status, &parts)
    }

    /// The part of a message, or the summary of a reasoning.
    pub(super) fn part(&self) -> Value {
        match self.kind {
            ItemKind::Text => json!({
                "type": "output_text",
                "annotations": self.annotations,
                "logprobs": [],
                "text": self.text,
            }),
            ItemKind::Refusal => json!({ "type": "refusal", "refusal": self.text }),
            _ => json!({ "type": "summary_text", "text": self.text }),
        }
    }

    fn json(&self, status: &str, parts: &[Value]) -> Value {
        match &self.kind {
            ItemKind::Text | ItemKind::Refusal => json!({
                "id": self.id,
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": parts,
            }),
            ItemKind::Reasoning { shown, encrypted } => {
                let summary = if *shown { parts } else { &[] };
                let mut item = json!({ "id": self.id, "type": "reasoning", "summary": summary });
                if !encrypted.is_empty() {
                    item["encrypted_content"] = json!(encrypted);
                }
                item
            }
            ItemKind::Image(result) => {
                let result = Some(result).filter(|_| status == "completed");
                json!({
                    "id": self.id,
                    "type": "image_generation_call",
                    "status": status,
                    "result": result,
                })
            }
            ItemKind::Call {
                call_id,
                name,
                namespace,
                tool,
                ..
            } => {
                let (kind, arguments) = match tool {
                    ToolKind::Function => ("function_call", "arguments"),
                    ToolKind::Custom => ("custom_tool_call", "input"),
                    ToolKind::Search => return self.search_call(status, call_id),
                };
                let mut item = json!({
                    "id": self.id,
                    "type": kind,
                    "status": status,
                    "call_id": call_id,
                    "name": name,
                    arguments: self.text,
                });
                if let Some(namespace) = namespace {
                    item["namespace"] = json!(namespace);
                }
                item
            }
        }
    }

    /// Its arguments are JSON, and not a text that holds JSON.
    fn search_call(&self, status: &str, call_id: &str) -> Value {
        let arguments = serde_json::from_str::<Value>(&self.text);
        json!({
            "id": self.id,
            "type": "tool_search_call",
            "status": status,
            "call_id": call_id,
            "execution": "client",
            "arguments": arguments.unwrap_or_else(|_| json!({})),
        })
    }
}

/// The annotation for a citation; none if it names no source.
pub(super) fn annotation(citation: &Citation<'_>) -> Option<Value> {
    match citation.url {
        Some(url) => Some(json!({
            "type": "url_citation",
            "url": url,
            "title": citation.title.unwrap_or_default(),
            "start_index": citation.start.unwrap_or(0),
            "end_index": citation.end.unwrap_or(0),
        })),
        None => citation.title.map(|title| {
            json!({
                "type": "file_citation",
                "file_id": "",
                "filename": title,
                "index": citation.start.unwrap_or(0),
            })
        }),
    }
}
