//! HTTP/1.1: requests and whole answers by hyper, up to an answer that streams.
//!
//! hyper hands the connection over before it wrote anything of such an answer. This relies on how
//! hyper behaves (see the canary tests): it reads a whole request before its body ends, keeps what it
//! read beyond it in the buffer that `into_parts` returns, writes nothing while the service is
//! pending, and flushes whenever it has polled the connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use super::raw_head::{NextHead, Seen};
use super::service::{HEAD_CAP, KEEP_ALIVE_TIMEOUT, Peer, Service};
use super::socket::ClientSocket;
use super::streaming::{self, StreamedAnswer};
use crate::stream::CancelWaiter;

/// Serves a connection up to its first answer that streams; `None` where it ended before one.
pub(super) async fn serve<S>(
    socket: S,
    bytes: Vec<u8>,
    peer: &Peer,
    service: &Service,
) -> hyper::Result<Option<StreamedAnswer<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (unflushed, handover) = (Arc::<AtomicBool>::default(), Arc::<Handover>::default());
    let next_head = Arc::clone(&handover.next_head);
    let handler = service_fn({
        let (handover, peer, router) = (Arc::clone(&handover), peer.clone(), &service.router);
        move |request| answer(peer.attach(request), router.clone(), Arc::clone(&handover))
    });
    let socket = ClientSocket::new(socket, bytes, Arc::clone(&unflushed), next_head);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The first head is whole already; this bounds the wait for the next ones.
        .header_read_timeout(KEEP_ALIVE_TIMEOUT)
        .max_buf_size(HEAD_CAP)
        // Copying a small answer is cheaper than gathering it.
        .writev(false)
        .serve_connection(TokioIo::new(socket), handler);
    let (mut stop, mut closing) = (CancelWaiter::new(service.closing.clone()), false);
    let answer = poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                return Poll::Ready(ended.map(|()| None));
            }
            // The client may not have taken all of an earlier answer yet.
            if !unflushed.load(Ordering::Relaxed)
                && let Some(answer) = handover.take()
            {
                return Poll::Ready(Ok(Some(answer)));
            }
            if closing || stop.poll(context).is_pending() {
                return Poll::Pending;
            }
            closing = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
    });
    let Some((answer, keeps_alive)) = answer.await? else {
        return Ok(None);
    };
    let parts = connection.into_parts();
    let (socket, read_ahead) = parts.io.into_inner().into_parts();
    Ok(Some(StreamedAnswer {
        socket,
        answer,
        // hyper read its part first.
        pipelined: [&parts.read_buf[..], &read_ahead].concat(),
        keeps_alive: keeps_alive && !handover.has_unread_body(),
    }))
}

/// An answer that streams, until the connection's owner takes it; with it, whether the client's next
/// request may follow it.
#[derive(Default)]
struct Handover {
    answer: Mutex<Option<(Response, bool)>>,
    /// Whether the current request has a body that was not read to its end.
    unread_body: AtomicBool,
    next_head: Arc<NextHead>,
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, Option<(Response, bool)>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answer: Response, keeps_alive: bool) {
        *self.lock() = Some((answer, keeps_alive));
    }

    fn take(&self) -> Option<(Response, bool)> {
        self.lock().take()
    }

    fn has_unread_body(&self) -> bool {
        self.unread_body.load(Ordering::Relaxed)
    }

    fn set_unread_body(&self, unread: bool) {
        self.unread_body.store(unread, Ordering::Relaxed);
        if !unread {
            self.next_head.expect();
        }
    }
}

/// Answers a request. An answer that streams is handed over instead, and hyper waits until the
/// connection is taken from it.
async fn answer(
    mut request: Request<Incoming>,
    router: Router,
    handover: Arc<Handover>,
) -> Result<Response, Infallible> {
    let can_stream = request.version() == Version::HTTP_11 && request.method() != Method::HEAD;
    let mut keeps_alive = !asks_to_close(request.headers());
    let fault = match handover.next_head.take() {
        Seen::Whole(fault) => fault,
        // hyper closes after a head with two lengths, but does not show here that it had them.
        Seen::Part => {
            keeps_alive = false;
            None
        }
    };
    if let Some(fault) = fault {
        request.extensions_mut().insert(fault);
    }
    handover.set_unread_body(!request.body().is_end_stream());
    let request = request.map(|body| match body.is_end_stream() {
        true => Body::empty(),
        false => Body::new(TrackedBody {
            body,
            handover: Arc::clone(&handover),
        }),
    });
    let mut answer = router.oneshot(request).await?;
    if fault.is_some() {
        // The client and the gateway may not agree on where the next request begins.
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    if !(can_stream && streaming::is_streamed(&answer)) {
        return Ok(answer);
    }
    handover.put(answer, keeps_alive);
    std::future::pending().await
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONNECTION).iter();
    values.any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

/// A request's body that notes when it was read to its end: what follows is the next request.
struct TrackedBody {
    body: Incoming,
    handover: Arc<Handover>,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || (matches!(frame, Some(Ok(_))) && self.body.is_end_stream()) {
            self.handover.set_unread_body(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use std::task::Waker;

    use http_body_util::BodyExt as _;
    use tokio::io::ReadBuf;

    use super::*;

    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
    const CHUNKED: &[u8] =
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n";

    /// A client that sent `input` and counts what hyper does.
    #[derive(Default)]
    struct Recorded {
        input: Vec<u8>,
        written: usize,
        flushes: Arc<AtomicUsize>,
    }

    impl AsyncRead for Recorded {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.input.is_empty() {
                return Poll::Pending;
            }
            let length = buffer.remaining().min(self.input.len());
            buffer.put_slice(&self.input[..length]);
            self.input.drain(..length);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Recorded {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A canary: the hand-over relies on this behaviour of hyper, which its documentation does not
    /// promise. `Cargo.toml` pins hyper's version; where this fails after an update, read
    /// `proto/h1/{conn,dispatch,io}.rs` again before the pin is moved.
    #[tokio::test]
    async fn hyper_behaves_as_the_hand_over_relies_on() {
        for request in [REQUEST, CHUNKED] {
            let client = Recorded {
                input: [request, NEXT].concat(),
                ..Recorded::default()
            };
            let flushes = Arc::clone(&client.flushes);
            let read = Arc::new(AtomicBool::new(false));
            let service = service_fn({
                let read = Arc::clone(&read);
                move |request: Request<Incoming>| {
                    let read = Arc::clone(&read);
                    async move {
                        let body = request.into_body().collect().await.unwrap();
                        assert_eq!(body.to_bytes(), "body");
                        read.store(true, Ordering::Relaxed);
                        std::future::pending::<Result<Response, Infallible>>().await
                    }
                }
            });
            let mut connection = http1::Builder::new()
                .writev(false)
                .serve_connection(TokioIo::new(client), service);
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..10 {
                let before = flushes.load(Ordering::Relaxed);
                assert!(Pin::new(&mut connection).poll(&mut context).is_pending());
                let flushed = flushes.load(Ordering::Relaxed) - before;
                assert!(flushed > 0, "hyper polled the connection without a flush");
            }
            assert!(read.load(Ordering::Relaxed), "the request was not read");
            let parts = connection.into_parts();
            let client = parts.io.into_inner();
            assert_eq!(client.written, 0, "hyper wrote while the service waited");
            let unread = [&parts.read_buf[..], &client.input].concat();
            assert_eq!(unread, NEXT, "the next request is not all there");
        }
    }

    #[test]
    fn a_client_asks_to_close_in_any_of_its_connection_headers() {
        for (values, close) in [
            (&["close"][..], true),
            (&["Close"], true),
            (&["keep-alive, close"], true),
            (&["keep-alive", "x,close"], true),
            (&["keep-alive"], false),
            (&["closed"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONNECTION, value.parse().unwrap());
            }
            assert_eq!(asks_to_close(&headers), close, "{values:?}");
        }
    }
}
