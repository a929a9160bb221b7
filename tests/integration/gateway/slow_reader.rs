//! A client that does not read slows its own upstream down, and no other client.

use std::time::Duration;

use super::client::{ClientRequest, outcome};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream, finish, token};
use super::within_timeout;
use crate::raw_client::RawClient;

/// Writes the piece repeatedly until the gateway takes no more, `limit` bytes at most; returns how many
/// it took. The last chunk may be incomplete.
async fn fill(exchange: &mut Exchange, piece: &[u8], limit: usize) -> usize {
    let mut written = 0;
    while written < limit {
        let at = written % piece.len();
        match tokio::time::timeout(
            Duration::from_millis(700),
            exchange.write_some(&piece[at..]),
        )
        .await
        {
            Ok(length) => written += length,
            Err(_) => break,
        }
    }
    written
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_its_upstream() {
    const WHOLE: usize = 64 * 1024 * 1024;
    let slow = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[slow.addr()], "");
    let answering = async {
        let mut exchange = slow.request().await;
        exchange.begin().await;
        exchange.token("first").await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering);
    answer.expect("start").await;
    let words = token(&"words ".repeat(2000));
    let piece = format!("{:x}\r\n{words}\r\n", words.len());
    let taken = fill(&mut exchange, piece.as_bytes(), WHOLE).await;
    // The buffers of two kernels are some megabytes.
    assert!(
        taken < WHOLE / 2,
        "{taken} bytes were taken of a stream without a reader"
    );

    // Other clients of the same upstream are served meanwhile.
    let other = async {
        let mut exchange = slow.request().await;
        exchange.begin().await;
        exchange.chunk(token("quick") + &finish()).await;
    };
    let (mut quick, ()) = tokio::join!(running.prompt(), other);
    assert_eq!(outcome(&quick.events().await), "");

    // Nothing is lost once it reads.
    let rest = piece.as_bytes()[taken % piece.len()..].to_vec();
    let pieces = taken / piece.len() + 1;
    let ending = async move {
        exchange.write(rest).await;
        exchange.finish().await;
    };
    let reading = async {
        let mut tokens = 0;
        loop {
            let event = answer.event().await.unwrap();
            match event.name.as_str() {
                "token" => tokens += 1,
                "complete" => break tokens,
                _ => panic!("{event:?}"),
            }
        }
    };
    let (tokens, ()) = within_timeout(async { tokio::join!(reading, ending) }).await;
    assert_eq!(tokens, 1 + pieces);
}

#[tokio::test]
async fn a_client_that_never_reads_and_leaves_gives_everything_back() {
    let slow = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[slow.addr()], "limits: { streams: 1 }");
    let mut client = RawClient::connect(running.clients).await.unwrap();
    ClientRequest::prompt("m").send(&mut client).await;
    let mut exchange = slow.request().await;
    exchange.begin().await;
    let words = token(&"words ".repeat(2000));
    let piece = format!("{:x}\r\n{words}\r\n", words.len());
    fill(&mut exchange, piece.as_bytes(), 64 * 1024 * 1024).await;
    drop(client);
    within_timeout(async { while exchange.try_chunk("x").await {} }).await;
    running.wait_idle().await;
}
