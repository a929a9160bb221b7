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

/// A body and its connection. At the body's end the connection goes back to its pool; dropping the
/// body before that closes it.
pub struct Body {
    /// `None` once the body has ended or failed.
    connection: Option<Connection>,
    decoder: Decoder,
    /// Bytes that arrived with the head.
    early: Vec<u8>,
    /// The rest of the request, if the answer came before it was written; empty if it only has to
    /// be flushed.
    unsent: Option<Bytes>,
    /// `None` if the connection must not be reused.
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
            // An upstream that answers before it has read the request may have stopped reading.
            pool: pool.filter(|_| unsent.is_none()),
            unsent,
        };
        if body.decoder.is_ended() {
            body.finish(body.early.is_empty());
        }
        body
    }

    /// Reads what is there, once, and hands its content to `take` in pieces of any length. `true`
    /// is the body's end.
    ///
    /// # Errors
    /// If the connection ended or the bytes are malformed before the body's end. Content before
    /// that was handed over.
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

    /// Whether the whole body has been read.
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
                // All is written, or the upstream does not want the rest. Its answer may still
                // come.
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

    /// Ends the body. The connection is reused if that is allowed and nothing followed the body.
    fn finish(&mut self, clean: bool) {
        let connection = self.connection.take();
        match (connection, self.pool.take()) {
            (Some(connection), Some(pool)) if clean => pool.put(connection),
            (Some(_), Some(pool)) => pool.distrust(),
            _ => {}
        }
    }
}
