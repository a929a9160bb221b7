//! Writes an answer that streams over HTTP/1.1, from its head to its last chunk.
//!
//! hyper hands the connection over when such an answer begins, and takes it again for the client's next
//! request. In between a stream holds its body and its socket, and a token passes one state machine
//! less.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::stream::CancelWaiter;

/// How much is gathered before it is written although more is ready, in bytes.
const BATCH: usize = 64 * 1024;
/// How many writes are made before other tasks get their turn.
const MAX_WRITES: usize = 16;
/// How much of what a client sends during its stream is read, in bytes: its next requests.
const PIPELINED_CAP: usize = 64 * 1024;
/// How much of that is read at once, in bytes.
const READ_SIZE: usize = 1024;

thread_local! {
    /// The bytes of the current write. What a socket does not take is copied out of it before another
    /// stream's turn, so that a stream that waits for its upstream holds no buffer.
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Whether an answer to an HTTP/1.1 request is written here: its length is not known.
pub(super) fn is_streamed(answer: &Response) -> bool {
    !answer.headers().contains_key(CONTENT_LENGTH) && answer.body().size_hint().exact().is_none()
}

/// In the extensions of an answer: once cancelled, the connection ends although its client does not
/// read.
#[derive(Debug, Clone)]
pub(super) struct Cutoff(pub(super) CancellationToken);

/// An answer that streams, and the connection that it is written to.
pub(super) struct StreamedAnswer<S> {
    pub(super) socket: S,
    pub(super) answer: Response,
    /// What the client sent after the request.
    pub(super) pipelined: Vec<u8>,
    /// Whether the connection can carry another request after the answer.
    pub(super) keeps_alive: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamedAnswer<S> {
    /// Writes the answer. Returns the connection and what the client sent meanwhile; `None` where the
    /// connection was closed, because the client asked for that or `draining` was cancelled.
    ///
    /// # Errors
    /// If the client leaves before the end, or the stream is cut.
    pub(super) async fn write(
        self,
        draining: &CancellationToken,
    ) -> io::Result<Option<(S, Vec<u8>)>> {
        let keeps_alive = self.keeps_alive && !draining.is_cancelled();
        let cutoff = self.answer.extensions().get::<Cutoff>();
        let cutoff = cutoff.map(|cutoff| Box::new(CancelWaiter::new(cutoff.0.clone())));
        let mut writer = StreamWriter {
            cutoff,
            head: head(&self.answer, keeps_alive),
            unsent: Vec::new(),
            sent: 0,
            socket: self.socket,
            body: self.answer.into_body(),
            ended: false,
            pipelined: self.pipelined,
        };
        poll_fn(|context| writer.poll(context)).await?;
        if keeps_alive && !draining.is_cancelled() {
            return Ok(Some((writer.socket, writer.pipelined)));
        }
        poll_fn(|context| Pin::new(&mut writer.socket).poll_shutdown(context)).await?;
        Ok(None)
    }
}

struct StreamWriter<S> {
    socket: S,
    cutoff: Option<Box<CancelWaiter>>,
    /// Goes out with the first of the body; empty from then on.
    head: Vec<u8>,
    body: Body,
    /// What a write left over, and how much of it was sent since.
    unsent: Vec<u8>,
    sent: usize,
    /// Whether the body's end was written.
    ended: bool,
    /// What the client sent after its request.
    pipelined: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamWriter<S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_write(context) {
            Poll::Pending => {
                if let Some(cutoff) = &mut self.cutoff
                    && cutoff.poll(context).is_ready()
                {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.detect_close(context)
            }
            written => written,
        }
    }

    /// Writes all that is ready; ready itself when the end was written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MAX_WRITES {
            ready!(self.poll_unsent(context))?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let mut out = OUT.take();
            out.clear();
            if !self.head.is_empty() {
                out.append(&mut std::mem::take(&mut self.head));
            }
            let gathered = self.gather(context, &mut out);
            let written = match out.is_empty() {
                true => Ok(()),
                false => self.send(context, &out),
            };
            if out.capacity() > 3 * BATCH {
                out.shrink_to(BATCH);
            }
            OUT.set(out);
            written?;
            if gathered?.is_pending() && self.unsent.is_empty() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Adds what the body has ready to `out`, up to a batch. Pending where the body will wake the task.
    fn gather(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> io::Result<Poll<()>> {
        while out.len() < BATCH {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(frame)) => {
                    if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                        write_chunk(&data, out);
                    }
                }
                Poll::Ready(None) => {
                    out.extend_from_slice(b"0\r\n\r\n");
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Sends what the socket takes of `out` and keeps the rest.
    fn send(&mut self, context: &mut Context<'_>, out: &[u8]) -> io::Result<()> {
        let taken = match Pin::new(&mut self.socket).poll_write(context, out) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        self.unsent.extend_from_slice(&out[taken..]);
        Ok(())
    }

    /// Sends what the last write left over, in this buffer or in one of TLS.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Pin::new(&mut self.socket).poll_flush(context);
        }
        while self.sent < self.unsent.len() {
            let rest = &self.unsent[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// Detects that the client left; keeps what it sends.
    fn detect_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A client that sends more waits, and its end is detected by the next write.
        while self.pipelined.len() < PIPELINED_CAP {
            let mut step = [MaybeUninit::uninit(); READ_SIZE];
            let mut read = ReadBuf::uninit(&mut step);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            self.pipelined.extend_from_slice(read.filled());
        }
        Poll::Pending
    }
}

/// The answer's status line and headers: RFC 9112, section 3, and RFC 9110, section 6.6.1.
fn head(answer: &Response, keeps_alive: bool) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    if !keeps_alive && !answer.headers().contains_key(CONNECTION) {
        head.extend_from_slice(b"connection: close\r\n");
    }
    head.extend_from_slice(b"transfer-encoding: chunked\r\ndate: ");
    head.extend_from_slice(date.as_bytes());
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// `data` as one chunk: RFC 9112, section 7.1. Nothing for no data, which would be the end.
fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0; 2 * size_of::<usize>()];
    let mut start = digits.len();
    let mut rest = data.len();
    while rest > 0 {
        start -= 1;
        digits[start] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
    }
    out.reserve(digits.len() + data.len() + 4);
    out.extend_from_slice(&digits[start..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
