//! The HTTP/1.1 client for model APIs. A request is sent and its answer read in the task that needs
//! it: no other task and no queue is between a stream and its upstream's socket, and a waiting
//! stream holds no buffer.
//!
//! | file | does |
//! |---|---|
//! | `connect` | opens connections: TCP, HTTP proxies and TLS |
//! | `pool` | idle connections that can be reused |
//! | `settings` | how connections are kept and reused |
//! | `request` | encodes a request |
//! | `head` | parses an answer's status, headers and body length |
//! | `decoder` | removes the transfer coding from a body; pure |
//! | `body` | reads an answer's body from its connection |
//! | `scratch` | the thread's buffer that sockets are read into |

mod body;
mod connect;
pub mod decoder;
pub mod head;
mod pool;
mod request;
mod scratch;
mod settings;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use url::{Position, Url};

pub use body::Body;
pub use connect::{ClientCertificate, Connector, Proxy, custom_certificates, system_certificates};

pub use request::Request;
pub use settings::Reuse;

use connect::{Connection, Dialer};
use decoder::Decoder;
use head::Head;
use pool::Pool;

/// The longest head of an answer, in bytes, informational heads before it included.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// One scheme, host and port, and the connections to it.
pub struct Endpoint {
    /// The value of the `host` header.
    host: String,
    /// For plaintext through a proxy: what requests put before their path, and the credential.
    proxied: Option<Proxied>,
    dialer: Dialer,
    pool: Pool,
}

struct Proxied {
    /// Scheme, host and port.
    origin: String,
    authorization: Option<HeaderValue>,
}

/// An answer whose body is still to be read. Dropping the body closes the connection.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum ExchangeError {
    /// No connection could be opened: DNS, TCP or TLS failed.
    Connect(ConnectStage, Box<dyn std::error::Error + Send + Sync>),
    /// Connecting took longer than `timeouts.connect`.
    ConnectTimeout,
    /// The connection ended before the whole head of the answer arrived.
    Closed(io::Error),
    /// The answer is not HTTP/1.1, or cannot be understood.
    Malformed(&'static str),
}

/// Where opening a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectStage {
    Resolve,
    Tcp,
    Proxy,
    Tls,
}

impl Endpoint {
    /// The endpoint of an `http` or `https` URL; its path is ignored.
    pub fn new(url: &Url, connector: &Connector) -> Self {
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let proxy = connector.proxy.as_ref().filter(|_| url.scheme() == "http");
        let proxied = proxy.map(|proxy| Proxied {
            origin: url[..Position::BeforePath].to_owned(),
            authorization: proxy.authorization(),
        });
        Self {
            host: host.to_owned(),
            proxied,
            pool: Pool::new(host, connector.pool),
            dialer: connector.dialer(url),
        }
    }

    /// A `POST` to `path`, which may have a query. Through a proxy, a plaintext request names its
    /// whole URL (RFC 9112, section 3.2.2).
    pub fn post(&self, path: &str, headers: &HeaderMap, body: Vec<u8>) -> Request {
        let Some(proxied) = &self.proxied else {
            return Request::post(path, &self.host, headers, body);
        };
        let target = format!("{}{path}", proxied.origin);
        let mut headers = headers.clone();
        if let Some(authorization) = &proxied.authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Request::post(&target, &self.host, &headers, body)
    }

    /// Sends a request and waits for the answer's head, over an idle connection if there is one. A
    /// request is not sent again after any of its bytes were written.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, request: &Request) -> Result<Response, ExchangeError> {
        while let Some(connection) = self.pool.take() {
            match self.exchange(connection, request).await {
                // The connection was closed while idle, and nothing was written. The next one is
                // tried.
                Err(AttemptError::Unsent(_)) => {}
                Err(AttemptError::Sent(failure)) => return Err(failure),
                Ok(response) => return Ok(response),
            }
        }
        let connection = self.dialer.connect().await?;
        let answer = self.exchange(connection, request).await;
        answer.map_err(|error| match error {
            AttemptError::Unsent(error) => ExchangeError::Connect(ConnectStage::Tcp, error.into()),
            AttemptError::Sent(failure) => failure,
        })
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: &Request,
    ) -> Result<Response, AttemptError> {
        let started = Instant::now();
        connection.count_request();
        let mut exchange = Exchange {
            connection,
            request,
            sent: 0,
            sending: SendState::Writing,
            head: Vec::new(),
            skipped: 0,
            premature: false,
        };
        let (head, early) = poll_fn(|context| exchange.poll(context)).await?;
        self.pool.record(started.elapsed());
        exchange.connection.set_idle_limit(head.idle_limit);
        let unsent = match exchange.sending {
            SendState::Done => None,
            _ => Some(request.remaining(exchange.sent).into()),
        };
        let decoder = Decoder::new(head.length);
        let reusable = head.keep_alive && !exchange.premature;
        let pool = reusable.then(|| self.pool.clone());
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: Body::new(exchange.connection, decoder, early, unsent, pool),
        })
    }
}

/// Why one connection gave no answer.
enum AttemptError {
    /// Nothing of the request was written.
    Unsent(io::Error),
    Sent(ExchangeError),
}

/// A request that is being written and the head that is being read.
struct Exchange<'a> {
    connection: Connection,
    request: &'a Request,
    /// Bytes of the request that are written.
    sent: usize,
    sending: SendState,
    /// The bytes of a head that is incomplete.
    head: Vec<u8>,
    /// The length of the informational heads that came first, in bytes.
    skipped: usize,
    /// Whether the answer began before the request was written, or in the same moment: then it may
    /// not be the answer to this request, and the connection is not reused.
    premature: bool,
}

enum SendState {
    Writing,
    Flushing,
    Done,
    /// The upstream stopped reading. It may have sent an answer before that.
    Failed,
}

impl Exchange<'_> {
    /// The answer's head, and the bytes of its body that arrived with it. An answer may come before
    /// the request is written.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(Head, Vec<u8>), AttemptError>> {
        let was_sent = self.is_sent();
        if let Err(error) = self.send(context) {
            return Poll::Ready(Err(AttemptError::Unsent(error)));
        }
        self.premature |= !was_sent && self.connection.has_unread_bytes();
        scratch::with(|buffer| self.receive(context, buffer, was_sent)).map_err(AttemptError::Sent)
    }

    /// # Errors
    /// If nothing of the request could be written.
    fn send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            match self.sending {
                SendState::Writing if self.sent == self.request.len() => {
                    self.sending = SendState::Flushing;
                }
                SendState::Writing => {
                    let rest = self.request.slices(self.sent);
                    let connection = Pin::new(&mut self.connection);
                    match connection.poll_write_vectored(context, &rest) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(Ok(written)) if written > 0 => self.sent += written,
                        Poll::Ready(Err(error)) if self.sent == 0 && self.connection.is_plain() => {
                            return Err(error);
                        }
                        Poll::Ready(_) => self.sending = SendState::Failed,
                    }
                }
                SendState::Flushing => match Pin::new(&mut self.connection).poll_flush(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(())) => self.sending = SendState::Done,
                    Poll::Ready(Err(_)) => self.sending = SendState::Failed,
                },
                SendState::Done | SendState::Failed => return Ok(()),
            }
        }
    }

    fn is_sent(&self) -> bool {
        matches!(self.sending, SendState::Done)
    }

    /// `was_sent`: the request was written before this poll.
    fn receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        was_sent: bool,
    ) -> Poll<Result<(Head, Vec<u8>), ExchangeError>> {
        loop {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.connection).poll_read(context, &mut read))
                .map_err(ExchangeError::Closed)?;
            if read.filled().is_empty() {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Poll::Ready(Err(ExchangeError::Closed(error)));
            }
            self.premature |= !was_sent;
            if let Some(whole) = self.read(read.filled())? {
                return Poll::Ready(Ok(whole));
            }
        }
    }

    /// Adds the bytes that were read. Returns the head and the bytes after it once it is complete.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<(Head, Vec<u8>)>, ExchangeError> {
        // A head usually comes in one piece. One that trickles in is not parsed again for every
        // byte.
        let mut kept = std::mem::take(&mut self.head);
        let mut rest = bytes;
        if !kept.is_empty() {
            let seam = kept.len().saturating_sub(3);
            kept.extend_from_slice(bytes);
            if !head::may_end(&kept[seam..]) {
                self.head = kept;
                return self.check_length().map(|()| None);
            }
            rest = &kept;
        }
        while let Some((head, length)) = head::parse(rest).map_err(ExchangeError::Malformed)? {
            rest = &rest[length..];
            self.skipped += length;
            self.check_length()?;
            if !head.status.is_informational() {
                return Ok(Some((head, rest.to_vec())));
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(ExchangeError::Malformed("it switches to another protocol"));
            }
        }
        self.head = rest.to_vec();
        self.check_length().map(|()| None)
    }

    fn check_length(&self) -> Result<(), ExchangeError> {
        if self.skipped + self.head.len() > MAX_HEAD_BYTES {
            return Err(ExchangeError::Malformed("its head is too long"));
        }
        Ok(())
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(ConnectStage::Resolve, _) => "the host name was not found",
            Self::Connect(ConnectStage::Tcp, _) => "the TCP connection failed",
            Self::Connect(ConnectStage::Proxy, _) => "the proxy opened no tunnel",
            Self::Connect(ConnectStage::Tls, _) => "the TLS handshake failed",
            Self::ConnectTimeout => "connecting took too long",
            Self::Closed(_) => "the connection ended",
            Self::Malformed(why) => return write!(f, "the answer cannot be parsed: {why}"),
        })
    }
}

impl std::error::Error for ExchangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(_, error) => Some(&**error),
            Self::Closed(error) => Some(error),
            Self::ConnectTimeout | Self::Malformed(_) => None,
        }
    }
}
