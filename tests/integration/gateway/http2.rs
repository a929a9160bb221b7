//! Clients that speak HTTP/2 with prior knowledge, on the same port as HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use serde_json::{Value, json};
use sluicegate::notify::Notification;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::{Event, check_order, outcome, parsed, text};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream, token};
use super::within_timeout;
use crate::raw_client::RawClient;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The flow-control window of one answer, in bytes.
const WINDOW: u32 = 64 * 1024;

/// One connection, for many requests.
struct Client {
    requests: SendRequest<Bytes>,
    /// How the connection ended.
    ended: JoinHandle<Result<(), h2::Error>>,
}

/// An answer whose body is still to be read.
struct Answer {
    response: Response<RecvStream>,
    sent: SendStream<Bytes>,
    bytes: Vec<u8>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let handshake = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            // Larger than the streams' windows, as in every common client: else answers share one.
            .initial_connection_window_size(100 * WINDOW)
            .handshake(stream);
        let (requests, connection): (_, Connection<_, _>) =
            within_timeout(handshake).await.unwrap();
        Self {
            requests,
            ended: tokio::spawn(connection),
        }
    }

    /// Sends a request; the answer can be awaited, and what was sent can be reset.
    async fn send(
        &self,
        request: Request<()>,
        body: Option<Value>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut requests = within_timeout(self.requests.clone().ready()).await?;
        let (answer, mut sent) = requests.send_request(request, body.is_none())?;
        if let Some(body) = body {
            sent.send_data(body.to_string().into(), true)?;
        }
        Ok((answer, sent))
    }

    async fn ask(&self, request: Request<()>, body: Option<Value>) -> Answer {
        let (answer, sent) = self.send(request, body).await.unwrap();
        Answer {
            response: within_timeout(answer).await.unwrap(),
            sent,
            bytes: Vec::new(),
        }
    }

    async fn prompt(&self) -> Answer {
        self.ask(post(), Some(prompt())).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(request("GET", path), None).await
    }

    /// Sends a prompt whose answer starts with one token.
    async fn begun(&self, upstream: &ScriptedUpstream) -> (Answer, Exchange) {
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.token("one ").await;
            exchange
        };
        tokio::join!(self.prompt(), answering)
    }
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Reads more of the body; `None` after its end.
    async fn more(&mut self) -> Option<Result<(), h2::Error>> {
        let body = self.response.body_mut();
        Some(match within_timeout(body.data()).await? {
            Ok(bytes) => {
                self.bytes.extend_from_slice(&bytes);
                body.flow_control().release_capacity(bytes.len())
            }
            Err(error) => Err(error),
        })
    }

    /// Reads up to an event of this name.
    async fn until(&mut self, name: &str) {
        let line = format!("event: {name}\n");
        while !String::from_utf8_lossy(&self.bytes).contains(&line) {
            self.more().await.unwrap().unwrap();
        }
    }

    /// The whole body.
    async fn body(&mut self) -> String {
        while let Some(more) = self.more().await {
            more.unwrap();
        }
        String::from_utf8(self.bytes.clone()).unwrap()
    }

    async fn events(&mut self) -> Vec<Event> {
        Vec::from(parsed(&self.body().await))
    }
}

fn request(method: &str, path: &str) -> Request<()> {
    let request = Request::builder().method(method);
    request
        .uri(format!("http://localhost{path}"))
        .body(())
        .unwrap()
}

fn post() -> Request<()> {
    request("POST", "/v1/streams")
}

fn prompt() -> Value {
    json!({"model": "m", "prompt": "Hello?"})
}

#[tokio::test]
async fn streams_share_one_connection() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let client = Client::connect(running.clients).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(client.begun(&upstream).await);
    }
    // Each ends with its own upstream, the last one first.
    for (answer, exchange) in open.iter_mut().rev() {
        assert_eq!(answer.status(), 200);
        let headers = answer.response.headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert!(headers.contains_key("x-request-id"));
        assert!(!headers.contains_key("connection"), "{headers:?}");
        exchange.token("two").await;
        exchange.finish().await;
        let events = answer.events().await;
        check_order(&events);
        assert_eq!((text(&events).as_str(), outcome(&events)), ("one two", ""));
    }
    running.wait_idle().await;
    // The connection stays open after its streams.
    assert_eq!(client.get("/v1/models").await.status(), 200);
}

#[tokio::test]
async fn every_http1_route_answers_over_http2() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    let client = Client::connect(running.clients).await;
    for (method, path, status) in [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/streams", 405),
        ("HEAD", "/v1/streams", 405),
    ] {
        let mut answer = client.ask(request(method, path), None).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.body().await.is_empty(), method == "HEAD");
    }
    let mut asked = request("OPTIONS", "/v1/streams");
    let headers = asked.headers_mut();
    headers.insert("origin", "https://app.example".parse().unwrap());
    headers.insert("access-control-request-method", "POST".parse().unwrap());
    let answer = client.ask(asked, None).await;
    assert_eq!(answer.status(), 200);
    let allowed = &answer.response.headers()["access-control-allow-methods"];
    assert!(allowed.to_str().unwrap().contains("POST"));
    // The admin listener too.
    let admin = Client::connect(running.admin).await;
    assert_eq!(admin.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn notifications_arrive_until_the_drain() {
    let running = TestGateway::start("{}");
    let client = Client::connect(running.clients).await;
    let mut answer = client.get("/v1/notifications").await;
    answer.more().await.unwrap().unwrap();
    let notifications = &running.gateway.notifications;
    notifications.publish(&Notification::ConfigReloaded);
    answer.until("config_reloaded").await;
    running.gateway.begin_drain();
    let body = answer.body().await;
    assert!(body.contains("event: draining\n"), "{body}");
}

#[tokio::test]
async fn a_reset_cancels_only_its_own_upstream() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let client = Client::connect(running.clients).await;
    let (mut staying, mut other) = client.begun(&upstream).await;
    // In the middle of an answer.
    let (mut leaving, left) = client.begun(&upstream).await;
    leaving.until("token").await;
    leaving.sent.send_reset(Reason::CANCEL);
    left.closed().await;
    // Before an answer.
    let (_answer, mut sent) = client.send(post(), Some(prompt())).await.unwrap();
    let left = upstream.request().await;
    sent.send_reset(Reason::CANCEL);
    left.closed().await;
    other.finish().await;
    assert_eq!(outcome(&staying.events().await), "");
    running.wait_idle().await;
    let cancelled =
        "sluicegate_requests_total{dialect=\"native\",model=\"m\",outcome=\"cancelled\"}";
    assert_eq!(running.metric(cancelled).await, 2.0);
}

#[tokio::test]
async fn a_broken_connection_cancels_all_its_upstreams() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let client = Client::connect(running.clients).await;
    let (_one, left) = client.begun(&upstream).await;
    let (_two, also_left) = client.begun(&upstream).await;
    client.ended.abort();
    left.closed().await;
    also_left.closed().await;
    running.wait_idle().await;
}

#[tokio::test]
async fn a_stream_is_resumed_over_another_connection() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 30s }", "");
    let client = Client::connect(running.clients).await;
    let (mut answer, mut exchange) = client.begun(&upstream).await;
    answer.until("token").await;
    let seen = Vec::from(parsed(&String::from_utf8(answer.bytes.clone()).unwrap()));
    answer.sent.send_reset(Reason::CANCEL);
    exchange.token("two").await;
    exchange.finish().await;
    let client = Client::connect(running.clients).await;
    let mut again = post();
    let last = seen.last().unwrap().id.parse().unwrap();
    again.headers_mut().insert("last-event-id", last);
    let mut answer = client.ask(again, Some(prompt())).await;
    let events = [seen, answer.events().await].concat();
    check_order(&events);
    assert_eq!((text(&events).as_str(), outcome(&events)), ("one two", ""));
}

#[tokio::test]
async fn unread_answers_do_not_block_others() {
    const WHOLE: usize = 32 * 1024 * 1024;
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let client = Client::connect(running.clients).await;
    let words = token(&"words ".repeat(2000));
    let mut unread = Vec::new();
    for _ in 0..3 {
        let (answer, exchange) = client.begun(&upstream).await;
        unread.push((answer, exchange, 0));
    }
    let piece = format!("{:x}\r\n{words}\r\n", words.len());
    for (_, exchange, written) in &mut unread {
        // Until the gateway takes no more, because the client's window is full.
        while *written < WHOLE {
            let rest = &piece.as_bytes()[*written % piece.len()..];
            let more = tokio::time::timeout(Duration::from_millis(700), exchange.write_some(rest));
            match more.await {
                Ok(length) => *written += length,
                Err(_) => break,
            }
        }
        assert!(*written < WHOLE, "the upstream is not slowed down");
    }
    let (mut quick, mut exchange) = client.begun(&upstream).await;
    for _ in 0..50 {
        exchange.chunk(&words).await;
    }
    exchange.finish().await;
    let events = quick.events().await;
    assert_eq!(outcome(&events), "");
    assert_eq!(text(&events).len(), "one ".len() + 50 * 12_000);
    // Nothing is lost when they are read.
    for (mut answer, mut exchange, written) in unread {
        let rest = piece.as_bytes()[written % piece.len()..].to_vec();
        let ending = async move {
            exchange.write(rest).await;
            exchange.finish().await;
        };
        let (events, ()) = tokio::join!(answer.events(), ending);
        let pieces = written / piece.len() + 1;
        assert_eq!(text(&events).len(), "one ".len() + pieces * 12_000);
        assert_eq!(outcome(&events), "");
    }
}

#[tokio::test]
async fn heads_with_too_many_headers_are_refused() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    let client = Client::connect(running.clients).await;
    for (count, value, status) in [(90, "x", 200), (101, "x", 431), (10, "2 KiB", 431)] {
        let mut asked = request("GET", "/v1/models");
        for number in 0..count {
            let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
            let value = if value == "x" {
                "x".to_owned()
            } else {
                "x".repeat(2048)
            };
            asked.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(client.ask(asked, None).await.status(), status, "{count}");
    }
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_reset_and_not_read() {
    let keys = format!("keys: [ {{ name: a, sha256: {} }} ]", "a".repeat(64));
    let addr = ScriptedUpstream::bind().await.addr();
    let running = TestGateway::with_upstreams(&[addr], &keys);
    let client = Client::connect(running.clients).await;
    let mut requests = within_timeout(client.requests.clone().ready())
        .await
        .unwrap();
    // The body does not end.
    let (answer, mut sent) = requests.send_request(post(), false).unwrap();
    sent.send_data("{".into(), false).unwrap();
    assert_eq!(within_timeout(answer).await.unwrap().status(), 401);
    let reset = std::future::poll_fn(|context| sent.poll_reset(context));
    assert_eq!(within_timeout(reset).await.unwrap(), Reason::NO_ERROR);
}

#[tokio::test]
async fn a_connection_has_few_open_requests_before_one_was_admitted() {
    let keys = format!("keys: [ {{ name: a, sha256: {} }} ]", "a".repeat(64));
    let addr = ScriptedUpstream::bind().await.addr();
    let running = TestGateway::with_upstreams(&[addr], &keys);
    let stream = TcpStream::connect(running.clients).await.unwrap();
    // Without a window no refusal can be written whole, so every request stays open.
    let handshake = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake(stream);
    let (requests, connection): (SendRequest<Bytes>, Connection<_, _>) =
        within_timeout(handshake).await.unwrap();
    let _ended = tokio::spawn(connection);
    let mut answers = Vec::new();
    let mut refused = 0;
    for _ in 0..70 {
        let mut requests = within_timeout(requests.clone().ready()).await.unwrap();
        let (answer, _) = requests
            .send_request(request("GET", "/v1/models"), true)
            .unwrap();
        match within_timeout(answer).await {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
                refused += 1;
            }
        }
    }
    assert_eq!((answers.len(), refused), (64, 6));
}

#[tokio::test]
async fn limits_count_requests_and_not_connections() {
    let upstream = ScriptedUpstream::bind().await;
    let settings = "limits: { streams: 2, per_ip: { requests: 3/min } }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], settings);
    let client = Client::connect(running.clients).await;
    let _first = client.begun(&upstream).await;
    let _second = client.begun(&upstream).await;
    let mut refused = client.prompt().await;
    assert_eq!(refused.status(), 503);
    assert!(refused.body().await.contains("overloaded"));
    assert_eq!(client.get("/v1/models").await.status(), 200);
    let mut refused = client.get("/v1/models").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.body().await.contains("rate_limited"));
}

#[tokio::test]
async fn a_drain_sends_goaway_and_lets_open_streams_finish() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let client = Client::connect(running.clients).await;
    let (mut answer, mut exchange) = client.begun(&upstream).await;
    running.gateway.draining.cancel();
    let mut refused = client.prompt().await;
    assert_eq!(refused.status(), 503);
    assert!(refused.body().await.contains("draining"));
    // The connection itself refuses the next request.
    within_timeout(async {
        loop {
            match client.send(post(), Some(prompt())).await {
                Ok((answer, _)) => match answer.await {
                    Ok(refused) => assert_eq!(refused.status(), 503),
                    Err(error) => break assert!(error.is_go_away(), "{error}"),
                },
                Err(error) => break assert!(error.is_go_away(), "{error}"),
            }
        }
    })
    .await;
    exchange.token("two").await;
    exchange.finish().await;
    let events = answer.events().await;
    assert_eq!((text(&events).as_str(), outcome(&events)), ("one two", ""));
    // Then the connection ends.
    within_timeout(client.ended).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    for said in [&b""[..], &PREFACE[..1], &PREFACE[..20]] {
        let mut client = RawClient::connect(running.clients).await.unwrap();
        client.write(said).await.unwrap();
        assert_eq!(client.closed().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_preface_has_the_deadline_of_a_head() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    let mut stream = TcpStream::connect(running.clients).await.unwrap();
    let begun = tokio::time::Instant::now();
    // The gateway has closed the connection once a byte cannot be written.
    for byte in PREFACE {
        tokio::time::sleep(Duration::from_secs(4)).await;
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    let client = Client::connect(running.clients).await;
    let mut answer = client.get("/v1/models").await;
    answer.body().await;
    client.ended.await.unwrap().unwrap();
    // A client that does not answer pings.
    let mut client = RawClient::connect(running.clients).await.unwrap();
    client.write(PREFACE).await.unwrap();
    client.closed().await;
}

#[tokio::test]
async fn a_malformed_preface_is_refused() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    for said in [
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "PRI * HTTP/2.0\r\nhost: localhost\r\n\r\n",
    ] {
        let mut client = RawClient::connect(running.clients).await.unwrap();
        client.write(said.as_bytes()).await.unwrap();
        within_timeout(client.closed()).await;
    }
    // A request whose beginning is a preface's, in two pieces.
    let mut client = RawClient::connect(running.clients).await.unwrap();
    client.write(b"P").await.unwrap();
    tokio::task::yield_now().await;
    let rest = b"UT /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    client.write(rest).await.unwrap();
    assert_eq!(within_timeout(client.head()).await.unwrap().status, 405);
}
