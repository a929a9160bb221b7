//! A client that behaves as an `EventSource`: it reads, loses its connection, comes back to any replica
//! with the id of its last event, and stops at a terminal event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::site::Site;
use crate::gateway::client::{ClientRequest, Event, parsed};
use crate::raw_client::RawClient;
use crate::seed::Random;

/// The longest silence; heartbeats come every second.
const SILENCE: Duration = Duration::from_secs(8);
/// How long answers may say that the stream is unavailable.
const UNAVAILABLE: Duration = Duration::from_secs(6);
/// How long a client asks for a stream that no replica knows.
const UNKNOWN: Duration = Duration::from_secs(2);
/// How long a client waits before it comes back.
const PAUSE: Duration = Duration::from_millis(20);

/// One client, and all that it got.
pub struct Reader {
    site: Arc<Site>,
    random: Random,
    /// Its request.
    asked: ClientRequest,
    pub events: Vec<Event>,
    /// How often it asked without an id.
    pub fresh_requests: u64,
    /// How often it got an answer, or a part of one, to such a request.
    pub fresh_answers: u64,
    /// How often it came back with an id.
    pub resumes: u64,
    /// How often it got an error that says that the rest is elsewhere.
    pub redirects: u64,
    /// The replica that sent it the first event.
    pub origin: usize,
    /// When that was.
    pub began: Option<Instant>,
    /// Whether it gave up because no replica knows the stream.
    pub forgotten: bool,
    /// When its last connection was made.
    pub connected: Instant,
    /// Since when no replica can or will send it more.
    unavailable: Option<Instant>,
}

/// How a connection ended.
enum End {
    /// Before its end.
    Cut,
    /// No gateway was listening.
    Refused,
    /// With an answer that is not a stream.
    Status(u16),
}

/// The part of an answer that has arrived; incomplete chunks count.
#[derive(Default)]
struct Inflow {
    raw: Vec<u8>,
    status: Option<u16>,
    /// The missing bytes of a chunk.
    left: usize,
    text: Vec<u8>,
}

impl Reader {
    /// Asks the model, each time with its own prompt: this one and a number.
    pub fn new(site: &Arc<Site>, random: Random, model: &str, prompt: &str) -> Self {
        let path = format!("/v1/streams?model={model}&prompt={prompt}.");
        Self::of(site, random, ClientRequest::new("GET", path))
    }

    /// Reads an existing stream.
    pub fn viewer(site: &Arc<Site>, random: Random, stream: &str) -> Self {
        let asked = ClientRequest::new("GET", format!("/v1/streams/{stream}/events"));
        Self::of(site, random, asked)
    }

    fn of(site: &Arc<Site>, random: Random, asked: ClientRequest) -> Self {
        Self {
            site: Arc::clone(site),
            random,
            asked,
            events: Vec::new(),
            fresh_requests: 0,
            fresh_answers: 0,
            resumes: 0,
            redirects: 0,
            origin: 0,
            began: None,
            forgotten: false,
            connected: Instant::now(),
            unavailable: None,
        }
    }

    /// Whether it asks a model.
    pub fn asks(&self) -> bool {
        self.asked.path.contains("prompt=")
    }

    /// The prompt whose answer it reads.
    pub fn prompt(&self) -> String {
        let (_, prompt) = self.asked.path.split_once("prompt=").unwrap();
        format!("{prompt}{}", self.fresh_requests - 1)
    }

    pub fn stream(&self) -> Option<&str> {
        let (stream, _) = self.events.first()?.id.split_once('.')?;
        Some(stream)
    }

    pub fn over(&self) -> bool {
        let terminal = |event: &Event| matches!(event.name.as_str(), "complete" | "error");
        self.events.last().is_some_and(terminal)
    }

    /// Reads until it has `enough` events, or the terminal one.
    ///
    /// # Panics
    /// If it gets nothing for too long, or an answer that says that nothing follows before the end.
    pub async fn read(&mut self, enough: usize) {
        while !self.over() && !self.forgotten && self.events.len() < enough {
            let replica = self.random.within(0..self.site.len() as u64) as usize;
            match self.connection(replica, enough).await {
                End::Cut => self.unavailable = None,
                end @ (End::Status(404 | 503) | End::Refused) => {
                    let since = *self.unavailable.get_or_insert_with(Instant::now);
                    let waited = since.elapsed();
                    self.forgotten = matches!(end, End::Status(404)) && waited > UNKNOWN;
                    assert!(waited < UNAVAILABLE, "no replica has {:?}", self.stream());
                    sleep(PAUSE).await;
                }
                End::Status(status) => panic!(
                    "{status} for {:?} behind {:?}",
                    self.asked.path,
                    self.events.last()
                ),
            }
        }
    }

    /// The status that it gets if it comes back once more.
    pub async fn resume_status(&mut self) -> u16 {
        let started = Instant::now();
        while started.elapsed() < UNAVAILABLE {
            let replica = self.random.within(0..self.site.len() as u64) as usize;
            match self.connection(replica, usize::MAX).await {
                End::Status(status) if status != 503 => return status,
                _ => sleep(PAUSE).await,
            }
        }
        panic!("no answer to {:?} at the end", self.stream());
    }

    async fn connection(&mut self, replica: usize, enough: usize) -> End {
        let addr = self.site.front(replica);
        // The end of the connection is the end of the stream.
        let mut asked = self.asked.clone().header("connection", "close");
        if self.asks() {
            asked.path += &self.fresh_requests.to_string();
        }
        let resumes = match self.events.last() {
            Some(last) => {
                asked = asked.header("last-event-id", &last.id);
                true
            }
            None => false,
        };
        let Some(mut stream) = ask(addr, &asked).await else {
            return End::Refused;
        };
        self.fresh_requests += u64::from(!resumes);
        self.connected = Instant::now();
        let mut inflow = Inflow::default();
        let mut buffer = [0; 4096];
        let mut heard = false;
        while self.events.len() < enough {
            let read = timeout(SILENCE, stream.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("silence on {:?}", self.asked.path));
            let Ok(read @ 1..) = read else {
                break;
            };
            if !heard {
                heard = true;
                self.resumes += u64::from(resumes);
                self.fresh_answers += u64::from(!resumes);
            }
            inflow.take(&buffer[..read]);
            match inflow.status {
                None | Some(200) => {}
                Some(status) => return End::Status(status),
            }
            for event in inflow.events() {
                // An error with the id of the last event is not the stream's end: the rest is elsewhere.
                let last = self.events.last();
                if event.name == "error" && last.is_some_and(|last| last.id == event.id) {
                    self.redirects += 1;
                    return End::Cut;
                }
                if self.events.is_empty() {
                    self.origin = replica;
                    self.began = Some(Instant::now());
                }
                self.events.push(event);
            }
        }
        if heard { End::Cut } else { End::Refused }
    }
}

async fn ask(addr: SocketAddr, asked: &ClientRequest) -> Option<TcpStream> {
    let mut client = RawClient::connect(addr).await.ok()?;
    let headers: Vec<_> = asked
        .headers
        .iter()
        .map(|(n, v)| (*n, v.as_str()))
        .collect();
    let sent = client.send_with(asked.method, &asked.path, &headers, &asked.body);
    sent.await.ok()?;
    Some(client.into_stream())
}

impl Inflow {
    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        if self.status.is_none() {
            let Some(end) = self.raw.windows(4).position(|four| four == b"\r\n\r\n") else {
                return;
            };
            let head = String::from_utf8(self.raw.drain(..end + 4).collect()).unwrap();
            self.status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
        }
        while !self.raw.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(self.raw.len());
                self.text.extend(self.raw.drain(..taken));
                self.left -= taken;
                continue;
            }
            let Some(end) = self.raw.windows(2).position(|two| two == b"\r\n") else {
                return;
            };
            let line: Vec<u8> = self.raw.drain(..end + 2).collect();
            let size = std::str::from_utf8(&line[..end]).unwrap();
            // The end of the chunk before has an empty line.
            if !size.is_empty() && self.status == Some(200) {
                self.left = usize::from_str_radix(size, 16).unwrap();
            }
        }
    }

    /// The complete events.
    fn events(&mut self) -> impl Iterator<Item = Event> + use<> {
        let whole = self.text.windows(2).rposition(|two| two == b"\n\n");
        let whole = self.text.drain(..whole.map_or(0, |end| end + 2)).collect();
        parsed(&String::from_utf8(whole).unwrap()).into_iter()
    }
}
