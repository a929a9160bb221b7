//! A client's connection, over HTTP/1.1 or HTTP/2, for one request.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::net::TcpStream;

use crate::gateway::within_timeout;
use crate::raw_client::{Head, RawClient};

/// Dropping it closes it.
pub enum Connection {
    Http1(RawClient),
    Http2(Box<Http2>),
}

/// What is kept of a request over HTTP/2; dropping all of it resets the stream.
pub struct Http2 {
    _requests: SendRequest<Bytes>,
    _sent: SendStream<Bytes>,
    answer: Option<ResponseFuture>,
    body: Option<RecvStream>,
}

impl Connection {
    pub async fn send(
        clients: SocketAddr,
        is_http2: bool,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Self {
        if is_http2 {
            let sent = Http2::send(clients, method, path, headers, body).await;
            return Self::Http2(Box::new(sent));
        }
        let mut client = RawClient::connect(clients).await.unwrap();
        let sent = client.send_with(method, path, headers, body.as_bytes());
        sent.await.unwrap();
        Self::Http1(client)
    }

    pub async fn head(&mut self) -> Head {
        match self {
            Self::Http1(client) => within_timeout(client.head()).await.unwrap(),
            Self::Http2(client) => within_timeout(client.head()).await,
        }
    }

    /// The next piece of a streamed body; `None` at its clean end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Http1(client) => within_timeout(client.chunk()).await.unwrap(),
            Self::Http2(client) => within_timeout(client.chunk()).await,
        }
    }

    /// The rest of the body after `head`.
    pub async fn body(&mut self, head: &Head) -> Vec<u8> {
        if let Self::Http1(client) = self {
            return within_timeout(client.body(head)).await.unwrap();
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend(chunk);
        }
        body
    }
}

impl Http2 {
    async fn send(
        clients: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Self {
        let stream = TcpStream::connect(clients).await.unwrap();
        let (requests, connection) = within_timeout(h2::client::handshake(stream)).await.unwrap();
        // Ends with the last handle.
        tokio::spawn(connection);
        let mut requests = within_timeout(requests.ready()).await.unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let is_empty = body.is_empty();
        let sent = requests.send_request(request.body(()).unwrap(), is_empty);
        let (answer, mut sent) = sent.unwrap();
        if !is_empty {
            sent.send_data(body.into(), true).unwrap();
        }
        Self {
            _requests: requests,
            _sent: sent,
            answer: Some(answer),
            body: None,
        }
    }

    async fn head(&mut self) -> Head {
        let answer = self.answer.take().expect("a head is read once");
        let (parts, body) = answer.await.unwrap().into_parts();
        self.body = Some(body);
        let headers = parts.headers.iter().map(|(name, value)| {
            let value = value.to_str().unwrap().to_owned();
            (name.as_str().to_owned(), value)
        });
        Head {
            status: parts.status.as_u16(),
            headers: headers.collect(),
        }
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let body = self.body.as_mut().expect("the head was read");
        let bytes = body.data().await?.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        Some(bytes.to_vec())
    }
}
