//! The fixture server breaks exactly as it was told to.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use http::StatusCode;
use sluicegate::fixture::{Fault, Options, Outcome, Server};
use sluicegate::wire;
use tokio::time::timeout;

use crate::fixture_server::{ANY_PORT, fast, library, serve};
use crate::raw_client::RawClient;

fn broken(fault: Fault) -> Options {
    Options {
        fault: Some(fault),
        ..fast()
    }
}

/// The events of `openai-chat/text`, each with its blank line.
fn events() -> Vec<String> {
    let library = library();
    let body = &library.case("openai-chat", "text").unwrap().body;
    let body = std::str::from_utf8(body).unwrap();
    body.split_inclusive("\n\n").map(str::to_owned).collect()
}

fn half(event: &str) -> &str {
    &event[..event.len() / 2]
}

/// Asks for `openai-chat/text` and reads to the answer's end, of whatever kind.
async fn read(server: &Server) -> (String, io::Result<()>) {
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut body = Vec::new();
    let end = loop {
        match client.chunk().await {
            Ok(Some(chunk)) => body.extend(chunk),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (String::from_utf8(body).unwrap(), end)
}

async fn outcome(server: &Server) -> Option<Outcome> {
    let ended = |journal: &sluicegate::fixture::Journal| {
        journal
            .recent()
            .next()
            .is_some_and(|request| request.outcome.is_some())
    };
    server.until(ended).await;
    server.requests()[0].outcome
}

#[tokio::test]
async fn refuse_takes_the_port_and_no_connection() {
    let server = serve(&broken(Fault::Refuse));
    let error = RawClient::connect(server.addr()).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(tokio::net::TcpListener::bind(server.addr()).await.is_err());
}

#[tokio::test]
async fn a_case_cannot_refuse_connections() {
    let options = Options {
        case_faults: BTreeMap::from([("text".to_owned(), Fault::Refuse)]),
        ..fast()
    };
    let error = Server::bind(ANY_PORT, &library(), &options).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn status_comes_with_the_wires_own_error() {
    for (status, retry_after) in [(401, None), (429, Some("2")), (500, None), (529, Some("2"))] {
        let status = StatusCode::from_u16(status).unwrap();
        let server = serve(&broken(Fault::Status(status)));
        for wire in wire::ALL.iter().copied() {
            let mut client = RawClient::connect(server.addr()).await.unwrap();
            client.ask(wire, "text").await.unwrap();
            let head = client.head().await.unwrap();
            assert_eq!(head.status, status.as_u16());
            assert_eq!(head.headers["content-type"], "application/json");
            let told = head.headers.get("retry-after").map(String::as_str);
            assert_eq!(told, retry_after, "{status}");
            let body = client.chunks().await.unwrap().concat();
            let refusal = wire.refusal(&body).unwrap();
            assert!(
                refusal.message.contains(status.as_str()),
                "{}",
                refusal.message
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hang_reads_and_never_answers() {
    let server = serve(&broken(Fault::Hang));
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    server.until(|journal| journal.requests() == 1).await;
    let answer = timeout(Duration::from_secs(3600), client.head()).await;
    assert!(answer.is_err(), "{answer:?}");
    drop(client);
    assert_eq!(outcome(&server).await, Some(Outcome::ClosedByClient));
}

#[tokio::test(start_paused = true)]
async fn stall_goes_silent_with_the_connection_open() {
    let server = serve(&broken(Fault::Stall { after: 2 }));
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    client.head().await.unwrap();
    for event in &events()[..2] {
        assert_eq!(client.chunk().await.unwrap().unwrap(), event.as_bytes());
    }
    let next = timeout(Duration::from_secs(3600), client.chunk()).await;
    assert!(next.is_err(), "{next:?}");
    drop(client);
    assert_eq!(outcome(&server).await, Some(Outcome::ClosedByClient));
}

#[tokio::test]
async fn stall_before_the_first_event_still_sends_the_head() {
    let server = serve(&broken(Fault::Stall { after: 0 }));
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("text").await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(server.requests()[0].outcome, None);
}

#[tokio::test]
async fn reset_breaks_the_connection_within_an_event() {
    let server = serve(&broken(Fault::Reset { after: 2 }));
    let (body, end) = read(&server).await;
    let events = events();
    assert_eq!(body, events[..2].concat() + half(&events[2]));
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(outcome(&server).await, Some(Outcome::Broken));
}

#[tokio::test]
async fn truncate_ends_the_body_cleanly_within_an_event() {
    let server = serve(&broken(Fault::Truncate { after: 2 }));
    let (body, end) = read(&server).await;
    let events = events();
    assert_eq!(body, events[..2].concat() + half(&events[2]));
    end.unwrap();
    assert_eq!(outcome(&server).await, Some(Outcome::Broken));
}

#[tokio::test]
async fn garbage_is_a_whole_event_that_does_not_parse() {
    let server = serve(&broken(Fault::Garbage { after: 2 }));
    let (body, end) = read(&server).await;
    end.unwrap();
    let (before, after) = (events()[..2].concat(), events()[2..].concat());
    let garbage = body.strip_prefix(&before).unwrap();
    let garbage = garbage.strip_suffix(&after).unwrap();
    let data = garbage.strip_prefix("data: ").unwrap();
    let data = data.strip_suffix("\n\n").unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(data).is_err());
}

#[tokio::test]
async fn a_fault_past_the_end_comes_before_the_last_event() {
    let events = events();
    let (last, all_before) = events.split_last().unwrap();
    let all_before = all_before.concat();

    let server = serve(&broken(Fault::Truncate { after: 10_000 }));
    let (body, _) = read(&server).await;
    assert_eq!(body, all_before.clone() + half(last));

    let server = serve(&broken(Fault::Garbage { after: 10_000 }));
    let (body, _) = read(&server).await;
    assert!(body.starts_with(&(all_before + "data: {")) && body.ends_with(last));
}

#[tokio::test]
async fn comments_do_not_count_as_events() {
    let server = serve(&broken(Fault::Truncate { after: 1 }));
    let mut client = RawClient::connect(server.addr()).await.unwrap();
    client.chat("comments").await.unwrap();
    client.head().await.unwrap();
    let body = client.chunks().await.unwrap().concat();
    let body = String::from_utf8(body).unwrap();
    let role = body.find("\"role\":\"assistant\"").unwrap();
    assert!(body[role..].contains("\n\n: ping\ndata: "), "{body}");
}

#[tokio::test]
async fn faults_hold_in_recorded_chunks_and_in_pieces() {
    let library = library();
    let case = library.case("openai-chat", "chunks-across-events").unwrap();
    let first = memchr::memmem::find(&case.body, b"\n\n").unwrap() + 2;
    for split in [None, std::num::NonZeroUsize::new(5)] {
        let server = serve(&Options {
            split,
            ..broken(Fault::Garbage { after: 1 })
        });
        let mut client = RawClient::connect(server.addr()).await.unwrap();
        client.chat(&case.name).await.unwrap();
        client.head().await.unwrap();
        let body = client.chunks().await.unwrap().concat();
        let added = body.len() - case.body.len();
        assert!(added > 0);
        assert_eq!(body[..first], case.body[..first]);
        assert!(body[first..first + added].starts_with(b"data: "));
        assert_eq!(body[first + added..], case.body[first..]);
    }
}

#[tokio::test]
async fn a_fault_of_a_case_applies_to_that_case_only() {
    let server = serve(&Options {
        case_faults: BTreeMap::from([(
            "length".to_owned(),
            Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
        )]),
        ..fast()
    });
    for (case, status) in [("length", 503), ("text", 200)] {
        let mut client = RawClient::connect(server.addr()).await.unwrap();
        client.chat(case).await.unwrap();
        assert_eq!(client.head().await.unwrap().status, status, "{case}");
    }
}
