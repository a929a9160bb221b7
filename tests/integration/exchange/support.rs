//! Sends requests over real connections, for the tests in this folder.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use sluicegate::upstream::exchange::{Body, Connector, Endpoint, ExchangeError, Request, Response};

use crate::gateway::scripted::{Exchange, ScriptedUpstream};
use crate::gateway::within_timeout;

/// Long enough not to matter in any test.
pub const TIMEOUT: Duration = Duration::from_secs(20);

pub const OK_HI: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// Trusts no certificate; for plaintext. Connections do not rest, so that the next request reuses them.
pub fn connector() -> Connector {
    Connector::new(&trusting(RootCertStore::empty()), TIMEOUT).max_rest(Duration::ZERO)
}

pub fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    endpoint_with(address, &connector())
}

pub fn endpoint_with(address: SocketAddr, connector: &Connector) -> Endpoint {
    Endpoint::new(&format!("http://{address}/v1").parse().unwrap(), connector)
}

pub fn request(endpoint: &Endpoint, body: &str) -> Request {
    let headers = HeaderMap::new();
    endpoint.post("/v1/chat", &headers, body.into())
}

pub async fn sent(endpoint: &Endpoint) -> Result<Response, ExchangeError> {
    within_timeout(endpoint.send(&request(endpoint, "{}"))).await
}

/// A body's content and how it ended.
pub async fn read(body: &mut Body) -> (Vec<u8>, io::Result<()>) {
    let mut content = Vec::new();
    loop {
        let read =
            poll_fn(|context| body.poll_read(context, |bytes| content.extend_from_slice(bytes)));
        match within_timeout(read).await {
            Ok(false) => {}
            Ok(true) => return (content, Ok(())),
            Err(error) => return (content, Err(error)),
        }
    }
}

/// Sends a request, answers it with `bytes` (whose content is `hi`) on a new connection, and
/// returns that connection.
pub async fn first(upstream: &ScriptedUpstream, endpoint: &Endpoint, bytes: &str) -> Exchange {
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.write(bytes).await;
        exchange
    };
    let asking = async { content(sent(endpoint).await).await };
    let (content_read, exchange) = tokio::join!(asking, answering);
    assert_eq!(content_read, "hi");
    exchange
}

/// Sends a request and answers it with `bytes` on the connection that is already open.
pub async fn again(exchange: &mut Exchange, endpoint: &Endpoint, bytes: &str) -> String {
    let answering = async {
        assert!(exchange.next_request().await, "the connection was closed");
        exchange.write(bytes).await;
    };
    let asking = async { content(sent(endpoint).await).await };
    let (content_read, ()) = tokio::join!(asking, answering);
    content_read
}

/// The content of a whole answer.
pub async fn content(response: Result<Response, ExchangeError>) -> String {
    let (content, end) = read(&mut response.unwrap().body).await;
    end.unwrap();
    String::from_utf8(content).unwrap()
}
