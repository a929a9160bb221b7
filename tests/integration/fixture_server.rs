//! The fixture server plays cases with their bytes, pace and pieces, and records requests.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use sluicegate::fixture::{Case, Journal, Library, Options, Outcome, Pace, Server};
use sluicegate::wire;
use tokio::time::Instant;

use crate::raw_client::RawClient;

pub const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub fn library() -> Library {
    Library::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures")).unwrap()
}

pub fn serve(options: &Options) -> Server {
    Server::bind(ANY_PORT, &library(), options).unwrap()
}

pub fn fast() -> Options {
    Options {
        pace: Pace::Max,
        ..Options::default()
    }
}

fn case(wire: &str, name: &str) -> Case {
    library().case(wire, name).unwrap().clone()
}

#[tokio::test]
async fn every_case_arrives_byte_for_byte() {
    for split in [None, NonZeroUsize::new(7)] {
        let server = serve(&Options { split, ..fast() });
        let library = library();
        let mut client = RawClient::connect(server.addr()).await.unwrap();
        let mut played = 0;
        for wire in wire::ALL.iter().copied() {
            for case in library.cases(wire.name()) {
                client.ask(wire, &case.name).await.unwrap();
                let head = client.head().await.unwrap();
                let chunks = client.chunks().await.unwrap();
                let what = format!("{}/{}", case.wire, case.name);
                assert_eq!(head.status, case.status.as_u16(), "{what}");
                for (name, value) in &case.headers {
                    assert_eq!(head.headers[name.as_str()].as_bytes(), value, "{what}");
                }
                assert_eq!(chunks.concat(), case.body, "{what}");
                if let Some(split) = split {
                    assert!(
                        chunks.iter().all(|chunk| chunk.len() <= split.get()),
                        "{what}"
                    );
                }
                played += 1;
            }
        }
        // All went over one connection, so every answer ended cleanly.
        assert!(played > 0);
        assert_eq!(server.request_count(), played);
        assert_eq!(server.requests().len(), Journal::KEPT.min(played as usize));
    }
}

#[tokio::test]
async fn without_recorded_timing_every_event_is_a_chunk() {
    let server = serve(&fast());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    assert_eq!(
        client.head().await.unwrap().headers["transfer-encoding"],
        "chunked"
    );
    let chunks = client.chunks().await.unwrap();
    assert!(chunks.len() > 40);
    for chunk in chunks {
        let event = String::from_utf8(chunk).unwrap();
        let data = event.strip_prefix("data: ").unwrap();
        assert_eq!(data.find("\n\n"), Some(data.len() - 2), "{data:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn recorded_chunks_keep_their_bounds_and_their_time() {
    let timing = case("openai-chat", "chunks-across-events").timing.unwrap();
    let server = serve(&Options::default());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("chunks-across-events").await.unwrap();
    client.head().await.unwrap();
    let begin = Instant::now();
    let mut lengths = Vec::new();
    while let Some(chunk) = client.chunk().await.unwrap() {
        lengths.push(chunk.len());
    }
    let expected: Vec<usize> = timing.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, expected);
    // The clock is the runtime's own, in whole milliseconds.
    let whole: Duration = timing.iter().map(|(wait, _)| *wait).sum();
    let slack = Duration::from_millis(2);
    assert!(begin.elapsed() + slack >= whole, "{:?}", begin.elapsed());
    assert!(begin.elapsed() <= whole + slack, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pace_is_per_chunk_or_none() {
    let events = 3; // The role, the finish reason and the usage of `empty-answer`, and [DONE].
    for (pace, expected) in [
        (Pace::Max, Duration::ZERO),
        (Pace::Recorded, Duration::from_millis(30) * (events + 1)),
        (
            Pace::Every(Duration::from_secs(5)),
            Duration::from_secs(5) * (events + 1),
        ),
    ] {
        let server = serve(&Options {
            pace,
            // Pieces of one chunk do not wait for each other.
            split: NonZeroUsize::new(50),
            ..Options::default()
        });
        let mut client = RawClient::connect(server.addr()).await.unwrap();
        client.chat("empty-answer").await.unwrap();
        client.head().await.unwrap();
        let begin = Instant::now();
        client.chunks().await.unwrap();
        let difference = begin.elapsed().abs_diff(expected);
        assert!(
            difference <= Duration::from_millis(2),
            "{pace:?}: {difference:?} off"
        );
    }
}

#[tokio::test]
async fn an_unknown_model_gets_the_text_case() {
    let server = serve(&fast());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("gpt-of-tomorrow").await.unwrap();
    client.head().await.unwrap();
    let body = client.chunks().await.unwrap().concat();
    assert_eq!(body, case("openai-chat", "text").body);
    let recorded = &server.requests()[0];
    assert_eq!(recorded.model.as_deref(), Some("gpt-of-tomorrow"));
    assert_eq!(recorded.wire, Some("openai-chat"));
}

#[tokio::test]
async fn cases_can_be_listed() {
    let server = serve(&fast());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.send("GET", "/", "").await.unwrap();
    client.head().await.unwrap();
    let listing = client.json().await;
    let cases = listing["wires"]["openai-chat"].as_array().unwrap();
    assert!(cases.contains(&"azure-empty-first-chunk".into()));

    client.send("GET", "/v1/models", "").await.unwrap();
    client.head().await.unwrap();
    let models = client.json().await;
    let models = models["data"].as_array().unwrap();
    assert!(models.iter().any(|model| model["id"] == "text"));
    assert_eq!(server.request_count(), 0, "listings are not requests");
}

#[tokio::test]
async fn other_paths_and_bodies_are_refused() {
    let server = serve(&fast());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    for (method, path, body, status) in [
        ("POST", "/v1/completions", "{}", 404),
        ("GET", "/v1/chat/completions", "", 404),
        ("POST", "/v1/chat/completions", "{\"model\":", 400),
    ] {
        client.send(method, path, body).await.unwrap();
        assert_eq!(
            client.head().await.unwrap().status,
            status,
            "{method} {path}"
        );
        assert!(client.json().await["error"]["message"].is_string());
    }
    let seen = server.requests();
    let wires: Vec<_> = seen.iter().map(|request| request.wire).collect();
    assert_eq!(wires, [None, None, Some("openai-chat")]);
}

#[tokio::test]
async fn requests_are_recorded_unchanged() {
    let server = serve(&fast());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    let body = "{\"model\": \"text\", \"stream\":true}";
    let path = "/openai/deployments/x/chat/completions?api-version=1";
    client.send("POST", path, body).await.unwrap();
    client.head().await.unwrap();
    client.chunks().await.unwrap();
    server
        .until(|journal| journal.recent().all(|request| request.outcome.is_some()))
        .await;
    let recorded = &server.requests()[0];
    assert_eq!(recorded.number, 0);
    assert_eq!(recorded.path, path);
    assert_eq!(recorded.headers["host"], "localhost");
    assert_eq!(recorded.body, body);
    assert_eq!(recorded.outcome, Some(Outcome::Complete));
}

#[tokio::test]
async fn the_journal_keeps_the_last_requests_only() {
    let server = serve(&fast());
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    let more = 3;
    for _ in 0..Journal::KEPT + more {
        client.chat("empty-answer").await.unwrap();
        client.head().await.unwrap();
        client.chunks().await.unwrap();
    }
    let kept = server.requests();
    assert_eq!(kept.len(), Journal::KEPT);
    assert_eq!(kept[0].number, more as u64);
    assert_eq!(server.request_count(), (Journal::KEPT + more) as u64);
}

#[tokio::test]
async fn a_client_that_leaves_is_detected() {
    let server = serve(&Options {
        pace: Pace::Every(Duration::from_secs(3600)),
        ..Options::default()
    });
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    client.head().await.unwrap();
    assert_eq!(server.requests()[0].outcome, None);
    drop(client);
    server.closed_by_client(1).await;
    assert_eq!(server.requests()[0].outcome, Some(Outcome::ClosedByClient));
}

#[tokio::test]
async fn stopping_closes_the_port_and_every_answer() {
    // An address of its own: nobody else takes the port once it is free.
    let own = SocketAddr::from(([127, 83, 0, 1], 0));
    let options = Options {
        pace: Pace::Every(Duration::from_secs(3600)),
        ..Options::default()
    };
    let server = Server::bind(own, &library(), &options).unwrap();
    let addr = server.addr();
    let mut client = RawClient::connect(addr).await.unwrap();
    client.chat("text").await.unwrap();
    client.head().await.unwrap();
    server.stop().await;
    assert!(client.chunk().await.is_err());
    assert!(RawClient::connect(addr).await.is_err());
    // The port can be had again at once, for an upstream that comes back.
    let again = Server::bind(addr, &library(), &fast()).unwrap();
    let mut client = RawClient::connect(again.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
}

#[tokio::test]
async fn dropping_a_server_stops_it() {
    let server = serve(&Options {
        pace: Pace::Every(Duration::from_secs(3600)),
        ..Options::default()
    });
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    client.head().await.unwrap();
    drop(server);
    assert!(client.chunk().await.is_err());
}
