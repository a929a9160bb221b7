//! One client's connection: HTTP/1.1 or HTTP/2, from its first bytes to its graceful end.

use std::future::{Future, poll_fn};
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use http::header::CONNECTION;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::socket::ClientSocket;
use crate::stream::Stop;

/// How long a client may take to send its request's head, and how long a connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bounds a request's head and each HTTP/1.1 connection's read buffer, in bytes.
const HEAD_CAP: u32 = 64 * 1024;
/// What an HTTP/2 client says first: <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read at once before it is known what a client speaks, in bytes: most requests whole.
const FIRST_READ: usize = 4 * 1024;
/// How many requests of one HTTP/2 connection may be open at a time.
const REQUESTS: u32 = 256;
/// How many bytes of one request's body, and of all of a connection's, may wait to be read.
const REQUEST_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How many bytes of an answer an HTTP/2 connection takes ahead of its client's window.
const SEND_AHEAD: usize = 16 * 1024;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIME: Duration = Duration::from_secs(20);

/// Serves one connection to its end; once `stop` is cancelled, no longer than its open answers take.
pub(super) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    if stream.set_nodelay(true).is_err() {
        return; // The client has gone already.
    }
    let first = tokio::select! {
        biased;
        first = tokio::time::timeout(HEAD_TIME, first_bytes(&mut stream)) => first,
        () = stop.cancelled() => return,
    };
    let Ok(Ok(first)) = first else {
        return; // It has said nothing.
    };
    // In boxes, so that neither takes the other's room too.
    let ended = if first.starts_with(PREFACE) {
        Box::pin(serve_http2(stream, first, peer, router, stop)).await
    } else {
        Box::pin(serve_http1(stream, first, peer, router, stop)).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// What a client says first: enough of it to know whether it speaks HTTP/2.
///
/// # Errors
/// If it says nothing before it leaves.
async fn first_bytes(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(FIRST_READ);
    loop {
        let left = stream.read_buf(&mut first).await? == 0;
        if first.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if left || first.starts_with(PREFACE) || !PREFACE.starts_with(&first) {
            return Ok(first);
        }
    }
}

async fn serve_http1(
    stream: TcpStream,
    first: Vec<u8>,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let service = router.map_request(move |request| from(peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_CAP as usize)
        // Copying a token is cheaper than gathering it.
        .writev(false)
        .serve_connection(
            TokioIo::new(ClientSocket::new(stream, first)),
            TowerToHyperService::new(service),
        );
    let mut connection = pin!(connection);
    let mut stop = Stop::new(stop);
    let served = poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending => stop.poll(context).map(|()| None),
    });
    match served.await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Each request of the connection is answered by a task of its own, so that one whose client does
/// not let it send holds up no other.
async fn serve_http2(
    stream: TcpStream,
    first: Vec<u8>,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let leave = stop.child_token();
    let service = router
        .map_request(move |request| from(peer, request))
        .map_response({
            let leave = leave.clone();
            move |response: Response| {
                if sends_away(&response) {
                    leave.cancel();
                }
                response
            }
        });
    let answers = Answers::default();
    let (reading, writing) = stream.into_split();
    let connection = http2::Builder::new(answers.clone())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_CAP)
        .max_concurrent_streams(REQUESTS)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_AHEAD)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIME)
        .serve_connection(
            TokioIo::new(tokio::io::join(Cursor::new(first).chain(reading), writing)),
            TowerToHyperService::new(service),
        );
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async {
            tokio::select! {
                () = leave.cancelled() => {}
                () = answers.idle() => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A connection that is gone ends them.
    answers.running.close();
    answers.running.wait().await;
    ended
}

/// Tells the handlers who asks.
fn from<B>(peer: SocketAddr, mut request: Request<B>) -> Request<B> {
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Whether the next request should find another replica. HTTP/2 has no `connection: close`, which
/// hyper takes out; there the connection says that it goes away. A stream says `close` too, because
/// nothing follows it, which in HTTP/2 its own end says.
fn sends_away(response: &Response) -> bool {
    !response.status().is_success() && response.headers().contains_key(CONNECTION)
}

/// Runs the answers of one HTTP/2 connection.
#[derive(Clone, Default)]
struct Answers {
    running: TaskTracker,
    begun: Arc<AtomicU64>,
}

impl Answers {
    /// Waits until there was no answer for some time, between one and two [`HEAD_TIME`]s.
    async fn idle(&self) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(HEAD_TIME).await;
            if self.running.is_empty() && self.begun.load(Ordering::Relaxed) == begun {
                return;
            }
        }
    }
}

impl<F> Executor<F> for Answers
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, answer: F) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.spawn(answer);
    }
}
