//! Listeners: binding an address, accepting its connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;

/// The kernel's send buffer of a client's socket, in bytes; Linux doubles the number. The default grows
/// to megabytes, which a client that does not read would hold.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client may acknowledge nothing before the kernel closes its connection: it has vanished,
/// or it does not read and would hold its upstream forever. Linux covers both cases.
#[cfg(target_os = "linux")]
const UNREAD_TIME: Duration = Duration::from_secs(60);
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// The pause after a failed accept: it fails while the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address.
pub struct Listener {
    listener: TcpListener,
}

impl Listener {
    /// # Errors
    /// If `addr` cannot be bound.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted connections inherit these.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(UNREAD_TIME))?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            listener: TcpListener::from_std(socket.into())?,
        })
    }

    /// # Errors
    /// If the operating system does not return the address.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections until `stop`. Then it accepts no more, closes idle connections, and returns
    /// when the last open answer is written.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = connection::serve(stream, peer, router.clone(), stop.clone());
                    connections.spawn(serving);
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::SockRef;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn accepted_connections_inherit_their_bounds() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(any).unwrap();
        let client = TcpStream::connect(listener.addr().unwrap());
        let (accepted, _client) = tokio::join!(listener.listener.accept(), client);
        let (stream, _) = accepted.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNREAD_TIME));
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
    }
}
