//! Upstreams behind TLS: which certificates are accepted, and that the exchange works as without
//! TLS.
//!
//! The certificates are self-signed, made by `certificates/make` with openssl, valid until 2119,
//! and used nowhere else.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sluicegate::upstream::exchange::{
    ClientCertificate, ConnectStage, Connector, Endpoint, ExchangeError, custom_certificates,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::support::{OK_HI, TIMEOUT, content, read, request, trusting};
use crate::gateway::within_timeout;

const KEY: &str = include_str!("certificates/test-key.pem");
/// For `localhost` and `127.0.0.1`.
const LOCAL: &str = include_str!("certificates/test-local.pem");
/// For `elsewhere.example`, with the same key.
const ELSEWHERE: &str = include_str!("certificates/test-elsewhere.pem");

pub struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Server {
    async fn with(certificate: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        Self::build(certificate, key, WebPkiClientVerifier::no_client_auth()).await
    }

    /// A server that demands a client certificate.
    async fn demanding(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        let certificate = CertificateDer::from_pem_slice(LOCAL.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        Self::build(certificate, key, verifier).await
    }

    async fn build(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = config
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// A server whose certificate [`trusting_connector`] accepts.
    pub async fn trusted() -> Self {
        Self::with(LOCAL).await
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Accepts a connection and answers its first request.
    pub async fn answer_once(&self, bytes: &str) -> TlsStream<TcpStream> {
        let mut stream = self.accept().await.unwrap();
        answer(&mut stream, bytes).await;
        stream
    }

    /// An endpoint that trusts `certificate`, if there is one.
    fn endpoint(&self, host: &str, certificate: Option<&str>) -> Endpoint {
        let mut roots = RootCertStore::empty();
        if let Some(certificate) = certificate {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
            roots.add(certificate.unwrap()).unwrap();
        }
        let port = self.listener.local_addr().unwrap().port();
        let url = format!("https://{host}:{port}/v1");
        let connector = Connector::new(&trusting(roots), TIMEOUT).max_rest(Duration::ZERO);
        Endpoint::new(&url.parse().unwrap(), &connector)
    }

    async fn accept(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let (stream, _) = within_timeout(self.listener.accept()).await.unwrap();
        within_timeout(self.tls.accept(stream)).await
    }
}

/// Trusts the certificate of [`Server::trusted`].
pub fn trusting_connector() -> Connector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(LOCAL.as_bytes());
    roots.add(certificate.unwrap()).unwrap();
    Connector::new(&trusting(roots), TIMEOUT).max_rest(Duration::ZERO)
}

async fn asked(stream: &mut TlsStream<TcpStream>) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        assert_ne!(
            within_timeout(stream.read_buf(&mut bytes)).await.unwrap(),
            0
        );
    }
}

async fn answer(stream: &mut TlsStream<TcpStream>, answer: &str) {
    asked(stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn certificates_of_names_and_addresses_are_accepted_and_connections_reused() {
    for (host, name) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let server = Server::with(LOCAL).await;
        let endpoint = server.endpoint(host, Some(LOCAL));
        let answering = async {
            let mut stream = server.accept().await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(session.server_name(), name);
            answer(&mut stream, OK_HI).await;
            answer(&mut stream, OK_HI).await;
            stream
        };
        let asking = async {
            for _ in 0..2 {
                let response = within_timeout(endpoint.send(&request(&endpoint, "{}"))).await;
                assert_eq!(content(response).await, "hi");
            }
        };
        tokio::join!(asking, answering);
    }
}

/// A certificate that is trusted beside the system's, and one that the gateway presents.
#[tokio::test]
async fn own_certificates_are_trusted_and_presented() {
    let certificate = || CertificateDer::from_pem_slice(LOCAL.as_bytes()).unwrap();
    let identity = ClientCertificate {
        chain: vec![certificate()],
        key: PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
    };
    let config = custom_certificates(&[certificate()], Some(&identity)).unwrap();
    let connector = Connector::new(&config, TIMEOUT);
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let server = Server::demanding(verifier.build().unwrap()).await;
    let url = format!("https://localhost:{}/v1", server.address().port());
    let endpoint = Endpoint::new(&url.parse().unwrap(), &connector);
    let request = request(&endpoint, "{}");
    let (response, stream) = tokio::join!(
        within_timeout(endpoint.send(&request)),
        server.answer_once(OK_HI)
    );
    assert_eq!(content(response).await, "hi");
    let presented = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(presented, [certificate()]);
}

#[tokio::test]
async fn untrusted_certificates_are_refused() {
    for (certificate, host, trusted) in [
        (LOCAL, "localhost", None),
        (LOCAL, "localhost", Some(ELSEWHERE)),
        (ELSEWHERE, "localhost", Some(ELSEWHERE)),
        (ELSEWHERE, "127.0.0.1", Some(ELSEWHERE)),
    ] {
        let server = Server::with(certificate).await;
        let endpoint = server.endpoint(host, trusted);
        let request = request(&endpoint, "{}");
        let accepting = async {
            let mut stream = server.accept().await?;
            stream.read_u8().await
        };
        let (answer, heard) = tokio::join!(within_timeout(endpoint.send(&request)), accepting);
        assert!(
            matches!(answer, Err(ExchangeError::Connect(ConnectStage::Tls, _))),
            "{host}"
        );
        assert!(heard.is_err(), "{host}");
    }
}

#[tokio::test]
async fn a_body_without_close_notify_is_incomplete() {
    let server = Server::with(LOCAL).await;
    let endpoint = server.endpoint("localhost", Some(LOCAL));
    // Without a close_notify anyone may have cut the connection.
    for farewell in [true, false] {
        let answering = async {
            let mut stream = server.accept().await.unwrap();
            answer(&mut stream, "HTTP/1.1 200 OK\r\n\r\nhi").await;
            if farewell {
                stream.shutdown().await.unwrap();
            }
        };
        let asking = async {
            let response = within_timeout(endpoint.send(&request(&endpoint, "{}"))).await;
            read(&mut response.unwrap().body).await
        };
        let ((content_read, end), ()) = tokio::join!(asking, answering);
        assert_eq!(content_read, b"hi");
        assert_eq!(end.is_ok(), farewell);
    }
}

#[tokio::test]
async fn the_connect_timeout_includes_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let connector = Connector::new(&trusting(RootCertStore::empty()), Duration::from_millis(50));
    let endpoint = Endpoint::new(&url.parse().unwrap(), &connector);
    let answer = within_timeout(endpoint.send(&request(&endpoint, "{}"))).await;
    assert!(matches!(answer, Err(ExchangeError::ConnectTimeout)));
}

/// rustls takes several records at once out of the kernel and hands them over one by one.
#[tokio::test]
async fn a_connection_with_buffered_tls_records_is_not_reused() {
    let stray = OK_HI.replace("hi", "no");
    for stray in [Some(stray.as_str()), None] {
        let server = Server::with(LOCAL).await;
        let endpoint = server.endpoint("localhost", Some(LOCAL));
        let answering = async {
            let mut stream = server.accept().await.unwrap();
            asked(&mut stream).await;
            let session = stream.get_mut().1;
            session.writer().write_all(OK_HI.as_bytes()).unwrap();
            match stray {
                // A second answer to one request.
                Some(stray) => session.writer().write_all(stray.as_bytes()).unwrap(),
                // A close_notify, while TCP stays open.
                None => session.send_close_notify(),
            }
            stream.flush().await.unwrap();
            let mut next = server.accept().await.unwrap();
            answer(&mut next, &OK_HI.replace("hi", "yo")).await;
            (stream, next)
        };
        let asking = async {
            let response = within_timeout(endpoint.send(&request(&endpoint, "{}"))).await;
            assert_eq!(content(response).await, "hi");
            let response = within_timeout(endpoint.send(&request(&endpoint, "{}"))).await;
            assert_eq!(content(response).await, "yo");
        };
        tokio::join!(asking, answering);
    }
}

#[tokio::test]
async fn a_request_is_written_to_its_end_after_an_early_answer() {
    // More bytes than the kernel buffers.
    let much = "x".repeat(16 << 20);
    let server = Server::with(LOCAL).await;
    let endpoint = server.endpoint("localhost", Some(LOCAL));
    let asking = async {
        let mut response = within_timeout(endpoint.send(&request(&endpoint, &much)))
            .await
            .unwrap();
        read(&mut response.body).await
    };
    let reading = async {
        let mut stream = server.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
        stream.write_all(head).await.unwrap();
        stream.flush().await.unwrap();
        let mut content = 0;
        let mut buffer = vec![0; 1 << 16];
        while content < much.len() {
            let read = within_timeout(stream.read(&mut buffer)).await.unwrap();
            assert_ne!(read, 0);
            content += buffer[..read].iter().filter(|byte| **byte == b'x').count();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let ((content_read, end), _stream) = tokio::join!(asking, reading);
    assert_eq!(content_read, b"hi");
    end.unwrap();
}
