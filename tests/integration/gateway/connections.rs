//! Clients' connections: kept after a stream, bounded in number, and cheap before a request.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Answer, ClientRequest, outcome, text};
use super::harness::{TestGateway, metric, page, targets};
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

const HALF_A_HEAD: &[u8] = b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\nx-a: ";

/// Reads one streamed answer and returns the connection.
async fn read_stream(mut client: RawClient) -> RawClient {
    let head = within_timeout(client.head()).await.unwrap();
    assert_eq!(head.status, 200);
    assert!(!head.headers.contains_key("connection"), "{head:?}");
    let body = within_timeout(client.body(&head)).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(body.matches("event: complete").count(), 1, "{body}");
    client
}

#[tokio::test]
async fn a_connection_is_kept_after_a_stream() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    for _ in 0..3 {
        ClientRequest::prompt("m").send(&mut client).await;
        client = read_stream(client).await;
        let models = ClientRequest::new("GET", "/v1/models");
        models.send(&mut client).await;
        let head = within_timeout(client.head()).await.unwrap();
        assert_eq!(head.status, 200);
        within_timeout(client.body(&head)).await.unwrap();
    }
    assert_eq!(running.metric("sluicegate_connections").await, 1.0);
    drop(client);
    running.wait_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_first_byte_or_a_whole_head_is_closed() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    for (bytes, seconds) in [(&b""[..], 10), (HALF_A_HEAD, 30)] {
        let mut client = TcpStream::connect(running.clients).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let begun = tokio::time::Instant::now();
        let closed = client.read(&mut [0]).await;
        assert_eq!(closed.unwrap_or(0), 0);
        let took = begun.elapsed().as_secs();
        assert!((seconds..seconds + 5).contains(&took), "{took} s");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let chunked =
        b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n\
                    1e\r\n{\"model\": \"m\", \"prompt\": \"Hi\"}\r\n0\r\n\r\n";
    for late in [false, true] {
        let mut client = RawClient::connect(running.clients).await.unwrap();
        ClientRequest::prompt("m").send(&mut client).await;
        if late {
            // While the first answer is written.
            let head = within_timeout(client.head()).await.unwrap();
            client.write(chunked).await.unwrap();
            ClientRequest::prompt("m").send(&mut client).await;
            within_timeout(client.body(&head)).await.unwrap();
        } else {
            client.write(chunked).await.unwrap();
            ClientRequest::prompt("m").send(&mut client).await;
            client = read_stream(client).await;
        }
        client = read_stream(client).await;
        client = read_stream(client).await;
        ClientRequest::new("GET", "/v1/models")
            .send(&mut client)
            .await;
        assert_eq!(within_timeout(client.head()).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_client_that_asks_to_close_is_closed_after_its_stream() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let asked = ClientRequest::prompt("m").header("connection", "close");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    asked.send(&mut client).await;
    let head = within_timeout(client.head()).await.unwrap();
    assert_eq!(head.headers["connection"], "close");
    within_timeout(client.body(&head)).await.unwrap();
    assert_eq!(within_timeout(client.closed()).await, 0);
}

#[tokio::test]
async fn a_drain_closes_connections_after_their_streams() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    ClientRequest::prompt("m").send(&mut client).await;
    let mut exchange = upstream.request().await;
    exchange.begin().await;
    exchange.token("one").await;
    let head = within_timeout(client.head()).await.unwrap();
    running.gateway.draining.cancel();
    exchange.finish().await;
    let mut answer = Answer::new(head, client);
    let events = answer.events().await;
    assert_eq!((text(&events).as_str(), outcome(&events)), ("one", ""));
    assert_eq!(within_timeout(answer.into_client().closed()).await, 0);
}

#[tokio::test]
async fn a_body_that_was_not_read_is_not_taken_for_the_next_request() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_resume(&[upstream.addr()], "{ window: 30s }", "");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    ClientRequest::prompt("m").send(&mut client).await;
    let mut exchange = upstream.request().await;
    exchange.begin().await;
    exchange.token("one").await;
    let mut first = Answer::new(within_timeout(client.head()).await.unwrap(), client);
    let start = first.event().await.unwrap();
    let mut client = RawClient::connect(running.clients).await.unwrap();
    let request = format!(
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 34\r\nlast-event-id: {}\r\n\
         expect: 100-continue\r\n\r\n",
        start.id
    );
    client.write(request.as_bytes()).await.unwrap();
    let head = within_timeout(client.head()).await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["connection"], "close");
    client
        .write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    exchange.finish().await;
    within_timeout(client.body(&head)).await.unwrap();
    assert_eq!(within_timeout(client.closed()).await, 0);
}

#[tokio::test]
async fn a_new_connection_ends_the_oldest_one_without_a_request() {
    let upstream = serve(&fast());
    let settings = "limits: { connections: { total: 2 } }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], settings);
    let mut silent = Vec::new();
    for _ in 0..10 {
        let mut client = RawClient::connect(running.clients).await.unwrap();
        client.write(HALF_A_HEAD).await.unwrap();
        silent.push(client);
        let mut answer = running.prompt().await;
        assert_eq!(outcome(&answer.events().await), "");
    }
    assert_eq!(within_timeout(silent.remove(0).closed()).await, 0);
}

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let upstream = serve(&fast());
    let settings = "limits: { connections: { per_ip: 1 } }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], settings);
    let mut client = RawClient::connect(running.clients).await.unwrap();
    ClientRequest::prompt("m").send(&mut client).await;
    let client = read_stream(client).await;
    let mut other = RawClient::connect(running.clients).await.unwrap();
    assert_eq!(within_timeout(other.closed()).await, 0);
    assert_eq!(metric(running.admin, "sluicegate_connections").await, 1.0);
    drop(client);
}

#[tokio::test]
async fn unknown_paths_count_against_the_limit_of_their_address() {
    let upstream = serve(&fast());
    let settings = "limits: { per_ip: { requests: 2/min } }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], settings);
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/models", 405),
        ("GET", "/nowhere", 429),
    ] {
        let mut answer = running.ask(&ClientRequest::new(method, path)).await;
        assert_eq!(answer.status(), status);
        answer.error().await;
    }
    assert_eq!(running.prompt().await.status(), 429);
}

#[tokio::test]
async fn probes_and_clients_are_answered_while_half_requests_hold_every_connection() {
    let upstream = serve(&fast());
    let config = TemporaryFile::new(&targets(&[upstream.addr()], ""));
    let mut gateway = GatewayProcess::start_with_files(&config, 128).await;
    gateway
        .program
        .wait_for_log_containing("limits.connections.total is lowered")
        .await;
    let mut halves = Vec::new();
    for _ in 0..200 {
        let mut half = TcpStream::connect(gateway.clients).await.unwrap();
        // The gateway may have closed it for a newer one already.
        let _ = half.write_all(HALF_A_HEAD).await;
        halves.push(half);
    }
    assert_eq!(page(gateway.admin, "/livez").await.0, 200);
    let mut answer = gateway.ask(&ClientRequest::prompt("m")).await;
    assert_eq!(outcome(&answer.events().await), "");
}

/// HPACK: one header of a name of one byte enters the dynamic table, and each byte after that repeats
/// it, so that a small head on the wire is a large one in memory.
#[tokio::test]
async fn small_heads_that_decode_to_large_ones_cost_little_memory() {
    const CONNECTIONS: usize = 16;
    const STREAMS: u32 = 256;
    let upstream = serve(&fast());
    let key = format!("keys: [ {{ name: a, sha256: {} }} ]", "a".repeat(64));
    let config = TemporaryFile::new(&targets(&[upstream.addr()], &key));
    let gateway = GatewayProcess::start(&config, &[]).await;
    let before = gateway.program.peak_memory();
    for repeats in [1850, 480, 95] {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = RawClient::connect(gateway.clients).await.unwrap();
            // The gateway may close the connection while it is written to.
            let _ = client.write(&bomb(STREAMS, repeats)).await;
            open.push(client);
        }
        let mut probe = gateway.ask(&ClientRequest::prompt("m")).await;
        assert_eq!(probe.status(), 401);
        probe.error().await;
    }
    let grown = gateway.program.peak_memory() - before;
    assert!(grown < 80 * 1024, "{grown} KiB");
}

fn bomb(streams: u32, repeats: usize) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [&head, payload].concat()
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in 0..streams {
        // POST, http, `:path: /v1/streams`, `:authority: x`.
        let mut block = b"\x83\x86\x04\x0b/v1/streams\x01\x01x".to_vec();
        if stream == 0 {
            block.extend(b"\x40\x01a\x00");
        }
        block.extend(std::iter::repeat_n(0xbe, repeats));
        bytes.extend(frame(1, 4, 1 + 2 * stream, &block));
    }
    bytes
}
