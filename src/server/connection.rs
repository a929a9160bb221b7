//! One client's connection: its first bytes, then HTTP/1.1 or HTTP/2 up to its graceful end.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::Slot;
use super::service::{HEAD_CAP, HEAD_TIMEOUT, KEEP_ALIVE_TIMEOUT, Peer, Service};
use super::{http1, http2};

/// How long a new connection may stay silent before its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// What an HTTP/2 client sends first: <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much of a head is read at once, in bytes: most requests whole.
const READ_SIZE: usize = 4 * 1024;

/// Serves one connection to its end; once `closing` is cancelled, no longer than its open answers
/// take.
pub(super) async fn serve<S>(mut socket: S, address: SocketAddr, service: &Service, mut slot: Slot)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Peer::new(address);
    let (mut bytes, mut first_byte_timeout) = (Vec::new(), FIRST_BYTE_TIMEOUT);
    loop {
        let head = tokio::select! {
            biased;
            head = read_head(&mut socket, &mut bytes, first_byte_timeout) => head,
            () = service.closing.cancelled() => return,
            () = slot.evicted() => return,
        };
        if head.is_err() {
            return; // The client sent no request.
        }
        slot.mark_used();
        // In boxes, so that neither takes the other's room too.
        if bytes.starts_with(PREFACE) {
            let ended = Box::pin(http2::serve(socket, bytes, &peer, service)).await;
            return log_end(address, ended);
        }
        let handed_over = Box::pin(http1::serve(socket, bytes, &peer, service)).await;
        let written = match handed_over {
            Ok(None) => return,
            Ok(Some(streamed)) => streamed.write(&service.draining).await,
            Err(error) => return log_end(address, Err(error)),
        };
        (socket, bytes) = match written {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(error) => return log_end(address, Err(error)),
        };
        first_byte_timeout = KEEP_ALIVE_TIMEOUT;
    }
}

fn log_end(peer: SocketAddr, ended: Result<(), impl Display>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Reads up to the end of a request's head, or to the end of an HTTP/2 preface. Until then the
/// connection holds these bytes and no parser.
///
/// # Errors
/// If a deadline passes, or the client sends nothing and closes the connection.
async fn read_head<S: AsyncRead + Unpin>(
    socket: &mut S,
    bytes: &mut Vec<u8>,
    first_byte_timeout: Duration,
) -> io::Result<()> {
    if bytes.is_empty() {
        let first = tokio::time::timeout(first_byte_timeout, read_some(socket, bytes)).await;
        if first.map_err(io::Error::from)?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut searched = 0;
    if is_head(bytes, &mut searched) {
        return Ok(());
    }
    let rest = async {
        // A client that closes in the middle of its head is refused by the parser.
        while read_some(socket, bytes).await? > 0 && !is_head(bytes, &mut searched) {}
        Ok(())
    };
    let read = tokio::time::timeout(HEAD_TIMEOUT, rest).await;
    read.map_err(io::Error::from)?
}

/// Whether `bytes` hold a whole head or preface, or as much as a head may have. The first `searched`
/// bytes hold no end of a head.
fn is_head(bytes: &[u8], searched: &mut usize) -> bool {
    if PREFACE.starts_with(bytes) {
        return bytes.len() == PREFACE.len();
    }
    let unsearched = &bytes[searched.saturating_sub(3)..];
    let ends = |end: &[u8]| memmem::find(unsearched, end).is_some();
    let complete = ends(b"\n\r\n") || ends(b"\n\n");
    *searched = bytes.len();
    complete || bytes.len() >= HEAD_CAP
}

/// Reads what is there; 0 at the end. Holds no buffer while it waits.
async fn read_some<S: AsyncRead + Unpin>(socket: &mut S, bytes: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        let mut step = [MaybeUninit::uninit(); READ_SIZE];
        let mut read = ReadBuf::uninit(&mut step);
        ready!(Pin::new(&mut *socket).poll_read(context, &mut read))?;
        bytes.extend_from_slice(read.filled());
        Ok(read.filled().len()).into()
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_empty_line() {
        let head = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for end in 1..=head.len() {
            let mut searched = 0;
            // In two reads, wherever the first one ends.
            let first = is_head(&head[..end], &mut searched);
            assert_eq!(first, end == head.len(), "{end}");
            assert!(is_head(head, &mut searched), "{end}");
        }
        assert!(is_head(b"GET / HTTP/1.1\nhost: x\n\n", &mut 0));
        assert!(is_head(&[b'x'; HEAD_CAP], &mut 0));
    }

    #[test]
    fn a_preface_is_read_whole() {
        for end in 1..PREFACE.len() {
            assert!(!is_head(&PREFACE[..end], &mut 0), "{end}");
        }
        assert!(is_head(PREFACE, &mut 0));
        // Not a preface, but a head.
        assert!(is_head(b"PRI * HTTP/2.0\r\n\r\nXX", &mut 0));
    }

    #[tokio::test]
    async fn an_unfinished_head_holds_no_more_than_its_bytes() {
        let (mut client, mut server) = tokio::io::duplex(64);
        let mut bytes = Vec::new();
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HT")
            .await
            .unwrap();
        read_some(&mut server, &mut bytes).await.unwrap();
        assert_eq!(bytes, b"GET / HT");
        assert!(bytes.capacity() <= 64, "{}", bytes.capacity());
        let waiting = size_of_val(&read_head(&mut server, &mut bytes, HEAD_TIMEOUT));
        assert!(waiting < READ_SIZE / 4, "{waiting}");
    }
}
