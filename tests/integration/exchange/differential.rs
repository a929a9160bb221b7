//! Compares this client with hyper's on whole and broken answers: the same status, headers, content
//! and end wherever hyper accepts what is accepted here.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::support::{endpoint, read, sent};
use crate::gateway::within_timeout;
use crate::seed::{Random, Seed};

const CASES: u64 = 400;

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    content: Vec<u8>,
    whole: bool,
}

#[tokio::test]
async fn hyper_decodes_the_same_answers() {
    let seed = Seed::of_this_run();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut whole, mut broken) = (0, 0);
    for number in 0..CASES {
        let bytes = generated(&mut seed.random(number));
        let serve = async || {
            let (mut stream, _) = within_timeout(listener.accept()).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                assert_ne!(
                    within_timeout(stream.read_buf(&mut request)).await.unwrap(),
                    0
                );
            }
            // A reader that has enough closes the connection.
            let _ = stream.write_all(&bytes).await;
        };
        let (ours, ()) = tokio::join!(ours(address), serve());
        let (theirs, ()) = tokio::join!(theirs(address), serve());
        let more_is_taken = |answer: &Answer| {
            in_other_codings(&answer.headers) || has_empty_lines_between_heads(&bytes)
        };
        if ours.is_none() && theirs.as_ref().is_some_and(more_is_taken) {
            continue;
        }
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(ours, theirs, "{seed} {number}: {shown:?}");
        match ours {
            Some(Answer { whole: true, .. }) => whole += 1,
            _ => broken += 1,
        }
    }
    assert!(whole > 20 && broken > 20, "{whole} {broken}, {seed}");
}

/// hyper reads a body in any other coding until the connection ends.
fn in_other_codings(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all("transfer-encoding").into_iter();
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let first = codings.next().map(|coding| chunked(coding.as_bytes()));
    first == Some(false) || codings.next().is_some()
}

/// hyper skips empty lines before a head, which only servers should do.
fn has_empty_lines_between_heads(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).replace('\r', "");
    text.contains("\n\n\nHTTP/")
}

async fn ours(address: SocketAddr) -> Option<Answer> {
    let mut response = sent(&endpoint(address)).await.ok()?;
    let (content, end) = read(&mut response.body).await;
    Some(Answer {
        status: response.status.as_u16(),
        headers: response.headers,
        content,
        whole: end.is_ok(),
    })
}

async fn theirs(address: SocketAddr) -> Option<Answer> {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").body(Full::new(Bytes::from_static(b"{}")));
    let response = within_timeout(sender.send_request(request.unwrap())).await;
    let (head, mut body) = response.ok()?.into_parts();
    let (mut content, mut whole) = (Vec::new(), true);
    while whole && let Some(frame) = within_timeout(body.frame()).await {
        match frame {
            Ok(frame) => content.extend(frame.into_data().unwrap_or_default()),
            Err(_) => whole = false,
        }
    }
    Some(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        content,
        whole,
    })
}

/// An answer that is mostly well-formed.
fn generated(random: &mut Random) -> Vec<u8> {
    let mut out = String::new();
    if random.percent(20) {
        out += "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    }
    out += one_of(
        random,
        &["HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.0 "],
    );
    out += one_of(
        random,
        &["200 OK", "200", "429 Slow", "204 No", "304 Old", "500 "],
    );
    let end = if random.percent(5) { "\n" } else { "\r\n" };
    out += end;
    let headers = [
        "a: b",
        "A:b ",
        "x-y:  \t ",
        "connection: close",
        "a: \u{e9}",
    ];
    for _ in 0..random.within(0..4) {
        out += one_of(random, &headers);
        out += end;
    }
    let letter = |random: &mut Random| (b'a' + random.within(0..26) as u8) as char;
    let body: String = (0..random.within(0..600)).map(|_| letter(random)).collect();
    let chunked = random.percent(60);
    out += &length(body.len(), chunked, random);
    out += end;
    out += end;
    if chunked {
        chunks(&mut out, &body, random);
    } else {
        out += &body;
    }
    let mut bytes = out.into_bytes();
    match random.within(0..4) {
        0 => damage(&mut bytes, random),
        1 => bytes.truncate(random.within(0..bytes.len() as u64) as usize),
        2 => bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n"),
        _ => {}
    }
    bytes
}

fn length(length: usize, chunked: bool, random: &mut Random) -> String {
    let longer = length + 1;
    let lines = match chunked {
        true => [
            "Transfer-Encoding: Chunked".to_owned(),
            "transfer-encoding:chunked ".to_owned(),
            "transfer-encoding: gzip, chunked".to_owned(),
            "transfer-encoding: chunked\r\ncontent-length: 3".to_owned(),
        ],
        false => [
            format!("content-length: {length}"),
            format!("content-length: {length}, {length}"),
            format!("content-length: {longer}\r\ncontent-length: +{longer}"),
            format!("x: {length}"),
        ],
    };
    lines[random.within(0..lines.len() as u64) as usize].clone()
}

fn chunks(out: &mut String, body: &str, random: &mut Random) {
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(1 + random.within(0..rest.len() as u64) as usize);
        let size = chunk.len();
        *out += &match random.within(0..6) {
            0 => format!("{size:X}\r\n"),
            1 => format!("0{size:x} \r\n"),
            2 => format!("{size:x};a=\"b\"\r\n"),
            _ => format!("{size:x}\r\n"),
        };
        *out += chunk;
        *out += "\r\n";
        rest = behind;
    }
    *out += one_of(
        random,
        &["0\r\n\r\n", "000\r\n\r\n", "0\r\nx: y\r\n\r\n", ""],
    );
}

/// Changes one byte, usually a delimiter. Trailers are left alone, because hyper accepts a line
/// feed alone as a line end there.
fn damage(bytes: &mut [u8], random: &mut Random) {
    let spared = if bytes.ends_with(b"x: y\r\n\r\n") {
        8
    } else {
        0
    };
    let at = random.within(0..(bytes.len() - spared) as u64) as usize;
    bytes[at] = b"\r\n \t:;,0fx\0\x80"[random.within(0..12) as usize];
}

fn one_of<'a>(random: &mut Random, choices: &[&'a str]) -> &'a str {
    choices[random.within(0..choices.len() as u64) as usize]
}
