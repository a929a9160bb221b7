//! A client of each dialect: its request, and what its answer says.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::table::{Ask, Expected};
use crate::raw_client::Head;

/// A request that was sent, and what was read of its answer.
pub struct Asked {
    connection: Connection,
    dialect: String,
    head: Option<Head>,
    body: String,
    ended: bool,
}

/// What an answer says, whatever its dialect.
#[derive(Debug, Default)]
pub struct Said {
    pub text: String,
    pub upstream: Option<String>,
    pub error: Option<Value>,
    /// The attempts in the native terminal event.
    pub told: Option<String>,
    /// Whether the dialect's terminal of a finished answer came.
    pub finished: bool,
}

impl Asked {
    pub async fn send(clients: SocketAddr, model: &str, ask: &Ask) -> Self {
        let dialect = ask.dialect.clone().unwrap_or_else(|| "native".to_owned());
        let prompt = ask.prompt.as_deref().unwrap_or("Hello?");
        let (method, path, mut body) = request(&dialect, model, prompt);
        if ask.whole {
            body.insert("stream".to_owned(), json!(false));
        }
        body.extend(ask.body.clone());
        let body = match method {
            "GET" => String::new(),
            _ => Value::from(body).to_string(),
        };
        let headers = ask.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let connection = Connection::send(clients, ask.http2, method, &path, &headers, body);
        Self {
            connection: connection.await,
            dialect,
            head: None,
            body: String::new(),
            ended: false,
        }
    }

    async fn read_head(&mut self) {
        if self.head.is_none() {
            self.head = Some(self.connection.head().await);
        }
    }

    /// Reads until `text` is in the body.
    pub async fn read_until(&mut self, text: &str) {
        self.read_head().await;
        while !self.body.contains(text) {
            let chunk = self.connection.chunk().await;
            let chunk = chunk.unwrap_or_else(|| panic!("no `{text}` in {}", self.body));
            self.body.push_str(&String::from_utf8(chunk).unwrap());
        }
    }

    /// Reads the whole answer.
    pub async fn read(&mut self) -> Said {
        self.read_head().await;
        let head = self.head.as_ref().unwrap();
        let rest = self.connection.body(head).await;
        self.body.push_str(&String::from_utf8(rest).unwrap());
        self.ended = true;
        let is_stream = self
            .header("content-type")
            .is_some_and(|kind| kind == "text/event-stream");
        match is_stream {
            true => read_events(&self.dialect, &self.body),
            false => read_whole(&self.dialect, &self.body),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = &self.head.as_ref()?.headers;
        headers.get(name).map(String::as_str)
    }

    /// Compares a whole answer with what is expected. `short` shortens names to those of the row.
    pub fn check(&self, said: &Said, expected: &Expected, short: impl Fn(&str) -> String) {
        let all = || self.describe();
        let status = self.head.as_ref().unwrap().status;
        assert_eq!(
            status,
            expected.status.unwrap_or(200),
            "status of {}",
            all()
        );
        if let Some(text) = &expected.text {
            assert_eq!(&said.text, text, "text of {}", all());
        }
        if let Some(upstream) = &expected.upstream {
            let found = said.upstream.as_deref().map(&short);
            assert_eq!(found.as_ref(), Some(upstream), "upstream of {}", all());
        }
        let fails = expected.code.is_some() || expected.error.is_some();
        assert_eq!(said.error.is_some(), fails, "error of {}", all());
        assert_eq!(said.finished, !fails, "terminal of {}", all());
        let error = said.error.as_ref().unwrap_or(&Value::Null);
        if let Some(code) = &expected.code {
            assert_eq!(error["code"], code.as_str(), "code of {}", all());
        }
        if let Some(wanted) = &expected.error {
            assert!(contains(error, wanted), "{error} lacks {wanted}: {}", all());
        }
        let retry_after = self.header("retry-after");
        assert_eq!(
            retry_after,
            expected.retry_after.as_deref(),
            "retry-after of {}",
            all()
        );
        self.check_attempts(said, expected, &short);
    }

    fn describe(&self) -> String {
        let status = self.head.as_ref().map(|head| head.status);
        let attempts = self.header("x-sluicegate-attempts");
        format!("{}: {status:?} {attempts:?}\n{}", self.dialect, self.body)
    }

    fn check_attempts(&self, said: &Said, expected: &Expected, short: &impl Fn(&str) -> String) {
        let Some(attempts) = &expected.attempts else {
            return;
        };
        let all = || self.describe();
        let header = self.header("x-sluicegate-attempts").map(short);
        let in_header = (!expected.early).then_some(attempts);
        assert_eq!(header.as_ref(), in_header, "attempts of {}", all());
        let is_native = matches!(self.dialect.as_str(), "native" | "get");
        let is_told = is_native && self.header("content-length").is_none();
        let told = expected.told.as_ref().unwrap_or(attempts);
        let wanted = (is_told && told.contains(',')).then_some(told);
        let told = said.told.as_deref().map(short);
        assert_eq!(
            told.as_ref(),
            wanted,
            "attempts in the terminal of {}",
            all()
        );
    }
}

fn request(dialect: &str, model: &str, prompt: &str) -> (&'static str, String, Map<String, Value>) {
    let messages = json!([{"role": "user", "content": prompt}]);
    let (path, body) = match dialect {
        "native" => ("/v1/streams", json!({"prompt": prompt})),
        "get" => {
            let path = format!("/v1/streams?model={model}&prompt=Hello");
            return ("GET", path, Map::new());
        }
        "chat" => (
            "/v1/chat/completions",
            json!({"messages": messages, "stream": true}),
        ),
        "messages" => (
            "/v1/messages",
            json!({"messages": messages, "stream": true, "max_tokens": 100}),
        ),
        "responses" => ("/v1/responses", json!({"input": prompt, "stream": true})),
        "ui" => {
            let part = json!({"type": "text", "text": prompt});
            let message = json!({"id": "1", "role": "user", "parts": [part]});
            ("/v1/ui-messages", json!({"messages": [message]}))
        }
        "embeddings" => ("/v1/embeddings", json!({"input": prompt})),
        "completions" => ("/v1/completions", json!({"prompt": prompt, "stream": true})),
        _ => panic!("unknown dialect `{dialect}`"),
    };
    let Value::Object(mut body) = body else {
        unreachable!("a body is an object");
    };
    body.insert("model".to_owned(), json!(model));
    ("POST", path.to_owned(), body)
}

fn read_events(dialect: &str, body: &str) -> Said {
    let mut said = Said::default();
    for block in body.split_terminator("\n\n") {
        let field = |name: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        match field("data") {
            None => {}
            // In the dialect of the AI SDK, `finish` comes before it.
            Some("[DONE]") => said.finished |= said.error.is_none() && dialect == "chat",
            Some(data) => {
                assert!(!said.finished, "something comes after the terminal: {body}");
                let data = serde_json::from_str(data).unwrap();
                match dialect {
                    "native" | "get" => read_native(&mut said, field("event").unwrap(), &data),
                    _ => read_vendor(&mut said, &data),
                }
            }
        }
    }
    said
}

fn read_native(said: &mut Said, event: &str, data: &Value) {
    match event {
        "start" => said.upstream = data["upstream"].as_str().map(str::to_owned),
        "token" => said.text.push_str(data["text"].as_str().unwrap()),
        "complete" => said.finished = true,
        "error" => said.error = Some(data["error"].clone()),
        _ => {}
    }
    if let Some(attempts) = data["attempts"].as_array() {
        let attempts: Vec<_> = attempts.iter().filter_map(Value::as_str).collect();
        said.told = Some(attempts.join(","));
    }
}

/// An event of one of the vendors' dialects; their types do not overlap.
fn read_vendor(said: &mut Said, data: &Value) {
    let kind = data["type"].as_str().unwrap_or_default();
    let text = match kind {
        "response.output_text.delta" | "text-delta" => &data["delta"],
        "content_block_delta" => &data["delta"]["text"],
        _ => &data["choices"][0]["delta"]["content"],
    };
    said.text.push_str(text.as_str().unwrap_or_default());
    match kind {
        "message_stop" | "response.completed" | "finish" => said.finished = true,
        "response.failed" => said.error = Some(data["response"]["error"].clone()),
        "error" if data["error"].is_object() => said.error = Some(data["error"].clone()),
        "error" => said.error = Some(data.clone()),
        _ if data["error"].is_object() => said.error = Some(data["error"].clone()),
        _ => {}
    }
}

fn read_whole(dialect: &str, body: &str) -> Said {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {body}"));
    if body["error"].is_object() {
        return Said {
            error: Some(body["error"].clone()),
            ..Said::default()
        };
    }
    let text = match dialect {
        "messages" => &body["content"][0]["text"],
        "responses" => &body["output"][0]["content"][0]["text"],
        _ => &body["choices"][0]["message"]["content"],
    };
    Said {
        text: text.as_str().unwrap_or_default().to_owned(),
        finished: true,
        ..Said::default()
    }
}

/// Whether `value` has all members of `wanted`.
fn contains(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(members) => members
            .iter()
            .all(|(name, wanted)| contains(&value[name], wanted)),
        _ => value == wanted,
    }
}
