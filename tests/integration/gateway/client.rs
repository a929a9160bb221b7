//! Requests to the gateway, and its answers event by event.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::within_timeout;
use crate::raw_client::{Head, RawClient};

/// A request.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// One event, or a comment between two events.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Event(Event),
    Comment(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: Value,
}

/// An answer whose body was not read yet. Dropping it closes the connection.
pub struct Answer {
    pub head: Head,
    client: RawClient,
    text: String,
    items: VecDeque<Item>,
}

impl ClientRequest {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// `POST /v1/streams` with a prompt.
    pub fn prompt(model: &str) -> Self {
        Self::json(&json!({"model": model, "prompt": "Hello?"}))
    }

    /// `POST /v1/streams` with this body.
    pub fn json(body: &Value) -> Self {
        Self::bytes(body.to_string())
    }

    /// `POST` at this path with this body.
    pub fn at(path: &str, body: &Value) -> Self {
        Self {
            path: path.to_owned(),
            ..Self::json(body)
        }
    }

    /// `POST /v1/streams` with this body.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::new("POST", "/v1/streams")
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("authorization", format!("Bearer {key}"))
    }

    pub async fn send(&self, client: &mut RawClient) {
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let sent = client.send_with(self.method, &self.path, &headers, &self.body);
        sent.await.unwrap();
    }
}

impl Answer {
    pub fn new(head: Head, client: RawClient) -> Self {
        Self {
            head,
            client,
            text: String::new(),
            items: VecDeque::new(),
        }
    }

    /// The connection, after what was read of it.
    pub fn into_client(self) -> RawClient {
        self.client
    }

    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// # Panics
    /// If there is no such header.
    pub fn header(&self, name: &str) -> &str {
        self.head
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.head))
    }

    pub fn has(&self, name: &str) -> bool {
        self.head.headers.contains_key(name)
    }

    /// The whole body of an answer that is no stream.
    pub async fn body(&mut self) -> Vec<u8> {
        within_timeout(self.client.body(&self.head)).await.unwrap()
    }

    /// The `error` member of a refusal's body.
    pub async fn error(&mut self) -> Value {
        let body = self.body().await;
        let body: Value = serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&body)));
        assert_eq!(self.header("content-type"), "application/json");
        let error = &body["error"];
        assert_eq!(error["request_id"], self.header("x-request-id"));
        assert!(error["message"].is_string(), "{body}");
        assert!(error["retryable"].is_boolean(), "{body}");
        assert!(error["origin"].is_string(), "{body}");
        assert_eq!(
            error["retry_after"].as_u64().map(|after| after.to_string()),
            self.head.headers.get("retry-after").cloned(),
            "{body}"
        );
        error.clone()
    }

    /// The next HTTP chunk; `None` at the body's clean end.
    pub async fn chunk(&mut self) -> Option<String> {
        let chunk = within_timeout(self.client.chunk()).await.unwrap();
        chunk.map(|chunk| String::from_utf8(chunk).unwrap())
    }

    /// The next event or comment; `None` at the body's clean end.
    pub async fn item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            let Some(chunk) = self.chunk().await else {
                assert_eq!(self.text, "", "the body ended inside an event");
                return None;
            };
            self.text.push_str(&chunk);
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                self.items.push_back(item(block));
                self.text = rest.to_owned();
            }
        }
    }

    /// The next event, whatever comments come before it.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            match self.item().await? {
                Item::Event(event) => return Some(event),
                Item::Comment(_) => {}
            }
        }
    }

    /// The next event, which must be of this name, as its data.
    pub async fn expect(&mut self, name: &str) -> Value {
        let event = self.event().await.expect("the stream ended early");
        assert_eq!(event.name, name, "{event:?}");
        event.data
    }

    /// The events up to the clean end, which may start in the middle of a stream.
    pub async fn rest(&mut self) -> Vec<Event> {
        assert_eq!(self.status(), 200);
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }

    /// The events up to the clean end of a stream, checked to be in the legal order: one start, one
    /// terminal event at the end, ids that count up from 0.
    pub async fn events(&mut self) -> Vec<Event> {
        let events = self.rest().await;
        check_order(&events);
        events
    }
}

/// The joined texts of all tokens.
pub fn text(events: &[Event]) -> String {
    let tokens = events.iter().filter(|event| event.name == "token");
    tokens
        .map(|token| token.data["text"].as_str().unwrap())
        .collect()
}

/// The code of a stream that ends in an error; the empty string for one that is complete.
pub fn outcome(events: &[Event]) -> &str {
    let last = events.last().unwrap();
    last.data["error"]["code"].as_str().unwrap_or_default()
}

pub fn check_order(events: &[Event]) {
    let terminal = |event: &&Event| event.name == "complete" || event.name == "error";
    let stream = events[0].data["stream"].as_str().unwrap();
    assert_eq!(events[0].name, "start", "{events:?}");
    assert_eq!(
        events.iter().filter(|event| event.name == "start").count(),
        1
    );
    assert_eq!(events.iter().filter(terminal).count(), 1, "{events:?}");
    assert!(terminal(&events.last().unwrap()), "{events:?}");
    for (number, event) in events.iter().enumerate() {
        let (own, place) = event.id.split_once('.').unwrap();
        // Leading zeros name the producer.
        assert_eq!((own, place.parse()), (stream, Ok(number)));
        if matches!(event.name.as_str(), "token" | "reasoning") {
            assert_ne!(event.data["text"], "");
        }
    }
}

fn item(block: &str) -> Item {
    // The time after which an `EventSource` reconnects can come before anything.
    let block = match block.split_once('\n') {
        Some((retry, rest)) if retry.starts_with("retry: ") => rest,
        _ => block,
    };
    if let Some(comment) = block.strip_prefix(": ") {
        assert!(!comment.contains('\n'), "{block}");
        return Item::Comment(comment.to_owned());
    }
    let field = |name: &str| {
        let mut values = block
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = values
            .next()
            .unwrap_or_else(|| panic!("no {name} in {block}"));
        assert_eq!(values.next(), None, "{block}");
        value.to_owned()
    };
    Item::Event(Event {
        id: field("id"),
        name: field("event"),
        data: serde_json::from_str(&field("data")).unwrap(),
    })
}

/// Parses the events in a text that holds only whole ones.
pub fn parsed(text: &str) -> VecDeque<Event> {
    let blocks = text.split_terminator("\n\n");
    blocks
        .filter_map(|block| match item(block) {
            Item::Event(event) => Some(event),
            Item::Comment(_) => None,
        })
        .collect()
}
