//! The shared state behind TLS, with a private certificate authority and client certificates.
//!
//! The servers are real, but the one that the tests use has no TLS of its own, so a front terminates it. `make
//! rolling ARGS="--state sentinel --tls"` runs with servers that have.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::client::text;
use super::harness::TestGateway;
use super::replicas::{started, viewed};
use super::scripted::ScriptedUpstream;
use super::state_servers::{
    WINDOW, read_text, sharing, wait_until_named, wait_until_up, wait_until_watched,
};
use super::within_timeout;
use crate::valkey::{Valkey, command};

const CERTIFICATES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/integration/exchange/certificates"
);
/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 0x16;

/// Terminates TLS before a server, with a certificate for `localhost` and 127.0.0.1. Connections without TLS pass
/// through: those of Sentinel and of other servers.
struct Front {
    listener: TcpListener,
}

/// How many TLS connections a front has accepted and refused.
#[derive(Default)]
struct Handshakes {
    accepted: watch::Sender<usize>,
    refused: watch::Sender<usize>,
}

impl Front {
    async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// `demanding`: clients must present the certificate for `localhost`.
    fn serve(self, server: SocketAddr, demanding: bool) -> Arc<Handshakes> {
        let acceptor = TlsAcceptor::from(server_config(demanding));
        let handshakes = Arc::new(Handshakes::default());
        let counts = Arc::clone(&handshakes);
        tokio::spawn(async move {
            while let Ok((client, _)) = self.listener.accept().await {
                tokio::spawn(pass(client, acceptor.clone(), server, Arc::clone(&counts)));
            }
        });
        handshakes
    }
}

async fn pass(
    mut client: TcpStream,
    acceptor: TlsAcceptor,
    server: SocketAddr,
    counts: Arc<Handshakes>,
) -> std::io::Result<()> {
    let mut first = [0];
    client.peek(&mut first).await?;
    if first == [HANDSHAKE] {
        let accepted = acceptor.accept(client).await;
        let count = match accepted {
            Ok(_) => &counts.accepted,
            Err(_) => &counts.refused,
        };
        count.send_modify(|count| *count += 1);
        let (mut client, mut server) = (accepted?, TcpStream::connect(server).await?);
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    } else {
        let mut server = TcpStream::connect(server).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    }
    Ok(())
}

fn server_config(demanding: bool) -> Arc<ServerConfig> {
    let read = |name: &str| std::fs::read(format!("{CERTIFICATES}/{name}")).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("test-local.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("test-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = if demanding {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap()
    } else {
        WebPkiClientVerifier::no_client_auth()
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// The settings that trust a front's certificate, and those that present one.
fn trusting() -> String {
    format!("ca: {CERTIFICATES}/test-local.pem")
}

fn presenting(certificate: &str) -> String {
    format!(
        "{}, client_cert: {{ cert: {CERTIFICATES}/{certificate}, key: {CERTIFICATES}/test-key.pem }}",
        trusting()
    )
}

/// A gateway with this state does not reach the server behind the front.
async fn assert_refused(upstream: &ScriptedUpstream, state: &str, handshakes: &Handshakes) {
    let before = *handshakes.accepted.borrow();
    handshakes.refused.send_replace(0);
    let state = format!("state: {state}");
    let gateway = TestGateway::with_resume(&[upstream.addr()], WINDOW, &state);
    let mut refused = handshakes.refused.subscribe();
    within_timeout(refused.wait_for(|count| *count > 0))
        .await
        .unwrap();
    let store = Arc::clone(gateway.gateway.app().store.as_ref().unwrap());
    assert!(store.query::<()>(&command("PING")).await.is_err());
    assert!(!store.is_up(), "{state}");
    assert_eq!(*handshakes.accepted.borrow(), before, "{state}");
}

#[tokio::test]
async fn a_private_certificate_authority_is_trusted_where_the_config_names_it() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let front = Front::bind().await;
    let url = format!("url: 'rediss://localhost:{}/0'", front.port());
    let handshakes = front.serve(valkey.addr(), false);
    let (here, there) = sharing(&upstream, &format!("{{ {url}, {} }}", trusting())).await;
    let (_own, _exchange, stream) = started(&here, &upstream).await;
    viewed(&there, &stream).await;
    drop((here, there));
    assert_refused(&upstream, &format!("{{ {url} }}"), &handshakes).await;
}

#[tokio::test]
async fn a_server_that_demands_a_certificate_gets_that_of_the_config() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let front = Front::bind().await;
    let url = format!("url: 'rediss://localhost:{}/0'", front.port());
    let handshakes = front.serve(valkey.addr(), true);
    let known = format!("{{ {url}, {} }}", presenting("test-local.pem"));
    let (here, there) = sharing(&upstream, &known).await;
    let (_own, _exchange, stream) = started(&here, &upstream).await;
    viewed(&there, &stream).await;
    drop((here, there));
    for certificates in [trusting(), presenting("test-elsewhere.pem")] {
        let state = format!("{{ {url}, {certificates} }}");
        assert_refused(&upstream, &state, &handshakes).await;
    }
}

#[tokio::test]
async fn sentinels_and_the_servers_that_they_name_are_reached_by_tls() {
    let upstream = ScriptedUpstream::bind().await;
    let fronts = [
        Front::bind().await,
        Front::bind().await,
        Front::bind().await,
    ];
    let [first, second, third] = fronts.each_ref().map(Front::port);
    let words = |text: String| text.split(' ').map(String::from).collect::<Vec<_>>();
    let mut master = Valkey::start_with(|_| words("--repl-diskless-sync-delay 0".to_owned()));
    let announced = format!("--replica-announce-port {second} --replicaof 127.0.0.1 {first}");
    let [before_master, before_replica, before_sentinel] = fronts;
    let handshakes = before_master.serve(master.addr(), true);
    let replica = Valkey::start_with(|_| words(announced.clone()));
    let replaced = before_replica.serve(replica.addr(), true);
    let sentinel = Valkey::sentinel(first);
    let asked = before_sentinel.serve(sentinel.addr(), true);
    wait_until_watched(&sentinel).await;
    let state = format!(
        "{{ url: 'rediss://main/0', sentinels: ['127.0.0.1:{third}'], {} }}",
        presenting("test-local.pem")
    );
    let (here, there) = sharing(&upstream, &state).await;
    let (mut own, mut exchange, stream) = started(&here, &upstream).await;
    viewed(&there, &stream).await;
    for counts in [&handshakes, &asked] {
        assert!(*counts.accepted.borrow() >= 2);
    }
    master.kill();
    wait_until_named(&sentinel, second).await;
    for gateway in [&here, &there] {
        wait_until_up(gateway).await;
    }
    exchange.token("two ").await;
    let mut reader = viewed(&there, &stream).await;
    read_text(&mut reader, "two ").await;
    assert!(*replaced.accepted.borrow() >= 2);
    exchange.token("three").await;
    exchange.finish().await;
    assert_eq!(text(&own.rest().await), "two three");
    assert_eq!(text(&reader.rest().await), "three");
    assert_eq!(*replaced.refused.borrow(), 0);
}
