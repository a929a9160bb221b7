//! Listeners: binding an address, accepting its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::connection;
use super::connections::{Connections, Slot};
use super::service::Service;

/// The kernel's send buffer of a client's socket, in bytes; Linux doubles the number. The default grows
/// to megabytes, which a client that does not read would hold.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client may acknowledge nothing before the kernel closes its connection: it has vanished,
/// or it does not read and would hold its upstream forever. Linux covers both cases.
#[cfg(target_os = "linux")]
const UNREAD_TIME: Duration = Duration::from_secs(60);
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a client may take for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
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

    /// Serves connections until `closing`. Then it accepts no more, closes idle connections, and returns
    /// when the last open answer is written.
    pub async fn serve(self, service: Service, connections: Arc<Connections>) {
        let (service, serving) = (Arc::new(service), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                () = service.closing.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(slot) = connections.open(peer.ip()) else {
                        continue; // Over a limit: closed at once.
                    };
                    let service = Arc::clone(&service);
                    serving.spawn(async move { serve(stream, peer, &service, slot).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        serving.close();
        serving.wait().await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, service: &Service, slot: Slot) {
    if stream.set_nodelay(true).is_err() {
        return; // The client has left already.
    }
    match (service.tls)() {
        None => connection::serve(stream, peer, service, slot).await,
        // In a box, so that a connection without TLS does not take the room of one with it.
        Some(tls) => Box::pin(serve_tls(stream, tls, peer, service, slot)).await,
    }
}

async fn serve_tls(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    peer: SocketAddr,
    service: &Service,
    slot: Slot,
) {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => accepted,
        () = service.closing.cancelled() => return,
        () = slot.evicted() => return,
    };
    match accepted {
        Ok(Ok(stream)) => connection::serve(stream, peer, service, slot).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use socket2::SockRef;

    fn size_of_future<F>(_: fn(TcpStream, SocketAddr, &'static Service, Slot) -> F) -> usize {
        size_of::<F>()
    }

    /// Every open stream holds the task of its connection.
    #[test]
    fn the_task_of_a_connection_without_tls_is_small() {
        let size = size_of_future(serve);
        assert!(size < 4 * 1024, "{size} bytes");
    }

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
