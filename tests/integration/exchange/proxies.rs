//! Upstreams behind an HTTP proxy.

use secrecy::SecretString;
use sluicegate::upstream::exchange::{ConnectStage, Endpoint, ExchangeError, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::support::{OK_HI, connector, content, first, request, sent};
use super::tls::{Server, trusting_connector};
use crate::gateway::scripted::ScriptedUpstream;
use crate::gateway::within_timeout;

fn proxy(listener: &TcpListener) -> Proxy {
    let address = listener.local_addr().unwrap();
    Proxy {
        address: format!("http://{address}").parse().unwrap(),
        authorization: Some(SecretString::from("Basic dXNlcjpwYXNz")),
    }
}

/// The head of the request that a client sent, in lower case.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(within_timeout(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(bytes).unwrap().to_lowercase()
}

#[tokio::test]
async fn a_plaintext_request_through_a_proxy_names_its_whole_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = connector().proxy(Some(proxy(&listener)));
    let url = "http://upstream.example:81/v1".parse().unwrap();
    let endpoint = Endpoint::new(&url, &connector);
    let proxying = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(OK_HI.as_bytes()).await.unwrap();
        (head, stream)
    };
    let (response, (head, _stream)) = tokio::join!(sent(&endpoint), proxying);
    assert_eq!(content(response).await, "hi");
    let line = "post http://upstream.example:81/v1/chat http/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert!(head.contains("\r\nhost: upstream.example:81\r\n"), "{head}");
    let credential = "\r\nproxy-authorization: basic dxnlcjpwyxnz\r\n";
    assert!(head.contains(credential), "{head}");
}

#[tokio::test]
async fn a_tls_request_goes_through_a_tunnel() {
    let server = Server::trusted().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = trusting_connector().proxy(Some(proxy(&listener)));
    let address = server.address();
    let url = format!("https://localhost:{}/v1", address.port());
    let endpoint = Endpoint::new(&url.parse().unwrap(), &connector);
    let tunnelling = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut upstream = TcpStream::connect(address).await.unwrap();
        // It ends with either side.
        let _ = copy_bidirectional(&mut stream, &mut upstream).await;
        head
    };
    let asking = async {
        let answering = server.answer_once(OK_HI);
        let request = request(&endpoint, "{}");
        let (response, stream) = tokio::join!(within_timeout(endpoint.send(&request)), answering);
        let content = content(response).await;
        drop((endpoint, stream));
        content
    };
    let (content, head) = tokio::join!(asking, tunnelling);
    assert_eq!(content, "hi");
    let line = format!("connect localhost:{} http/1.1\r\n", address.port());
    assert!(head.starts_with(&line), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic"), "{head}");
    // The upstream's own credential and path are for the upstream alone.
    assert!(!head.contains("/v1/chat"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_named() {
    for refusal in [
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "HTTP/1.1 502 No\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connector = connector().proxy(Some(proxy(&listener)));
        let url = "https://upstream.example/v1".parse().unwrap();
        let endpoint = Endpoint::new(&url, &connector);
        let refusing = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(refusal.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(sent(&endpoint), refusing);
        let refused = matches!(
            response,
            Err(ExchangeError::Connect(ConnectStage::Proxy, _))
        );
        assert!(refused, "{refusal}");
    }
}

/// The environment's proxy variables are ignored: the upstream is reached directly.
#[tokio::test]
async fn without_a_proxy_the_upstream_is_reached_directly() {
    let upstream = ScriptedUpstream::bind().await;
    let endpoint = super::support::endpoint(upstream.addr());
    let exchange = first(&upstream, &endpoint, OK_HI).await;
    assert!(exchange.head.starts_with("post /v1/chat http/1.1\r\n"));
    assert!(!exchange.head.contains("proxy-authorization"));
}
