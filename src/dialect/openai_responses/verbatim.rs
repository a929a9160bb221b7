//! Answers of upstreams that speak the Responses API themselves, as the vendor wrote them.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::{BufMut as _, BytesMut};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::event_writer::write_in_progress;
use super::failure_code;
use crate::dialect::VerbatimEncoder;
use crate::dialect::event_stream::write_event;
use crate::dialect::json::put_json;
use crate::dialect::openai_error;
use crate::dialect::verbatim::write_frame;
use crate::model::Error;

/// Writes the vendor's events unchanged.
#[derive(Default)]
pub(super) struct StreamEncoder {
    /// The number of the last event.
    sequence_number: u64,
    /// From the vendor's first event, for an error and heartbeats.
    identity: Option<Identity>,
}

/// Writes the response of the terminal event.
#[derive(Default)]
pub(super) struct WholeEncoder {
    response: Option<Box<RawValue>>,
    /// The finished items, for servers whose last event does not repeat them.
    items: Vec<Box<RawValue>>,
}

static SEQUENCE_NUMBER: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new("\"sequence_number\":"));

/// The members that identify a response.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Identity {
    #[serde(skip_serializing_if = "Value::is_null", default)]
    id: Value,
    #[serde(skip_serializing_if = "Value::is_null", default)]
    object: Value,
    #[serde(skip_serializing_if = "Value::is_null", default)]
    created_at: Value,
    #[serde(skip_serializing_if = "Value::is_null", default)]
    model: Value,
}

impl VerbatimEncoder for StreamEncoder {
    fn frame(&mut self, name: &str, data: &str, out: &mut BytesMut) {
        self.sequence_number = sequence_number(data).unwrap_or(self.sequence_number + 1);
        if self.identity.is_none() {
            self.identity = Some(identity(data));
        }
        write_frame(name, data, out);
    }

    fn error_frame(&mut self, name: &str, data: &str, out: &mut BytesMut) -> bool {
        self.frame(name, data, out);
        matches!(&*kind(name, data), "error" | "response.failed")
    }

    fn complete(&mut self, _: &mut BytesMut) {}

    /// Both events of a failure, as the gateway writes them for the other protocols.
    fn error(&mut self, error: &Error, out: &mut BytesMut) {
        let (kind, code) = (openai_error::error_type(error), error.code().as_str());
        let message = error.message();
        let number = self.sequence_number + 1;
        let data = json!({
            "type": "error",
            "sequence_number": number,
            "code": code,
            "message": message,
            "param": null,
            "error": { "type": kind, "code": code, "message": message, "param": null },
        });
        write_event("error", &data, out);
        let mut response = json!(self.identity.take().unwrap_or_default());
        response["status"] = "failed".into();
        response["output"] = json!([]);
        response["error"] = json!({ "code": failure_code(error), "message": message });
        let data = json!({
            "type": "response.failed",
            "sequence_number": number + 1,
            "response": response,
        });
        write_event("response.failed", &data, out);
    }

    fn heartbeat(&self, out: &mut BytesMut) {
        if let Some(identity) = &self.identity {
            let mut response = json!(identity);
            response["status"] = "in_progress".into();
            response["output"] = json!([]);
            write_in_progress(self.sequence_number, &response, out);
        }
    }

    fn collects(&self) -> bool {
        false
    }
}

impl VerbatimEncoder for WholeEncoder {
    fn frame(&mut self, name: &str, data: &str, _: &mut BytesMut) {
        #[derive(Deserialize)]
        struct Event {
            response: Option<Box<RawValue>>,
            item: Option<Box<RawValue>>,
        }
        let kind = kind(name, data);
        let ends = ["response.completed", "response.incomplete", "response.done"].contains(&&*kind);
        if !ends && kind != "response.output_item.done" {
            return;
        }
        let Ok(event) = serde_json::from_str::<Event>(data) else {
            return;
        };
        match (event.response, event.item) {
            (Some(response), _) if ends => self.response = Some(response),
            (_, Some(item)) => self.items.push(item),
            _ => {}
        }
    }

    fn complete(&mut self, out: &mut BytesMut) {
        let output = std::mem::take(&mut self.items);
        let members = match &self.response {
            Some(response) => match without_output(response) {
                Some(members) if !output.is_empty() => members,
                _ => return out.put_slice(response.get().as_bytes()),
            },
            None => BARE_RESPONSE
                .map(|(name, value)| (name.to_owned(), value.into()))
                .into_iter()
                .collect(),
        };
        put_json(&Filled { members, output }, out);
    }

    /// The client gets the error as an HTTP error.
    fn error_frame(&mut self, _: &str, _: &str, _: &mut BytesMut) -> bool {
        true
    }

    fn error(&mut self, _: &Error, _: &mut BytesMut) {}

    fn collects(&self) -> bool {
        true
    }
}

/// A response with the output that its own event did not have.
#[derive(Serialize)]
struct Filled {
    #[serde(flatten)]
    members: Map<String, Value>,
    output: Vec<Box<RawValue>>,
}

/// The members of a response whose terminal event has no response in it.
const BARE_RESPONSE: [(&str, &str); 2] = [("object", "response"), ("status", "completed")];

/// The kind of an event. Some servers send no names of events; the data has the kind too.
fn kind<'a>(name: &'a str, data: &'a str) -> Cow<'a, str> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
    }
    if !name.is_empty() {
        return Cow::Borrowed(name);
    }
    let event = serde_json::from_str::<Event<'a>>(data).ok();
    event.and_then(|event| event.kind).unwrap_or_default()
}

/// The members of a response that has no output.
fn without_output(response: &RawValue) -> Option<Map<String, Value>> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        output: Option<Vec<&'a RawValue>>,
    }
    let read = serde_json::from_str::<Response<'_>>(response.get()).ok()?;
    if read.output.is_some_and(|output| !output.is_empty()) {
        return None;
    }
    let mut members: Map<String, Value> = serde_json::from_str(response.get()).ok()?;
    members.shift_remove("output");
    Some(members)
}

/// The number that the vendor gave an event. In a text of the answer the quotation marks would be
/// escaped.
fn sequence_number(data: &str) -> Option<u64> {
    let at = SEQUENCE_NUMBER.find(data.as_bytes())? + SEQUENCE_NUMBER.needle().len();
    let rest = data[at..].trim_start();
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn identity(data: &str) -> Identity {
    #[derive(Deserialize)]
    struct Event {
        response: Option<Identity>,
    }
    let event = serde_json::from_str::<Event>(data).ok();
    event.and_then(|event| event.response).unwrap_or_default()
}
