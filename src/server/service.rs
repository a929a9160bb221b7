//! What all connections of a listener share, and what is known about the client of one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

/// How long a client may take for a request's head, from its first byte.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an HTTP/1.1 connection may stay idle between requests: longer than the proxies in front
/// of a gateway keep theirs (60 s is common), so that they never send a request into a closing
/// connection.
pub(super) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// Bounds a request's head and each HTTP/1.1 connection's read buffer, in bytes.
pub(super) const HEAD_CAP: usize = 64 * 1024;

/// What a listener serves, and until when.
#[derive(Clone)]
pub struct Service {
    pub router: Router,
    /// TLS for the next connection; `None`: plain HTTP.
    pub tls: Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>,
    /// Once cancelled, no connection is kept after a stream.
    pub draining: CancellationToken,
    /// Once cancelled, connections end with their open answers.
    pub closing: CancellationToken,
}

/// The client at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Whether a request of this connection was admitted.
    admitted: Arc<AtomicBool>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            admitted: Arc::default(),
        }
    }

    pub(super) fn mark_admitted(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Lets the handlers of the request know its client.
    pub(super) fn attach<B>(&self, mut request: Request<B>) -> Request<B> {
        request.extensions_mut().insert(ConnectInfo(self.clone()));
        request
    }
}
