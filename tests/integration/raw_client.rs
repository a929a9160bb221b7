//! An HTTP/1.1 client that shows every detail: each chunk, and how the body ended.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use sluicegate::model::{Message, Part, Request, Role, Vendor};
use sluicegate::wire::Wire;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One connection. Dropping it closes it.
pub struct RawClient {
    stream: BufReader<TcpStream>,
}

/// An answer up to its body.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
}

impl RawClient {
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = BufReader::new(TcpStream::connect(addr).await?);
        Ok(Self { stream })
    }

    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        self.send_with(method, path, &[], body.as_bytes()).await
    }

    /// Sends a request with headers beside those that every request has.
    pub async fn send_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(&[head.as_bytes(), body].concat()).await
    }

    /// The connection, to be read byte by byte.
    pub fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }

    /// The connection itself. Bytes that were read ahead are lost, so use it before the first read.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request for `model` in the form of a wire.
    pub async fn ask(&mut self, wire: &dyn Wire, model: &str) -> io::Result<()> {
        let request = Request {
            messages: vec![Message {
                field: "prompt".to_owned(),
                role: Role::User,
                content: vec![Part::Text("Hello?".to_owned())],
            }],
            ..Request::default()
        };
        let outgoing = wire.request(&request, model, &Vendor::default()).unwrap();
        let path = format!("/v1{}", outgoing.path);
        self.send("POST", &path, &outgoing.body.to_string()).await
    }

    /// Sends a request in the form of `openai-chat`.
    pub async fn chat(&mut self, model: &str) -> io::Result<()> {
        let body = json!({"model": model, "messages": [], "stream": true}).to_string();
        self.send("POST", "/v1/chat/completions", &body).await
    }

    pub async fn head(&mut self) -> io::Result<Head> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(Head { status, headers });
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }

    /// The next chunk, or `None` at the body's clean end.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line().await?, 16).unwrap();
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).await?;
        assert_eq!(self.line().await?, "");
        Ok((length > 0).then_some(chunk))
    }

    /// The chunks up to the body's clean end.
    pub async fn chunks(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// The body after `head`, chunked or with a length.
    pub async fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        if head.headers.contains_key("transfer-encoding") {
            return Ok(self.chunks().await?.concat());
        }
        let length = head.headers.get("content-length");
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }

    /// Waits until the other side closes the connection; returns how many bytes came before.
    pub async fn closed(&mut self) -> usize {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.stream.read_to_end(&mut rest).await;
        rest.len()
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_slice(&self.chunks().await.unwrap().concat()).unwrap()
    }

    /// A line without its end.
    ///
    /// # Errors
    /// `UnexpectedEof` where the connection was closed.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
