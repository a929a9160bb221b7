//! Opens connections: TCP, HTTP proxies and TLS.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use rustls_platform_verifier::{BuilderVerifierExt as _, Verifier};
use secrecy::{ExposeSecret as _, SecretString};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service as _;
use url::{Host, Position, Url};

use super::settings::{PoolSettings, Reuse};
use super::{ConnectStage, ExchangeError};

/// How long a connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most idle connections of one endpoint.
const MAX_IDLE: usize = 512;
/// The longest rest of a connection before it is reused.
const MAX_REST: Duration = Duration::from_secs(2);
/// How often the kernel probes a silent peer.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// The notice of a server that closes an idle connection; it is no answer to a request.
const IDLE_NOTICES: [&[u8]; 2] = [b"HTTP/1.1 408", b"HTTP/1.0 408"];

/// How connections are opened and kept: HTTP/1.1 only, and no proxy unless one is set.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    timeout: Duration,
    pub(super) proxy: Option<Proxy>,
    pub(super) pool: PoolSettings,
}

/// An HTTP proxy.
#[derive(Clone)]
pub struct Proxy {
    /// An `http` URL without a path.
    pub address: Url,
    /// The value of `proxy-authorization`.
    pub authorization: Option<SecretString>,
}

/// A certificate that the gateway presents to an upstream, and its key.
pub struct ClientCertificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Opens connections to one endpoint.
pub(super) struct Dialer {
    connector: Connector,
    url: Url,
}

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    opened: Instant,
    requests: u32,
    idle_limit: Option<Duration>,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// What happened on an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleState {
    /// The peer sent nothing and the connection is open.
    Silent,
    /// The peer closed it, or announced that it will.
    Closed,
    /// The peer sent bytes that no request asked for.
    Unexpected,
}

/// A TLS configuration that trusts the system's certificates.
///
/// # Errors
/// If the system's certificates cannot be read.
pub fn system_certificates() -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = tls_builder()?.with_platform_verifier()?;
    Ok(Arc::new(config.with_no_client_auth()))
}

/// A TLS configuration that trusts `extra` certificates beside the system's and presents
/// `identity` to servers that ask for a certificate.
///
/// # Errors
/// If the system's certificates cannot be read, or the given ones are invalid.
pub fn custom_certificates(
    extra: &[CertificateDer<'static>],
    identity: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), provider)?;
    let config = tls_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match identity {
        Some(identity) => {
            config.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
        }
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn tls_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

impl Connector {
    /// TCP, the proxy and TLS together may take `timeout`.
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
            proxy: None,
            pool: PoolSettings {
                reuse: Some(Reuse::default()),
                idle_timeout: IDLE_TIMEOUT,
                max_idle: MAX_IDLE,
                max_rest: MAX_REST,
            },
        }
    }

    /// Sets the proxy that connections go through.
    #[must_use]
    pub fn proxy(self, proxy: Option<Proxy>) -> Self {
        Self { proxy, ..self }
    }

    /// Sets how often and how long a connection is used; `None` closes it after one request.
    #[must_use]
    pub fn reuse(mut self, reuse: Option<Reuse>) -> Self {
        self.pool.reuse = reuse;
        self
    }

    /// Sets how long a connection may be idle; the default is 30 s.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.pool.idle_timeout = idle;
        self
    }

    /// Sets the most idle connections of one endpoint; the default is 512.
    #[must_use]
    pub fn max_idle(mut self, max_idle: usize) -> Self {
        self.pool.max_idle = max_idle;
        self
    }

    /// Sets the longest rest of a connection before it is reused; the default is 2 s.
    #[must_use]
    pub fn max_rest(mut self, max_rest: Duration) -> Self {
        self.pool.max_rest = max_rest;
        self
    }

    pub(super) fn dialer(&self, url: &Url) -> Dialer {
        Dialer {
            connector: self.clone(),
            url: url.clone(),
        }
    }
}

impl Proxy {
    fn uri(&self) -> Result<Uri, ExchangeError> {
        let origin = &self.address[..Position::BeforePath];
        Uri::try_from(origin).map_err(|error| failed(ConnectStage::Proxy, error))
    }

    /// The header that authenticates the gateway to the proxy. `Debug` does not print it.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let secret = self.authorization.as_ref()?.expose_secret();
        let mut value = HeaderValue::from_str(secret).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Dialer {
    pub(super) async fn connect(&self) -> Result<Connection, ExchangeError> {
        let connecting = tokio::time::timeout(self.connector.timeout, self.dial());
        let stream = connecting
            .await
            .unwrap_or(Err(ExchangeError::ConnectTimeout))?;
        Ok(Connection {
            stream,
            opened: Instant::now(),
            requests: 0,
            idle_limit: None,
        })
    }

    async fn dial(&self) -> Result<Stream, ExchangeError> {
        let server_name = self.server_name()?;
        let origin = &self.url[..Position::BeforePath];
        let address =
            Uri::try_from(origin).map_err(|error| failed(ConnectStage::Resolve, error))?;
        let stream = match (&self.connector.proxy, &server_name) {
            (None, _) => self.tcp(address).await?,
            (Some(proxy), None) => self.tcp(proxy.uri()?).await?,
            (Some(proxy), Some(_)) => self.tunnel(proxy, address).await?,
        };
        let Some(name) = server_name else {
            return Ok(Stream::Plain(stream));
        };
        let tls = TlsConnector::from(Arc::clone(&self.connector.tls));
        let secure = tls.connect(name, stream).await;
        let secure = secure.map_err(|error| failed(ConnectStage::Tls, error))?;
        Ok(Stream::Secure(Box::new(secure)))
    }

    async fn tcp(&self, address: Uri) -> Result<TcpStream, ExchangeError> {
        let mut tcp = self.connector.tcp.clone();
        let connected = tcp.call(address).await;
        connected
            .map_err(tcp_error)
            .map(|stream| stream.into_inner())
    }

    /// A tunnel through a proxy, opened by `CONNECT`.
    async fn tunnel(&self, proxy: &Proxy, address: Uri) -> Result<TcpStream, ExchangeError> {
        let mut tunnel = Tunnel::new(proxy.uri()?, self.connector.tcp.clone());
        if let Some(authorization) = proxy.authorization() {
            tunnel = tunnel.with_auth(authorization);
        }
        let opened = tunnel.call(address).await;
        opened
            .map_err(|error| failed(ConnectStage::Proxy, error))
            .map(|stream| stream.into_inner())
    }

    /// The name that the certificate must have; `None` for plaintext.
    fn server_name(&self) -> Result<Option<ServerName<'static>>, ExchangeError> {
        if self.url.scheme() == "http" {
            return Ok(None);
        }
        let name = match self.url.host() {
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned())
                .map_err(|error| failed(ConnectStage::Tls, error))?,
            Some(Host::Ipv4(address)) => ServerName::from(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => ServerName::from(IpAddr::V6(address)),
            None => return Err(failed(ConnectStage::Resolve, "the address has no host")),
        };
        Ok(Some(name))
    }
}

fn failed(
    stage: ConnectStage,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ExchangeError {
    ExchangeError::Connect(stage, error.into())
}

/// Classifies a connector's error: its type is private, but its message names the stage.
fn tcp_error(error: impl std::error::Error + Send + Sync + 'static) -> ExchangeError {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) if cause.kind() == io::ErrorKind::TimedOut => ExchangeError::ConnectTimeout,
        _ if error.to_string().starts_with("dns error") => failed(ConnectStage::Resolve, error),
        _ => failed(ConnectStage::Tcp, error),
    }
}

impl Connection {
    /// Whether a write error proves that nothing was written. TLS may have sent a part.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.stream, Stream::Plain(_))
    }

    /// How many requests were sent on it.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// Counts another request.
    pub(super) fn count_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// Sets how long it may be idle; `None`: as long as others.
    pub(super) fn set_idle_limit(&mut self, limit: Option<Duration>) {
        self.idle_limit = limit;
    }

    /// Whether it may be reused after it was idle for this long.
    pub(super) fn may_idle(&self, idle: Duration) -> bool {
        self.idle_limit.is_none_or(|limit| idle < limit)
    }

    /// How long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// What happened while the connection was idle. The kernel is asked, because the runtime's view
    /// may be outdated. TLS is asked too: it takes several records out of the kernel at once and
    /// hands them over one by one, so a close or bytes that would be taken for the next answer may
    /// already be in its buffer.
    pub(super) fn idle_state(&mut self) -> IdleState {
        let (socket, buffered) = match &self.stream {
            Stream::Plain(socket) => (socket, false),
            Stream::Secure(stream) => {
                let (socket, session) = stream.get_ref();
                (socket, !session.wants_read())
            }
        };
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match SockRef::from(socket).peek(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !buffered => {
                IdleState::Silent
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => IdleState::Closed,
            Ok(0) if !buffered => IdleState::Closed,
            _ => self.unexpected(),
        }
    }

    /// Whether bytes are there to be read. The kernel is asked, because the runtime notices bytes only
    /// later. Before the first answer over TLS this is `false`: a server sends session tickets then.
    pub(super) fn has_unread_bytes(&self) -> bool {
        let (socket, buffered) = match &self.stream {
            Stream::Plain(socket) => (socket, false),
            Stream::Secure(_) if self.requests <= 1 => return false,
            Stream::Secure(stream) => {
                let (socket, session) = stream.get_ref();
                (socket, !session.wants_read())
            }
        };
        let mut byte = [std::mem::MaybeUninit::uninit()];
        buffered || matches!(SockRef::from(socket).peek(&mut byte), Ok(1..))
    }

    /// Classifies bytes that arrived on an idle connection, which must not be used after that.
    fn unexpected(&mut self) -> IdleState {
        let mut bytes = [0; 12];
        let read = match &mut self.stream {
            // Not read through the runtime, which may not have noticed the bytes yet.
            Stream::Plain(socket) => (&*SockRef::from(&*socket)).read(&mut bytes),
            Stream::Secure(stream) => {
                let mut buffer = ReadBuf::new(&mut bytes);
                let mut context = Context::from_waker(Waker::noop());
                match Pin::new(stream).poll_read(&mut context, &mut buffer) {
                    Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
                    Poll::Ready(Err(error)) => Err(error),
                    // A record without content, such as a session ticket.
                    Poll::Pending => Ok(0),
                }
            }
        };
        match read {
            Ok(length) if length > 0 && !IDLE_NOTICES.contains(&&bytes[..length]) => {
                IdleState::Unexpected
            }
            _ => IdleState::Closed,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Secure(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
