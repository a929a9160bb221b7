//! TLS on the client listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluicegate::config::{Config, Overrides};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{TestGateway, targets};
use super::program::{GatewayProcess, TemporaryFile};
use super::within_timeout;
use crate::fixture_server::{fast, serve};

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/exchange/certificates")
}

fn pem(name: &str) -> String {
    std::fs::read_to_string(certificates().join(name)).unwrap()
}

/// `tls` with a certificate for `localhost`.
fn settings() -> String {
    let path = |name: &str| certificates().join(name).display().to_string();
    let (cert, key) = (path("test-local.pem"), path("test-key.pem"));
    format!("tls: {{ cert: '{cert}', key: '{key}' }}")
}

/// Connects with this ALPN protocol; trusts `certificate` alone.
async fn connect(
    addr: std::net::SocketAddr,
    certificate: &str,
    name: &'static str,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    roots.add(certificate.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from(name).unwrap();
    within_timeout(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

const PROMPT: &str = "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 28\r\n\r\n\
                      {\"model\":\"m\",\"prompt\":\"Hi\"}";

#[tokio::test]
async fn streams_share_a_tls_connection() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], &settings());
    let local = pem("test-local.pem");
    let stream = connect(running.clients, &local, "localhost", "http/1.1").await;
    let mut stream = stream.unwrap();
    for _ in 0..3 {
        let prompt = PROMPT.replace(
            "28",
            &"{\"model\":\"m\",\"prompt\":\"Hi\"}".len().to_string(),
        );
        stream.write_all(prompt.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"0\r\n\r\n") {
            let read = within_timeout(stream.read_buf(&mut text)).await.unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&text));
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("event: complete\n"), "{text}");
    }
}

#[tokio::test]
async fn clients_choose_http2_with_alpn() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], &settings());
    let local = pem("test-local.pem");
    let stream = connect(running.clients, &local, "localhost", "h2")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (requests, connection) = within_timeout(h2::client::handshake(stream)).await.unwrap();
    let _connection = tokio::spawn(connection);
    let mut requests = within_timeout(requests.ready()).await.unwrap();
    let request = http::Request::get("https://localhost/v1/models")
        .body(())
        .unwrap();
    let (answer, _) = requests.send_request(request, true).unwrap();
    assert_eq!(within_timeout(answer).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_without_tls_is_disconnected_and_the_admin_listener_stays_plain() {
    let upstream = serve(&fast());
    let running = TestGateway::with_upstreams(&[upstream.addr()], &settings());
    let mut stream = TcpStream::connect(running.clients).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut text = Vec::new();
    let _ = within_timeout(stream.read_to_end(&mut text)).await;
    assert!(!text.starts_with(b"HTTP/"), "{text:?}");
    assert_eq!(running.admin("/livez").await.0, 200);
}

#[test]
fn bad_files_are_refused_by_check() {
    let cert = |name: &str| certificates().join(name).display().to_string();
    let empty = TemporaryFile::new("nothing");
    for (cert, key, problem) in [
        (
            cert("none.pem"),
            cert("test-key.pem"),
            "tls.cert: cannot be read",
        ),
        (
            cert("test-local.pem"),
            cert("none.pem"),
            "tls.key: cannot be read",
        ),
        (
            empty.path().to_owned(),
            cert("test-key.pem"),
            "tls.cert: holds no certificate",
        ),
        (
            cert("test-local.pem"),
            empty.path().to_owned(),
            "tls.key: holds no private key",
        ),
        (
            cert("test-local.pem"),
            cert("test-local.pem"),
            "tls.key: holds no private key",
        ),
    ] {
        let text = format!("tls: {{ cert: '{cert}', key: '{key}' }}\n");
        let problems = Config::parse(&text, "test", &|_| None, &Overrides::default());
        let problems = problems.unwrap_err().to_string();
        assert!(problems.contains(problem), "{problems}");
    }
    let missing = Config::parse("tls: {}\n", "test", &|_| None, &Overrides::default());
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("tls.cert: is missing") && missing.contains("tls.key: is missing"));
}

#[tokio::test]
async fn changed_files_are_loaded_and_bad_ones_refused() {
    let upstream = serve(&fast());
    let (local, elsewhere) = (pem("test-local.pem"), pem("test-elsewhere.pem"));
    let (cert, key) = (
        TemporaryFile::new(&local),
        TemporaryFile::new(&pem("test-key.pem")),
    );
    let tls = format!("tls: {{ cert: '{}', key: '{}' }}", cert.path(), key.path());
    let config = TemporaryFile::new(&targets(&[upstream.addr()], &tls));
    let mut gateway = GatewayProcess::start(&config, &[]).await;
    let addr = gateway.clients;
    connect(addr, &local, "localhost", "http/1.1")
        .await
        .unwrap();
    cert.write("nothing");
    let refused = "configuration refused; the one in use stays";
    gateway.program.wait_for_log(refused).await;
    connect(addr, &local, "localhost", "http/1.1")
        .await
        .unwrap();
    cert.write(&elsewhere);
    gateway.program.wait_for_log("configuration reloaded").await;
    connect(addr, &elsewhere, "elsewhere.example", "http/1.1")
        .await
        .unwrap();
    connect(addr, &local, "localhost", "http/1.1")
        .await
        .unwrap_err();
}
