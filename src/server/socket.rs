//! Sockets of clients: one that detects that its client left, one that has bytes to be read again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::raw_head::NextHead;

/// How much a client may send after a request that is still being answered, in bytes.
const READ_AHEAD_CAP: usize = 64 * 1024;
/// How much is read ahead at once, in bytes.
const READ_SIZE: usize = 4 * 1024;

/// Reads ahead while hyper does not read.
///
/// hyper looks for the end of a connection only while it holds no unparsed bytes of the client. The end
/// of a client that sent its next request early, or one line break too many, would go undetected until
/// something is written to it. So whenever hyper has polled the connection without waiting for more
/// bytes, this socket reads for it: bytes are kept, and the end is an error.
///
/// Source: hyper's `proto/h1/conn.rs`, `poll_read_keep_alive` and `mid_message_detect_eof`.
pub(super) struct ClientSocket<S> {
    inner: S,
    /// Bytes that hyper did not read yet.
    read_ahead: Vec<u8>,
    /// Whether hyper's last read since its last flush was pending: then the socket wakes it.
    reading: bool,
    /// Whether hyper has written since its last flush: then it may be about to read, and the client may
    /// not have taken all of it.
    unflushed: Arc<AtomicBool>,
    next_head: Arc<NextHead>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientSocket<S> {
    /// A socket from which the bytes in `read_ahead` were read already.
    pub(super) fn new(
        inner: S,
        read_ahead: Vec<u8>,
        unflushed: Arc<AtomicBool>,
        next_head: Arc<NextHead>,
    ) -> Self {
        Self {
            inner,
            read_ahead,
            reading: false,
            unflushed,
            next_head,
        }
    }

    /// The socket itself, and the bytes that were read ahead.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.inner, self.read_ahead)
    }

    /// # Errors
    /// If the client left.
    fn detect_close(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // A client that sends more is not read until its request was answered.
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
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.inner).poll_read(context, buffer);
            self.reading = read.is_pending();
            self.next_head.read(&buffer.filled()[before..]);
            return read;
        }
        let taken = self.read_ahead.len().min(buffer.remaining());
        self.next_head.read(&self.read_ahead[..taken]);
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

    /// hyper flushes whenever it has polled the connection.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        let wrote = self.unflushed.swap(false, Ordering::Relaxed);
        if !std::mem::take(&mut self.reading)
            && let Err(error) = self.detect_close(context)
        {
            if !wrote {
                return Poll::Ready(Err(error));
            }
            // hyper may still answer a request that it read before the end.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A socket from which some bytes were read already: they are read first.
pub(super) struct Rewound<S> {
    inner: S,
    bytes: Vec<u8>,
}

impl<S> Rewound<S> {
    pub(super) fn new(inner: S, bytes: Vec<u8>) -> Self {
        Self { inner, bytes }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let length = self.bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.bytes[..length]);
        self.bytes.drain(..length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
