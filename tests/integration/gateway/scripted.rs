//! An upstream that a test controls byte by byte.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::within_timeout;

/// Listens; the test decides what happens to each connection.
pub struct ScriptedUpstream {
    listener: TcpListener,
}

/// A connection on which a request came. Dropping it closes it.
pub struct Exchange {
    stream: TcpStream,
    /// The request up to its empty line, names in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl ScriptedUpstream {
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Waits for a connection.
    pub async fn accept(&self) -> Exchange {
        let (stream, _) = within_timeout(self.listener.accept()).await.unwrap();
        Exchange::over(stream)
    }

    /// Waits for a connection and the request on it.
    pub async fn request(&self) -> Exchange {
        let mut exchange = self.accept().await;
        assert!(
            exchange.next_request().await,
            "a connection without a request"
        );
        exchange
    }

    /// Whether another connection arrived.
    pub fn was_asked_again(self) -> bool {
        // The listener is still non-blocking.
        self.listener.into_std().unwrap().accept().is_ok()
    }
}

impl Exchange {
    /// A connection on which no request arrived yet.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            head: String::new(),
            body: Vec::new(),
        }
    }

    /// Waits for another request on the connection; `false` if it is closed instead.
    pub async fn next_request(&mut self) -> bool {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if within_timeout(self.stream.read_buf(&mut bytes))
                .await
                .unwrap_or(0)
                == 0
            {
                assert_eq!(bytes, b"", "half a request");
                return false;
            }
        };
        self.head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_lowercase();
        self.body = bytes.split_off(end);
        let length = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        while self.body.len() < length {
            assert_ne!(
                within_timeout(self.stream.read_buf(&mut self.body))
                    .await
                    .unwrap(),
                0
            );
        }
        true
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within_timeout(self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap();
    }

    /// Writes to a connection that the gateway may have closed.
    pub async fn try_write(&mut self, bytes: &[u8]) {
        let _ = within_timeout(self.stream.write_all(bytes)).await;
    }

    /// Starts a streamed answer that is the connection's last: a test that closes the connection later
    /// would race with a gateway that reuses it.
    pub async fn begin(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        )
        .await;
    }

    /// Starts a streamed answer on a connection that stays open after it.
    pub async fn begin_and_stay(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\n\r\n",
        )
        .await;
    }

    /// One chunk of a streamed answer.
    pub async fn chunk(&mut self, text: impl AsRef<[u8]>) {
        assert!(
            self.try_chunk(text).await,
            "the gateway closed the connection"
        );
    }

    /// One chunk of a streamed answer; `false` if the gateway closed the connection.
    pub async fn try_chunk(&mut self, text: impl AsRef<[u8]>) -> bool {
        let text = text.as_ref();
        let size = format!("{:x}\r\n", text.len());
        let chunk = [size.as_bytes(), text, b"\r\n"].concat();
        within_timeout(self.stream.write_all(&chunk)).await.is_ok()
    }

    pub async fn token(&mut self, text: &str) {
        self.chunk(token(text)).await;
    }

    /// A finish, the terminal marker and the body's clean end.
    pub async fn finish(&mut self) {
        self.chunk(finish()).await;
        self.end().await;
    }

    /// The body's clean end.
    pub async fn end(&mut self) {
        self.write("0\r\n\r\n").await;
    }

    /// The body's clean end; `false` if the gateway closed the connection.
    pub async fn try_end(&mut self) -> bool {
        within_timeout(self.stream.write_all(b"0\r\n\r\n"))
            .await
            .is_ok()
    }

    /// A whole answer with a body, the connection's last.
    pub async fn answer(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 {status} Whatever\r\n{headers}content-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        ))
        .await;
    }

    /// Waits until the gateway closes the connection.
    pub async fn closed(mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = within_timeout(self.stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"", "something came behind the request");
    }

    /// Closes the connection with a TCP reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Writes as much of `bytes` as the connection takes at once; returns how much that was.
    pub async fn write_some(&mut self, bytes: &[u8]) -> usize {
        self.stream.write(bytes).await.unwrap()
    }
}

/// The event of one token.
pub fn token(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// The first event of most answers: a role without content.
pub fn role() -> String {
    event(&json!({"id": "chatcmpl-1", "model": "text-1", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": ""}}
    ]}))
}

/// The last two events of an answer.
pub fn finish() -> String {
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    event(&finish) + "data: [DONE]\n\n"
}

pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
