//! A client's socket that notices when its client leaves, whatever else the client has sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much a client may send behind a request that is still being answered, in bytes.
const READ_AHEAD_CAP: usize = 64 * 1024;
/// How much is read ahead at once, in bytes.
const READ_SIZE: usize = 4 * 1024;

/// Reads ahead where nobody else reads.
///
/// hyper looks for the end of a connection only while it holds none of the client's bytes. A client
/// that sends its next request too early, or one line break too many, and then leaves would go
/// unnoticed until something is written to it. So whenever hyper has looked at the connection
/// without waiting for more of it, this reads for it: what comes is kept, and an end is told.
///
/// Source: hyper's `proto/h1/conn.rs`, `poll_read_keep_alive` and `mid_message_detect_eof`.
pub(super) struct ClientSocket<S> {
    inner: S,
    /// What was read ahead.
    read_ahead: Vec<u8>,
    /// Whether hyper's last read since its last flush found nothing: then the socket wakes it.
    reading: bool,
    /// Whether hyper has written since its last flush: then it may be about to read, and some of it
    /// may not have been taken.
    unflushed: Arc<AtomicBool>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientSocket<S> {
    /// A socket of which the bytes in `read_ahead` were read already.
    pub(super) fn new(inner: S, read_ahead: Vec<u8>, unflushed: Arc<AtomicBool>) -> Self {
        Self {
            inner,
            read_ahead,
            reading: false,
            unflushed,
        }
    }

    /// The socket itself, without what was read ahead.
    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// # Errors
    /// Where the client has left.
    fn detect_close(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // A client that has sent more than is kept waits, as it would without a watch.
        while self.read_ahead.len() < READ_AHEAD_CAP {
            let mut step = [0; READ_SIZE];
            let mut buffer = ReadBuf::new(&mut step);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.read_ahead.extend_from_slice(buffer.filled());
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            let read = Pin::new(&mut self.inner).poll_read(context, buffer);
            self.reading = read.is_pending();
            return read;
        }
        let taken = self.read_ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.read_ahead[..taken]);
        self.read_ahead.drain(..taken);
        if self.read_ahead.is_empty() {
            self.read_ahead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper flushes whenever it has looked at the connection.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        let wrote = self.unflushed.swap(false, Ordering::Relaxed);
        if !std::mem::take(&mut self.reading)
            && let Err(error) = self.detect_close(context)
        {
            if !wrote {
                return Poll::Ready(Err(error));
            }
            // What it has read already may be a request that it can answer before the end.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
