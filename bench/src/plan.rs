//! What a load does: from whom it asks for what, how often, and when.

use std::error::Error;
use std::net::SocketAddr;

use crate::arguments::Arguments;
use crate::reader::Looks;
use crate::transport::Connector;

pub const SECOND: f64 = 1e9;

/// The requests of a measurement: to which address, and when.
pub struct Plan {
    pub connector: Connector,
    pub request: Vec<u8>,
    pub looks: Looks,
    pub tokens: u64,
    pub connections: usize,
    /// All of these in nanoseconds.
    pub ramp: u64,
    pub warm: u64,
    pub window: u64,
    pub grace: u64,
    /// One answer per connection and no more.
    pub once: bool,
    /// Every answer over a new connection.
    pub fresh: bool,
    /// All connections at once, this long after they were made, in nanoseconds.
    pub storm: bool,
    pub settle: u64,
    /// No more requests than that.
    pub requests: u64,
    /// The processes that are measured.
    pub watched: Vec<u32>,
    /// The processes of the upstream, which must not be the bottleneck.
    pub upstream: Vec<u32>,
}

impl Plan {
    /// # Errors
    /// If the arguments make no sense.
    pub fn new(arguments: &mut Arguments) -> Result<Self, Box<dyn Error>> {
        let target: SocketAddr = arguments.need("target")?;
        let dialect: String = arguments.need("dialect")?;
        let model: String = arguments.need("model")?;
        let key: String = arguments.take("key", String::new())?;
        let streamed = !arguments.switch("whole");
        let (path, looks) = protocol(&dialect, streamed)?;
        let body = body(&dialect, &model, streamed);
        let fresh = arguments.switch("fresh");
        let connection = if fresh { "connection: close\r\n" } else { "" };
        let headers: String = arguments.take("headers", String::new())?;
        let headers: String = headers
            .split('|')
            .filter(|header| !header.is_empty())
            .map(|header| format!("{header}\r\n"))
            .collect();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {target}\r\nauthorization: Bearer {key}\r\n{connection}{headers}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let numbers = model.split('-').nth_back(2);
        let tokens = numbers.and_then(|number| number.parse().ok());
        let connector = Connector::new(target, &arguments.take("tls", String::new())?)?;
        let mut seconds = |name: &str, default: f64| {
            let seconds = arguments.take(name, default);
            seconds.map(|seconds| (seconds * SECOND) as u64)
        };
        Ok(Self {
            connector,
            request: request.into_bytes(),
            looks,
            tokens: tokens.ok_or("a model is named like bench-500-64-0")?,
            ramp: seconds("ramp", 0.5)?,
            warm: seconds("warm", 0.5)?,
            window: seconds("seconds", 5.0)?,
            grace: seconds("grace", 60.0)?,
            settle: seconds("settle", 0.0)?,
            connections: arguments.need("connections")?,
            once: arguments.switch("once"),
            fresh,
            storm: arguments.switch("storm"),
            requests: arguments.take("requests", u64::MAX)?,
            watched: ids(&arguments.take("watch", String::new())?)?,
            upstream: ids(&arguments.take("upstream", String::new())?)?,
        })
    }

    /// When a connection's first request is sent, from the start.
    pub fn begins(&self, connection: usize) -> u64 {
        if self.storm {
            return 0;
        }
        (u128::from(self.ramp) * connection as u128 / self.connections as u128) as u64
    }
}

/// # Errors
/// If one is no number.
pub fn ids(list: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    let ids = list.split(',').filter(|id| !id.is_empty());
    Ok(ids.map(str::parse).collect::<Result<_, _>>()?)
}

fn protocol(dialect: &str, streamed: bool) -> Result<(&'static str, Looks), Box<dyn Error>> {
    let (path, before, terminal): (_, &[u8], &[u8]) = match dialect {
        "native" => ("/v1/streams", b"text\":\"", b"event: complete"),
        "openai-chat" => ("/v1/chat/completions", b"content\":\"", b"data: [DONE]"),
        "anthropic" => ("/v1/messages", b"text\":\"", b"event: message_stop"),
        "openai-responses" => ("/v1/responses", b"delta\":\"", b"event: response.completed"),
        "ui-messages" => ("/v1/ui-messages", b"delta\":\"", b"data: [DONE]"),
        _ => return Err(format!("{dialect:?} is no dialect").into()),
    };
    let looks = if streamed {
        Looks { before, terminal }
    } else {
        Looks {
            before: b"",
            terminal: b"\"stop\"",
        }
    };
    Ok((path, looks))
}

pub fn body(dialect: &str, model: &str, streamed: bool) -> String {
    let text = "Tell me how a canal lock works, step by step, as if I had never seen one.";
    match dialect {
        "native" => format!(r#"{{"model":"{model}","prompt":"{text}"}}"#),
        "openai-responses" => {
            format!(r#"{{"model":"{model}","stream":{streamed},"input":"{text}"}}"#)
        }
        "ui-messages" => format!(
            r#"{{"model":"{model}","id":"chat","trigger":"submit-message","messages":[{{"id":"m1","role":"user","parts":[{{"type":"text","text":"{text}"}}]}}]}}"#
        ),
        "anthropic" => format!(
            r#"{{"model":"{model}","stream":{streamed},"max_tokens":200000,"messages":[{{"role":"user","content":"{text}"}}]}}"#
        ),
        _ => format!(
            r#"{{"model":"{model}","stream":{streamed},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        ),
    }
}
