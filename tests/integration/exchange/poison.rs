//! Every way in which an upstream may spoil a connection: no later request gets bytes of an earlier
//! answer, and the connection is reused, closed, or closed together with all others of its upstream.
//!
//! An answer that is there before its request is in `connections`; closes without notice over TLS are
//! in `tls`.

use std::future::poll_fn;

use sluicegate::upstream::exchange::{Endpoint, Response};

use super::support::{endpoint, read, sent};
use crate::gateway::scripted::{Exchange, ScriptedUpstream};
use crate::gateway::within_timeout;

/// Another user's answer.
const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const NO_LENGTH: &str = "HTTP/1.1 200 OK\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const UNMODIFIED: &str = "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n";
/// A chunk, and with it a whole body.
const CHUNK: &str = "2\r\nhi\r\n";
const HI: &str = "2\r\nhi\r\n0\r\n\r\n";

/// What happens after the bytes of the answer.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The client reads the answer to its end.
    Read,
    /// So it does, and then the upstream sends more.
    Send(&'static str),
    /// The upstream closes the connection, and the client reads on.
    Close,
    /// The client reads the answer, and then the upstream closes the connection with a reset.
    Reset,
    /// The client drops the answer, because its user has left or a deadline is over. Then the upstream
    /// sends the rest of it, and another.
    Drop,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Reused,
    Closed,
    /// Closed, and no connection to this upstream is reused for a while.
    Distrusted,
}

/// A connection that got a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Odd,
    Clean,
    New,
}

/// How the answer arrives.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    /// In one write.
    Whole,
    /// Its head first, and once the client has that, its body.
    Streamed,
    /// Like this, with the body byte by byte.
    Trickled,
}

/// What the client gets of an answer; `Err` if it breaks after that, `None` if it has no head.
type Content = Option<Result<String, String>>;

struct Case {
    name: &'static str,
    head: String,
    body: String,
    then: Then,
    content: Content,
    fate: Fate,
}

fn case(name: &'static str, head: &str, body: &str, fate: Fate) -> Case {
    Case {
        name,
        head: head.to_owned(),
        body: body.to_owned(),
        then: Then::Read,
        content: Some(Ok("hi".to_owned())),
        fate,
    }
}

fn reused(name: &'static str, head: &str, body: &str) -> Case {
    case(name, head, body, Fate::Reused)
}

fn closed(name: &'static str, head: &str, body: &str) -> Case {
    case(name, head, body, Fate::Closed)
}

fn distrusted(name: &'static str, head: &str, body: &str) -> Case {
    case(name, head, body, Fate::Distrusted)
}

impl Case {
    fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    fn with_content(self, content: &str) -> Self {
        let content = Some(Ok(content.to_owned()));
        Self { content, ..self }
    }

    /// The answer breaks after `hi`.
    fn broken(self) -> Self {
        let content = Some(Err("hi".to_owned()));
        Self { content, ..self }
    }

    /// There is no answer.
    fn refused(self) -> Self {
        let content = None;
        Self { content, ..self }
    }
}

/// An answer of HTTP/1.1 with these headers.
fn head(headers: &[&str]) -> String {
    format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", headers.join("\r\n"))
}

fn cases() -> Vec<Case> {
    use Then::{Close, Drop, Reset, Send};
    let old = |head: &str| head.replace("1.1", "1.0");
    let close = head(&["connection: close", "content-length: 2"]);
    let long = head(&["content-length: 9"]);
    let lengths = head(&["content-length: 2", "content-length: 8"]);
    let both = head(&["content-length: 2", "transfer-encoding: chunked"]);
    let zipped = head(&["transfer-encoding: gzip, chunked"]);
    let kept = head(&["keep-alive: timeout=1", "content-length: 2"]);
    let no_content = NO_CONTENT.replace("\r\n\r\n", "\r\ncontent-length: 2\r\n\r\n");
    let continued = format!("{}{LENGTH}", CONTINUE.repeat(100));
    let switched = CONTINUE.replace("100 Continue", "101 Switching");
    let timed_out = "HTTP/1.1 408 Request Timeout\r\n\r\n";
    vec![
        reused("a known length", LENGTH, "hi"),
        reused("chunks", CHUNKED, HI),
        reused("a trailer", CHUNKED, "2\r\nhi\r\n0\r\nx: y\r\n\r\n"),
        reused(
            "HTTP/1.0 that stays",
            &old(&head(&["connection: keep-alive", "content-length: 2"])),
            "hi",
        ),
        reused("many 1xx", &continued, "hi"),
        reused("a 204", NO_CONTENT, "").with_content(""),
        reused("a 304 that tells a length, like HEAD", UNMODIFIED, "").with_content(""),
        // Bytes after an answer was read.
        distrusted("late: an answer", LENGTH, "hi").then(Send(POISON)),
        distrusted("late: an answer after chunks", CHUNKED, HI).then(Send(POISON)),
        distrusted("late: one byte", LENGTH, "hi").then(Send("x")),
        distrusted("late: a line end", CHUNKED, HI).then(Send("\r\n")),
        distrusted("late: a 1xx", LENGTH, "hi").then(Send(CONTINUE)),
        closed("late: a 408", CHUNKED, HI).then(Send(timed_out)),
        closed("late: a close", CHUNKED, HI).then(Close),
        closed("late: a reset", LENGTH, "hi").then(Reset),
        // Bytes that come with it, or right behind it.
        distrusted("behind: an answer", LENGTH, &format!("hi{POISON}")),
        distrusted(
            "behind: an answer after chunks",
            CHUNKED,
            &format!("{HI}{POISON}"),
        ),
        distrusted("behind: a 1xx", LENGTH, &format!("hi{CONTINUE}")),
        distrusted("behind: a byte after chunks", CHUNKED, &format!("{HI}\0")),
        distrusted(
            "behind: another last chunk",
            CHUNKED,
            &format!("{HI}0\r\n\r\n"),
        ),
        distrusted("a length too small", LENGTH, "hi there"),
        distrusted("a 204 with a body", NO_CONTENT, "hi").with_content(""),
        distrusted("a 304 with a body", UNMODIFIED, "hi").with_content(""),
        // Connections that must not persist.
        closed("close", &close, "hi"),
        closed(
            "close, and an answer behind",
            &close,
            &format!("hi{POISON}"),
        ),
        closed("HTTP/1.0", &old(LENGTH), "hi"),
        closed("no length", NO_LENGTH, "hi").then(Close),
        closed("a timeout that is over at once", &kept, "hi"),
        // Answers that are ambiguous, malformed or cut.
        closed("a length and chunks", &both, HI),
        closed("a 204 with a length and a body", &no_content, "hi").with_content(""),
        closed("two lengths", &lengths, "hi").refused(),
        closed("an unknown coding", &zipped, HI).refused(),
        closed("HTTP/1.0 with chunks", &old(CHUNKED), HI).refused(),
        closed("too many 1xx", &CONTINUE.repeat(3000), "").refused(),
        closed("a 101", &switched, POISON).refused(),
        closed("a size that is none", CHUNKED, "2\r\nhi\r\nxyz\r\n").broken(),
        closed("a chunk too long", CHUNKED, "2\r\nhi!\r\n0\r\n\r\n").broken(),
        closed("an answer as a chunk", CHUNKED, &format!("{CHUNK}{POISON}")).broken(),
        closed(
            "an answer as a trailer",
            CHUNKED,
            &format!("{CHUNK}0\r\n{POISON}"),
        )
        .broken(),
        closed("a length too large", &long, "hi")
            .then(Close)
            .broken(),
        closed("no last chunk", CHUNKED, CHUNK).then(Close).broken(),
        closed("a cut trailer", CHUNKED, &format!("{CHUNK}0\r\nx: y\r\n"))
            .then(Close)
            .broken(),
        // Answers whose rest nobody reads.
        closed("dropped: a length", &long, "hi").then(Drop),
        closed("dropped: chunks", CHUNKED, CHUNK).then(Drop),
        closed("dropped: in a size", CHUNKED, "2\r\nhi\r\n2").then(Drop),
        closed(
            "dropped: in a trailer",
            CHUNKED,
            &format!("{CHUNK}0\r\nx: y\r\n"),
        )
        .then(Drop),
        closed("dropped: at the head", CHUNKED, "")
            .then(Drop)
            .with_content(""),
    ]
}

#[tokio::test]
async fn no_request_gets_bytes_of_an_earlier_answer() {
    let mut wrong = Vec::new();
    for case in cases() {
        for delivery in [Delivery::Whole, Delivery::Streamed, Delivery::Trickled] {
            let (content, fate) = spoil(&case, delivery).await;
            if (&content, fate) != (&case.content, case.fate) {
                wrong.push(format!(
                    "{}, {delivery:?}: {content:?}, {fate:?}",
                    case.name
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Sends the answer of a case on one connection, while another, clean one waits beside it. Three
/// requests then show what became of both.
async fn spoil(case: &Case, delivery: Delivery) -> (Content, Fate) {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = endpoint(upstream.addr());
    let (first, later) = match delivery {
        Delivery::Whole => (format!("{}{}", case.head, case.body), ""),
        Delivery::Streamed | Delivery::Trickled => (case.head.clone(), &*case.body),
    };
    let (waiting, mut clean) = begun(&upstream, &endpoint, LENGTH).await;
    let (response, odd) = begun(&upstream, &endpoint, &first).await;
    clean.write("hi").await;
    assert_eq!(read_all(waiting).await, Some(Ok("hi".to_owned())));
    let step = if matches!(delivery, Delivery::Trickled) {
        1
    } else {
        usize::MAX
    };
    let (content, mut odd) = end_odd(case, response, odd, later.as_bytes().chunks(step)).await;
    let (mut clean, mut asked) = (Some(clean), Vec::new());
    for number in 0..3 {
        let own = format!("own-{number}");
        let answering = answer_next(&upstream, &mut clean, &mut odd, &own);
        let (response, at) = tokio::join!(sent(&endpoint), answering);
        assert_eq!(
            read_all(response.ok()).await,
            Some(Ok(own)),
            "{}",
            case.name
        );
        asked.push(at);
    }
    // Of two clean connections, the one that rested longest is taken first. Bytes on an idle connection
    // are noticed when its turn comes.
    let opened = asked.iter().position(|at| *at == At::New).unwrap_or(3);
    let (reused, opened) = asked.split_at(opened);
    let fate = match (opened.len(), reused.contains(&At::Odd)) {
        (0, true) => Fate::Reused,
        (0, false) => Fate::Closed,
        (_, false) if opened.iter().all(|at| *at == At::New) => Fate::Distrusted,
        _ => panic!("{}, {delivery:?}: {asked:?}", case.name),
    };
    (content, fate)
}

/// Sends the rest of a case's answer, reads the answer and does what follows. Returns the connection
/// unless the upstream closed it.
async fn end_odd(
    case: &Case,
    response: Option<Response>,
    mut odd: Exchange,
    rest: impl Iterator<Item = &[u8]>,
) -> (Content, Option<Exchange>) {
    for piece in rest {
        // The client may have closed the connection at the head.
        odd.try_write(piece).await;
    }
    let content = match (case.then, response) {
        (Then::Close, response) => {
            drop(odd);
            return (read_all(response).await, None);
        }
        (Then::Drop, Some(mut response)) => {
            let length = case.content.iter().flatten().map(String::len).sum();
            let content = read_some(&mut response, length).await;
            drop(response);
            odd.try_write(format!("tail{POISON}").as_bytes()).await;
            Some(Ok(content))
        }
        (_, response) => read_all(response).await,
    };
    match case.then {
        Then::Send(late) => odd.write(late).await,
        Then::Reset => {
            odd.reset();
            return (content, None);
        }
        Then::Read | Then::Close | Then::Drop => {}
    }
    (content, Some(odd))
}

/// A new connection on which a request came, and its answer, if its head arrives.
async fn begun(
    upstream: &ScriptedUpstream,
    endpoint: &Endpoint,
    bytes: &str,
) -> (Option<Response>, Exchange) {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.try_write(bytes.as_bytes()).await;
        exchange
    };
    let (response, exchange) = tokio::join!(sent(endpoint), answering);
    (response.ok(), exchange)
}

/// Answers the next request, on whichever connection it comes.
async fn answer_next(
    upstream: &ScriptedUpstream,
    clean: &mut Option<Exchange>,
    odd: &mut Option<Exchange>,
    content: &str,
) -> At {
    let length = content.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{content}");
    loop {
        let (at, connection, asked) = tokio::select! {
            asked = next_request(clean), if clean.is_some() => (At::Clean, &mut *clean, asked),
            asked = next_request(odd), if odd.is_some() => (At::Odd, &mut *odd, asked),
            mut new = upstream.accept() => {
                assert!(new.next_request().await);
                new.write(answer).await;
                return At::New;
            }
        };
        if asked && let Some(connection) = connection {
            connection.write(answer).await;
            return at;
        }
        *connection = None;
    }
}

async fn next_request(connection: &mut Option<Exchange>) -> bool {
    connection.as_mut().unwrap().next_request().await
}

/// An answer's content, or what came of it before it broke; `None` if there is no answer.
async fn read_all(response: Option<Response>) -> Option<Result<String, String>> {
    let (content, end) = read(&mut response?.body).await;
    let content = String::from_utf8(content).unwrap();
    Some(match end {
        Ok(()) => Ok(content),
        Err(_) => Err(content),
    })
}

/// The first bytes of an answer's content.
async fn read_some(response: &mut Response, length: usize) -> String {
    let mut content = Vec::new();
    while content.len() < length {
        let body = &mut response.body;
        let ended =
            poll_fn(|context| body.poll_read(context, |bytes| content.extend_from_slice(bytes)));
        assert!(!within_timeout(ended).await.unwrap(), "the answer ends");
    }
    String::from_utf8(content).unwrap()
}
