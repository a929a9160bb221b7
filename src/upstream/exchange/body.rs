//! Reads an answer's body from its connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::connect::Connection;
use super::decoder::Decoder;
use super::pool::Pool;
use super::scratch;

/// A body and its connection, which goes back to its pool at the body's end. Dropping it before that
/// closes the connection.
pub struct Body {
    /// `None` once the body has ended or broke.
    connection: Option<Connection>,
    decoder: Decoder,
    /// What came with the head.
    early: Vec<u8>,
    /// What is still to be written of the request, where the answer came before it was read; empty
    /// where it only has to be flushed.
    unsent: Option<Bytes>,
    /// `None` where the connection cannot be used again.
    pool: Option<Pool>,
}

impl Body {
    pub(super) fn new(
        connection: Connection,
        decoder: Decoder,
        early: Vec<u8>,
        unsent: Option<Bytes>,
        pool: Option<Pool>,
    ) -> Self {
        let mut body = Self {
            connection: Some(connection),
            decoder,
            early,
            // An upstream that answers before it has read may have stopped reading.
            pool: pool.filter(|_| unsent.is_none()),
            unsent,
        };
        if body.decoder.is_ended() {
            body.finish(body.early.is_empty());
        }
        body
    }

    /// Reads once what is there, and hands its content to `take`, in pieces that may be any length.
    /// `true` is the body's end.
    ///
    /// # Errors
    /// Where the connection broke or ended, or what came is malformed, before the body's end. What
    /// was content before that has been handed over.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<bool>> {
        if self.decoder.is_ended() {
            return Poll::Ready(Ok(true));
        }
        let read = if self.early.is_empty() {
            scratch::with(|buffer| self.receive(context, buffer, take))
        } else {
            let early = std::mem::take(&mut self.early);
            Poll::Ready(self.decode(&early, take))
        };
        if let Poll::Ready(Err(_)) = read {
            self.connection = None;
        }
        read
    }

    /// Whether all of it has been read.
    pub fn is_ended(&self) -> bool {
        self.decoder.is_ended()
    }

    fn receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<bool>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while let Some(unsent) = &mut self.unsent {
            let connection = Pin::new(&mut *connection);
            let written = if unsent.is_empty() {
                connection.poll_flush(context).map_ok(|()| 0)
            } else {
                connection.poll_write(context, unsent)
            };
            match written {
                Poll::Pending => break,
                Poll::Ready(Ok(written)) if written > 0 => unsent.advance(written),
                // All is out, or it does not want the rest; its answer may come all the same.
                Poll::Ready(_) => self.unsent = None,
            }
        }
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(connection).poll_read(context, &mut read))?;
        if !read.filled().is_empty() {
            return Poll::Ready(self.decode(read.filled(), take));
        }
        Poll::Ready(if self.decoder.close() {
            self.connection = None;
            Ok(true)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        })
    }

    fn decode(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut rest = bytes;
        loop {
            match self.decoder.next(&mut rest) {
                Ok(Some(content)) => take(content),
                Ok(None) => break,
                Err(malformed) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, malformed));
                }
            }
        }
        if self.decoder.is_ended() {
            self.finish(rest.is_empty());
        }
        Ok(self.decoder.is_ended())
    }

    /// The body ended; the connection is used again if it can be and nothing came behind the end.
    fn finish(&mut self, clean: bool) {
        let connection = self.connection.take();
        if let (Some(connection), Some(pool), true) = (connection, self.pool.take(), clean) {
            pool.put(connection);
        }
    }
}
