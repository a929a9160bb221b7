//! HTTP/2: every request of a connection is answered by a task of its own, so that an answer that its
//! client does not read blocks no other.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use h2::Reason;
use http::header::CONNECTION;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::service::{HEAD_TIMEOUT, Peer, Service};
use super::socket::Rewound;

/// Bounds a request's headers, in bytes as HTTP/2 counts them (32 for each, and its text). One byte
/// on the wire can stand for a whole header.
const HEADER_LIST_CAP: u32 = 16 * 1024;
/// How many headers a request may have.
const MAX_HEADERS: usize = 100;
/// How many requests of one connection may be open at a time.
const MAX_OPEN_REQUESTS: u32 = 256;
/// How many while none of the connection's requests was admitted; the next ones are reset with
/// REFUSED_STREAM, after which a client may send them again.
const MAX_OPEN_REQUESTS_BEFORE_ADMISSION: usize = 64;
/// How many bytes of one request's body, and of all of a connection's, may wait to be read.
const REQUEST_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How many bytes of an answer a connection takes ahead of its client's window.
const SEND_BUFFER: usize = 16 * 1024;
/// How often a client is pinged, and how long it may take to acknowledge.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection to its end. `bytes` were read from it already.
pub(super) async fn serve<S>(
    socket: S,
    bytes: Vec<u8>,
    peer: &Peer,
    service: &Service,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let go_away = service.closing.child_token();
    let tasks = AnswerTasks::default();
    // Called while the connection is polled: a head that is refused here never waits for a task.
    let handler = service_fn(|request: Request<Incoming>| {
        let admitted = match refusal(&request, peer, tasks.running.len()) {
            Some(refused) => Err(refused),
            None => Ok(peer.attach(request)),
        };
        let (router, go_away) = (service.router.clone(), go_away.clone());
        async move {
            let response = match admitted {
                Ok(request) => router.oneshot(request).await.unwrap_or_else(|e| match e {}),
                Err(refused) => refused?,
            };
            if closes_connection(&response) {
                go_away.cancel();
            }
            Ok::<_, h2::Error>(response)
        }
    });
    let connection = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_LIST_CAP)
        .max_concurrent_streams(MAX_OPEN_REQUESTS)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(Rewound::new(socket, bytes)), handler);
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
    // A connection that is gone ends its answers.
    tasks.running.close();
    tasks.running.wait().await;
    ended
}

/// Why a request is refused before a task is spent on it, if it is.
fn refusal<B>(
    request: &Request<B>,
    peer: &Peer,
    open: usize,
) -> Option<Result<Response, h2::Error>> {
    if request.headers().len() > MAX_HEADERS {
        return Some(Ok(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()
        ));
    }
    let refused = open >= MAX_OPEN_REQUESTS_BEFORE_ADMISSION && !peer.is_admitted();
    refused.then(|| Err(Reason::REFUSED_STREAM.into()))
}

/// Whether the next request should reach another replica. HTTP/2 has no `connection: close`, which
/// hyper removes; there the connection sends GOAWAY.
fn closes_connection(response: &Response) -> bool {
    !response.status().is_success() && response.headers().contains_key(CONNECTION)
}

/// Runs the answers of one connection.
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
