//! Clients that leave: their upstream request is cancelled, and everything they held is given back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluicegate::fixture::{Fault, Options, Pace};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::client::{ClientRequest, check_order, outcome, parsed};
use super::harness::TestGateway;
use super::scripted::{ScriptedUpstream, finish, role, token};
use super::within_timeout;
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

const CANCELLED: &str =
    "sluicegate_requests_total{dialect=\"native\",model=\"m\",outcome=\"cancelled\"}";

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_its_upstream() {
    for steps in 0..3 {
        let upstream = ScriptedUpstream::bind().await;
        let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { streams: 1 }");
        let mut client = RawClient::connect(running.clients).await.unwrap();
        ClientRequest::prompt("m").send(&mut client).await;
        let mut exchange = upstream.request().await;
        if steps > 0 {
            exchange.begin().await;
        }
        if steps > 1 {
            exchange.chunk(role()).await;
        }
        drop(client);
        exchange.closed().await;
        running.wait_idle().await;
        assert_eq!(running.metric(CANCELLED).await, 1.0, "after {steps} steps");
        assert!(!upstream.was_asked_again());
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_targets_fail_over_cancels_the_current_one() {
    let limiting = serve(&Options {
        fault: Some(Fault::Status(http::StatusCode::TOO_MANY_REQUESTS)),
        ..fast()
    });
    let (hanging, never) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let running = TestGateway::with_upstreams(&[limiting.addr(), hanging.addr(), never.addr()], "");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    ClientRequest::prompt("m").send(&mut client).await;
    let exchange = hanging.request().await;
    drop(client);
    exchange.closed().await;
    running.wait_idle().await;
    assert!(!never.was_asked_again());
}

#[tokio::test]
async fn a_client_that_leaves_after_a_heartbeat_cancels_its_upstream() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "heartbeat: 50ms");
    let mut answer = running.prompt().await;
    answer.chunk().await.unwrap();
    let exchange = upstream.request().await;
    drop(answer);
    exchange.closed().await;
    running.wait_idle().await;
    assert_eq!(running.metric(CANCELLED).await, 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_cancels_its_upstream() {
    let upstream = serve(&Options {
        fault: Some(Fault::Stall { after: 5 }),
        ..fast()
    });
    let settings = "limits: { streams: 1 }";
    let running = TestGateway::with_upstreams(&[upstream.addr()], settings);
    for leaving in 1..=3 {
        // The permit of the request before was given back.
        let mut answer = running.prompt().await;
        answer.expect("start").await;
        answer.expect("token").await;
        drop(answer);
        within_timeout(upstream.closed_by_client(leaving)).await;
        running.wait_idle().await;
        assert_eq!(running.metric(CANCELLED).await, leaving as f64);
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_pipelined_bytes_cancels_its_upstream() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "heartbeat: 1h");
    let body = json!({"model": "m", "prompt": "Hello?"}).to_string();
    let request = format!(
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // After a request: a stray line break, the next request, and more than one read takes.
    for behind in ["\r\n".to_owned(), request.clone(), request.repeat(300)] {
        for begins in [false, true] {
            for late in [false, true] {
                let mut client = RawClient::connect(running.clients).await.unwrap();
                let early = if late { "" } else { &behind };
                let sent = format!("{request}{early}");
                client.write(sent.as_bytes()).await.unwrap();
                let mut exchange = upstream.request().await;
                if begins {
                    exchange.begin().await;
                    exchange.token("one").await;
                    client.head().await.unwrap();
                    client.chunk().await.unwrap();
                }
                if late {
                    client.write(behind.as_bytes()).await.unwrap();
                }
                drop(client);
                exchange.closed().await;
                running.wait_idle().await;
            }
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = TestGateway::with_upstreams(&[ScriptedUpstream::bind().await.addr()], "");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // Far more than one read takes.
    client.write(request.repeat(3000).as_bytes()).await.unwrap();
    for _ in 0..3000 {
        let head = client.head().await.unwrap();
        assert_eq!(head.status, 200);
        client.body(&head).await.unwrap();
    }
}

/// The last request streams, and streams are written by other code than the answers before it.
#[tokio::test]
async fn a_stream_follows_answers_that_are_not_read_yet() {
    const ANSWERS: usize = 5000;
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let socket = TcpSocket::new_v4().unwrap();
    // The gateway must not be able to send most of the answers before they are read.
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(running.clients).await.unwrap();
    let (reading, mut writing) = stream.into_split();
    let prompt = json!({"model": "m", "prompt": "Hello?"}).to_string();
    let length = prompt.len();
    let whole = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(ANSWERS);
    let last = format!(
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{prompt}"
    );
    let asking = async {
        writing.write_all((whole + &last).as_bytes()).await.unwrap();
    };
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(token("all") + &finish()).await;
        exchange.end().await;
    };
    let reading = async {
        let mut text = String::new();
        BufReader::new(reading)
            .read_to_string(&mut text)
            .await
            .unwrap();
        text
    };
    let (text, (), ()) = within_timeout(async { tokio::join!(reading, asking, answering) }).await;
    let (answers, stream) = text.split_at(text.find("text/event-stream").unwrap());
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), ANSWERS + 1);
    assert_eq!(answers.matches("\"object\":\"list\"").count(), ANSWERS);
    assert!(stream.contains("event: complete\n"), "{stream}");
    assert!(stream.ends_with("\r\n0\r\n\r\n"), "{stream}");
    drop(writing);
}

#[tokio::test]
async fn an_http_1_0_client_gets_its_stream_without_chunks() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    let request = "GET /v1/streams?model=m&prompt=Hello HTTP/1.0\r\nhost: localhost\r\n\r\n";
    client.write(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within_timeout(client.stream().read_to_string(&mut answer))
        .await
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    let events = Vec::from(parsed(body));
    check_order(&events);
    assert_eq!(outcome(&events), "");
}

#[tokio::test]
async fn a_client_that_leaves_during_its_request_asks_no_upstream() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { streams: 1 }");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    let half =
        "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n{\"model\":";
    client.write(half.as_bytes()).await.unwrap();
    within_timeout(async {
        while running.gateway.app().limiter.open_streams() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    running.wait_idle().await;
    assert_eq!(upstream.request_count(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_affect_others() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let started = async || {
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            exchange.token("one").await;
            exchange
        };
        tokio::join!(running.prompt(), answering)
    };
    let (leaving, left) = started().await;
    let (mut staying, mut other) = started().await;
    drop(leaving);
    left.closed().await;
    other.finish().await;
    assert_eq!(outcome(&staying.events().await), "");
}

#[tokio::test]
async fn everything_is_given_back_however_a_stream_ends() {
    let upstream = serve(&Options {
        case_faults: [
            ("length".to_owned(), Fault::Truncate { after: 4 }),
            ("refusal".to_owned(), "status:500".parse().unwrap()),
        ]
        .into(),
        ..fast()
    });
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}' }}\n\
         models:\n  '*': {{ targets: [ {{ upstream: a, model: '*' }} ], retry: off }}\n\
         resume: {{ window: 0s }}\nlimits: {{ streams: 1 }}\n",
        upstream.addr()
    ));
    for _ in 0..3 {
        for (model, status, code) in [
            ("text", 200, ""),
            ("length", 200, "stream_interrupted"),
            ("refusal", 502, "upstream_unavailable"),
        ] {
            let mut answer = running.ask(&ClientRequest::prompt(model)).await;
            assert_eq!(answer.status(), status);
            if status == 200 {
                assert_eq!(outcome(&answer.events().await), code);
            } else {
                assert_eq!(answer.error().await["code"], code);
            }
            running.wait_idle().await;
        }
        let asked = ClientRequest::json(&json!({"model": "text"}));
        assert_eq!(running.ask(&asked).await.status(), 400);
        running.wait_idle().await;
    }
    let count = async |outcome: &str| {
        let labels = format!("{{dialect=\"native\",model=\"*\",outcome=\"{outcome}\"}}");
        running
            .metric(&format!("sluicegate_requests_total{labels}"))
            .await
    };
    assert_eq!(count("complete").await, 3.0);
    assert_eq!(count("stream_interrupted").await, 3.0);
    assert_eq!(count("upstream_unavailable").await, 3.0);
}

/// The behaviour of one of many clients.
async fn behave(running: &TestGateway, number: usize) {
    let asked = ClientRequest::prompt(["text", "length", "refusal"][number % 3]);
    match number % 5 {
        // Leaves without waiting.
        0 => {
            let mut client = RawClient::connect(running.clients).await.unwrap();
            asked.send(&mut client).await;
        }
        // Leaves with the first chunk, if there is one.
        1 => {
            let mut answer = running.ask(&asked).await;
            if answer.status() == 200 {
                answer.chunk().await;
            }
        }
        _ => {
            let mut answer = running.ask(&asked).await;
            match answer.status() {
                200 => drop(answer.events().await),
                status => assert_eq!(status, 502),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_that_come_and_go_leave_nothing_behind() {
    const CLIENTS: usize = 300;
    let upstream = serve(&Options {
        pace: Pace::Every(Duration::from_millis(1)),
        case_faults: [
            ("length".to_owned(), Fault::Reset { after: 4 }),
            ("refusal".to_owned(), "status:500".parse().unwrap()),
        ]
        .into(),
        ..Options::default()
    });
    let running = Arc::new(TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{}' }}\n\
         models:\n  '*': {{ targets: [ {{ upstream: a, model: '*' }} ], retry: off }}\n\
         resume: {{ window: 0s }}\n",
        upstream.addr()
    )));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let running = Arc::clone(&running);
        clients.spawn(async move { behave(&running, number).await });
    }
    clients.join_all().await;
    running.wait_idle().await;
    within_timeout(
        upstream.until(|journal| journal.recent().all(|request| request.outcome.is_some())),
    )
    .await;
    let streams = sum(&running, "sluicegate_requests_total{").await;
    // The request of a client that left at once may never have been read.
    assert!(streams <= CLIENTS as f64 && streams >= (CLIENTS - CLIENTS / 5) as f64);
    assert_eq!(
        sum(&running, "sluicegate_stream_duration_seconds_count").await,
        streams
    );
}

/// The sum of the metrics whose names begin with `name`.
async fn sum(running: &TestGateway, name: &str) -> f64 {
    let (_, text) = running.admin("/metrics").await;
    let lines = text.lines().filter(|line| line.starts_with(name));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}
