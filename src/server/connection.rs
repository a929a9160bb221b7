//! One client's connection: HTTP/1.1 or HTTP/2, from its first bytes to its graceful end.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::header::CONNECTION;
use http::{Method, Request, Version};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::socket::ClientSocket;
use super::streaming;
use crate::stream::CancelWaiter;

/// How long a client may take to send its request's head, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds a request's head and each HTTP/1.1 connection's read buffer, in bytes.
const HEAD_CAP: u32 = 64 * 1024;
/// What an HTTP/2 client says first: <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read at once before it is known what a client speaks, in bytes: most requests whole.
const FIRST_READ: usize = 4 * 1024;
/// How many requests of one HTTP/2 connection may be open at a time.
const MAX_OPEN_REQUESTS: u32 = 256;
/// How many bytes of one request's body, and of all of a connection's, may wait to be read.
const REQUEST_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How many bytes of an answer an HTTP/2 connection takes ahead of its client's window.
const SEND_BUFFER: usize = 16 * 1024;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

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
        first = tokio::time::timeout(HEAD_TIMEOUT, read_first_bytes(&mut stream)) => first,
        () = stop.cancelled() => return,
    };
    let Ok(Ok(first)) = first else {
        return; // It has said nothing.
    };
    // In boxes, so that none takes the others' room too.
    if first.starts_with(PREFACE) {
        let ended = Box::pin(serve_http2(stream, first, peer, router, stop)).await;
        return log_end(peer, ended);
    }
    let handed_over = Box::pin(serve_http1(stream, first, peer, router, stop)).await;
    match handed_over {
        Ok(None) => {}
        Ok(Some((socket, answer))) => log_end(peer, streaming::write(socket, answer).await),
        Err(error) => log_end(peer, Err(error)),
    }
}

fn log_end(peer: SocketAddr, ended: Result<(), impl Display>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// What a client says first: enough of it to know whether it speaks HTTP/2.
///
/// # Errors
/// If it says nothing before it leaves.
async fn read_first_bytes(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
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

/// Serves a connection up to its last answer. `None` where that was written, or else the answer, which
/// streams and is still to be [written](streaming::write).
async fn serve_http1(
    stream: TcpStream,
    first: Vec<u8>,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) -> hyper::Result<Option<(TcpStream, Response)>> {
    let (unflushed, streamed) = (
        Arc::<AtomicBool>::default(),
        Arc::<StreamedAnswer>::default(),
    );
    let service = service_fn({
        let streamed = Arc::clone(&streamed);
        move |request| {
            answer(
                with_peer(peer, request),
                router.clone(),
                Arc::clone(&streamed),
            )
        }
    });
    let socket = ClientSocket::new(stream, first, Arc::clone(&unflushed));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_CAP as usize)
        // Copying a small answer is cheaper than gathering it.
        .writev(false)
        .serve_connection(TokioIo::new(socket), service);
    let (mut stop, mut shutting_down) = (CancelWaiter::new(stop), false);
    let answer = poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                return Poll::Ready(ended.map(|()| None));
            }
            // An answer before the last one may not have been taken by its client yet.
            if !unflushed.load(Ordering::Relaxed)
                && let Some(answer) = streamed.take()
            {
                return Poll::Ready(Ok(Some(answer)));
            }
            if shutting_down || stop.poll(context).is_pending() {
                return Poll::Pending;
            }
            shutting_down = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    });
    let answer = answer.await?;
    let socket = connection.into_parts().io.into_inner().into_inner();
    Ok(answer.map(|answer| (socket, answer)))
}

/// A streaming answer that waits for hyper to be done with its connection.
#[derive(Default)]
struct StreamedAnswer(Mutex<Option<Response>>);

impl StreamedAnswer {
    fn lock(&self) -> MutexGuard<'_, Option<Response>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answer: Response) {
        *self.lock() = Some(answer);
    }

    fn take(&self) -> Option<Response> {
        self.lock().take()
    }
}

/// Answers a request, unless its answer streams: that is put where the connection's owner takes it,
/// and hyper waits until it is taken out of the way.
async fn answer(
    request: Request<Incoming>,
    router: Router,
    streamed: Arc<StreamedAnswer>,
) -> Result<Response, Infallible> {
    let can_stream = request.version() == Version::HTTP_11 && request.method() != Method::HEAD;
    let answer = router.oneshot(request).await?;
    if !(can_stream && streaming::is_streamed(&answer)) {
        return Ok(answer);
    }
    streamed.put(answer);
    std::future::pending().await
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
    let go_away = stop.child_token();
    let service = router
        .map_request(move |request| with_peer(peer, request))
        .map_response({
            let go_away = go_away.clone();
            move |response: Response| {
                if closes_connection(&response) {
                    go_away.cancel();
                }
                response
            }
        });
    let tasks = AnswerTasks::default();
    let (reading, writing) = stream.into_split();
    let connection = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_CAP)
        .max_concurrent_streams(MAX_OPEN_REQUESTS)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(
            TokioIo::new(tokio::io::join(Cursor::new(first).chain(reading), writing)),
            TowerToHyperService::new(service),
        );
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async {
            tokio::select! {
                () = go_away.cancelled() => {}
                () = tasks.wait_idle() => {}
            }
        } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A connection that is gone ends them.
    tasks.running.close();
    tasks.running.wait().await;
    ended
}

/// Tells the handlers who asks.
fn with_peer<B>(peer: SocketAddr, mut request: Request<B>) -> Request<B> {
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Whether the next request should find another replica. HTTP/2 has no `connection: close`, which
/// hyper takes out; there the connection says that it goes away. A stream says `close` too, because
/// nothing follows it, which in HTTP/2 its own end says.
fn closes_connection(response: &Response) -> bool {
    !response.status().is_success() && response.headers().contains_key(CONNECTION)
}

/// Runs the answers of one HTTP/2 connection.
#[derive(Clone, Default)]
struct AnswerTasks {
    running: TaskTracker,
    started: Arc<AtomicU64>,
}

impl AnswerTasks {
    /// Waits until there was no answer for some time, between one and two [`HEAD_TIMEOUT`]s.
    async fn wait_idle(&self) {
        loop {
            let started = self.started.load(Ordering::Relaxed);
            tokio::time::sleep(HEAD_TIMEOUT).await;
            if self.running.is_empty() && self.started.load(Ordering::Relaxed) == started {
                return;
            }
        }
    }
}

impl<F> Executor<F> for AnswerTasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, answer: F) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.running.spawn(answer);
    }
}
