//! Opens connections: TCP and TLS.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service as _;
use url::{Host, Position, Url};

use super::ExchangeError;

/// How long a connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most idle connections of one endpoint.
const MAX_IDLE: usize = 512;
/// How often the kernel probes a silent peer.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// How connections are made: without a proxy, and TLS with HTTP/1.1 alone.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    timeout: Duration,
    pub(super) idle: Duration,
    pub(super) max_idle: usize,
}

/// Opens connections to one endpoint.
pub(super) struct Dialer {
    connector: Connector,
    url: Url,
}

/// An open connection.
pub(super) enum Connection {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// A TLS configuration that trusts the system's certificates.
///
/// # Errors
/// If the system's certificates cannot be read.
pub fn system_certificates() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Connector {
    /// TCP and TLS together may take `timeout`.
    pub fn new(tls: &Arc<ClientConfig>, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        // This time is divided among the addresses of a name, so that a dead address does not use
        // all of it.
        tcp.set_connect_timeout(Some(timeout));
        let mut tls = ClientConfig::clone(tls);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            tcp,
            tls: Arc::new(tls),
            timeout,
            idle: IDLE_TIMEOUT,
            max_idle: MAX_IDLE,
        }
    }

    /// Sets how long a connection may be idle; the default is 30 s.
    #[must_use]
    pub fn idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Sets the most idle connections of one endpoint; the default is 512.
    #[must_use]
    pub fn max_idle(self, max_idle: usize) -> Self {
        Self { max_idle, ..self }
    }

    pub(super) fn dialer(&self, url: &Url) -> Dialer {
        Dialer {
            connector: self.clone(),
            url: url.clone(),
        }
    }
}

impl Dialer {
    pub(super) async fn connect(&self) -> Result<Connection, ExchangeError> {
        let connecting = tokio::time::timeout(self.connector.timeout, self.dial());
        connecting
            .await
            .unwrap_or(Err(ExchangeError::ConnectTimeout))
    }

    async fn dial(&self) -> Result<Connection, ExchangeError> {
        let server_name = self.server_name()?;
        let origin = &self.url[..Position::BeforePath];
        let address = Uri::try_from(origin).map_err(connect_error)?;
        let mut tcp = self.connector.tcp.clone();
        let stream = tcp.call(address).await.map_err(|error| {
            let cause = std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<io::Error>());
            match cause {
                Some(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                    ExchangeError::ConnectTimeout
                }
                _ => connect_error(error),
            }
        })?;
        let stream = stream.into_inner();
        let Some(name) = server_name else {
            return Ok(Connection::Plain(stream));
        };
        let tls = TlsConnector::from(Arc::clone(&self.connector.tls));
        let secure = tls.connect(name, stream).await.map_err(connect_error)?;
        Ok(Connection::Secure(Box::new(secure)))
    }

    /// The name that the certificate must have; `None` for plaintext.
    fn server_name(&self) -> Result<Option<ServerName<'static>>, ExchangeError> {
        if self.url.scheme() == "http" {
            return Ok(None);
        }
        let name = match self.url.host() {
            Some(Host::Domain(name)) => {
                ServerName::try_from(name.to_owned()).map_err(connect_error)?
            }
            Some(Host::Ipv4(address)) => ServerName::from(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => ServerName::from(IpAddr::V6(address)),
            None => return Err(connect_error("there is no host")),
        };
        Ok(Some(name))
    }
}

fn connect_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ExchangeError {
    ExchangeError::Connect(error.into())
}

impl Connection {
    /// Whether a write error proves that nothing was written. TLS may have sent a part.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Whether the peer has neither closed the connection nor sent anything. The kernel is asked,
    /// because the runtime's view may be outdated. TLS is asked too: it takes several records out
    /// of the kernel at once and hands them over one by one, so a close or bytes that would be
    /// taken for the next answer may already be in its buffer.
    pub(super) fn is_idle_and_open(&self) -> bool {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => {
                let (stream, session) = stream.get_ref();
                if !session.wants_read() {
                    return false;
                }
                stream
            }
        };
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(stream).peek(&mut byte);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
