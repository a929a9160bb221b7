//! An upstream that follows a script for each request.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::table::Place;
use crate::gateway::scripted::{event, finish, role, token};
use crate::gateway::within_timeout;

/// What happened at an upstream so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub requests: u64,
    pub opened: u64,
    pub closed: u64,
    /// Scripts that have not come to their end.
    pub running: u64,
}

/// What happened at all upstreams of a case, in the order of its targets.
pub type Journal = Arc<watch::Sender<Vec<Counts>>>;

/// Serves until it is dropped.
pub struct Upstream {
    pub addr: SocketAddr,
    accepting: AbortHandle,
}

/// One upstream of a case, as its connections see it.
#[derive(Clone)]
struct Served {
    place: usize,
    journal: Journal,
    scripts: Arc<[Vec<String>]>,
}

/// Whether the connection can carry another request.
enum Next {
    Stay,
    Close,
}

impl Upstream {
    pub async fn serve(
        place: usize,
        at: Place,
        scripts: Vec<Vec<String>>,
        journal: &Journal,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let served = Served {
            place,
            journal: Arc::clone(journal),
            scripts: scripts.into(),
        };
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.count(|counts| counts.opened += 1);
                let served = served.clone();
                tokio::spawn(async move {
                    match at {
                        Place::NoTls => drop(stream),
                        Place::SilentTls => wait_for_close(&mut { stream }).await,
                        _ => served.converse(stream).await,
                    }
                    served.count(|counts| counts.closed += 1);
                });
            }
        });
        Self {
            addr,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Served {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.journal
            .send_modify(|counts| change(&mut counts[self.place]));
    }

    async fn converse(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        while read_request(&mut stream).await {
            let mut number = 0;
            self.count(|counts| {
                number = counts.requests as usize;
                counts.requests += 1;
                counts.running += 1;
            });
            let script = self.scripts.get(number).or(self.scripts.last());
            let script = script.expect("a target that was not to be asked");
            let mut next = Next::Stay;
            for action in script {
                match self.act(&mut stream, action).await {
                    Ok(Next::Stay) => {}
                    Ok(Next::Close) | Err(_) => {
                        next = Next::Close;
                        break;
                    }
                }
            }
            self.count(|counts| counts.running -= 1);
            if let Next::Close = next {
                break;
            }
        }
    }

    /// An error is a connection that the gateway closed.
    async fn act(&self, stream: &mut TcpStream, action: &str) -> std::io::Result<Next> {
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        match verb {
            "head" => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
            }
            "raw" => stream.write_all(rest.as_bytes()).await?,
            "status" => stream.write_all(status(rest).as_bytes()).await?,
            "role" => chunk(stream, &role()).await?,
            "token" => chunk(stream, &token(rest)).await?,
            // A token of so many bytes.
            "bulk" => chunk(stream, &token(&"x".repeat(rest.parse().unwrap()))).await?,
            "data" => chunk(stream, &format!("data: {rest}\n\n")).await?,
            "event" => {
                let data = serde_json::from_str(rest).unwrap();
                chunk(stream, &event(&data)).await?;
            }
            "comment" => chunk(stream, ": PROCESSING\n\n").await?,
            "finish" => {
                chunk(stream, &finish()).await?;
                stream.write_all(b"0\r\n\r\n").await?;
            }
            "end" => stream.write_all(b"0\r\n\r\n").await?,
            "close" => return Ok(Next::Close),
            "reset" => {
                stream.set_zero_linger()?;
                return Ok(Next::Close);
            }
            "hold" => {
                wait_for_close(stream).await;
                return Ok(Next::Close);
            }
            "pause" => tokio::time::sleep(humantime::parse_duration(rest).unwrap()).await,
            "until" => self.wait_for_requests(rest).await,
            "repeat" => return self.repeat(stream, rest).await,
            _ => panic!("unknown action `{action}`"),
        }
        Ok(Next::Stay)
    }

    /// `b 2`: waits until the upstream `b` got two requests.
    async fn wait_for_requests(&self, rest: &str) {
        let (name, number) = rest.split_once(' ').unwrap();
        let (place, number) = (place(name), number.parse().unwrap());
        let mut counts = self.journal.subscribe();
        let waiting = counts.wait_for(|counts| counts[place].requests >= number);
        within_timeout(waiting).await.unwrap();
    }

    /// `50ms comment`: repeats an action with a pause until the gateway closes the connection.
    async fn repeat(&self, stream: &mut TcpStream, rest: &str) -> std::io::Result<Next> {
        let (pause, action) = rest.split_once(' ').unwrap();
        let pause = humantime::parse_duration(pause).unwrap();
        loop {
            Box::pin(self.act(stream, action)).await?;
            let closing = wait_for_close(stream);
            if tokio::time::timeout(pause, closing).await.is_ok() {
                return Ok(Next::Close);
            }
        }
    }
}

/// The place of the target with this name.
pub fn place(name: &str) -> usize {
    usize::from(name.as_bytes()[0] - b'a')
}

/// Reads the next request; `false` if the connection is closed instead.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return true;
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

async fn wait_for_close(stream: &mut TcpStream) {
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest).await, Ok(length) if length > 0) {}
}

async fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).await
}

/// `429 retry-after: 1`: a whole answer with this status and header.
fn status(rest: &str) -> String {
    let (status, header) = rest.split_once(' ').unwrap_or((rest, ""));
    let header = match header {
        "" => String::new(),
        header => format!("{header}\r\n"),
    };
    let body = "{\"error\":{\"message\":\"no\"}}";
    format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n{header}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
