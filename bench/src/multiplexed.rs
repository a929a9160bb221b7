//! Clients that speak HTTP/2: many streams over few connections, all of them begun, then read to
//! their ends. What is measured goes from the first request to the last end.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use memchr::memmem;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::clock;
use crate::histogram::Histogram;
use crate::plan::{body, ids};
use crate::process;

/// The windows of one answer and of a connection, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// # Errors
/// If the arguments make no sense or there is no connection. What goes wrong with an answer is
/// counted.
pub fn run(arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let target: SocketAddr = arguments.need("target")?;
    let model: String = arguments.need("model")?;
    let key: String = arguments.take("key", String::new())?;
    let connections: usize = arguments.need("connections")?;
    let streams: usize = arguments.need("streams")?;
    let ramp: f64 = arguments.take("ramp", 0.0)?;
    let watched = ids(&arguments.take("watch", String::new())?)?;
    arguments.done()?;
    let numbers = model.split('-').nth_back(2);
    let tokens: Option<usize> = numbers.and_then(|number| number.parse().ok());
    let asking = Asking {
        target,
        authorization: format!("Bearer {key}"),
        body: body("native", &model, true).into(),
        tokens: tokens.ok_or("a model is named like bench-500-64-0")?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&asking, connections, streams, ramp, &watched))
}

struct Asking {
    target: SocketAddr,
    authorization: String,
    body: Bytes,
    tokens: usize,
}

/// When the first token came, from the request on, in nanoseconds.
type Answered = Result<u64, Box<dyn Error + Send + Sync>>;

async fn measure(
    asking: &Asking,
    connections: usize,
    streams: usize,
    ramp: f64,
    watched: &[u32],
) -> Result<(), Box<dyn Error>> {
    let memory_before = process::memory(watched);
    let mut open = Vec::new();
    // They end with the runtime.
    for _ in 0..connections {
        let stream = TcpStream::connect(asking.target).await?;
        stream.set_nodelay(true)?;
        let mut settings = h2::client::Builder::new();
        settings
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (requests, connection) = settings.handshake(stream).await?;
        tokio::spawn(connection);
        open.push(requests);
    }
    let (start, cpu) = (clock::now(), process::cpu(watched));
    let mut answers = JoinSet::new();
    for number in 0..streams {
        let begins = Duration::from_secs_f64(ramp * number as f64 / streams as f64);
        let requests = open[number % connections].clone();
        answers.spawn(answer(
            asking.request()?,
            asking.body.clone(),
            requests,
            begins,
            asking.tokens,
        ));
    }
    let middle = Duration::from_secs_f64(ramp + 3.0);
    let (mut whole, mut incomplete, mut reason) = (0, 0, None);
    let mut first_token = Histogram::new();
    let mut memory_after = None;
    let moment = tokio::time::sleep(middle);
    tokio::pin!(moment);
    loop {
        tokio::select! {
            () = &mut moment, if memory_after.is_none() => {
                memory_after = Some((process::memory(watched), answers.len()));
            }
            ended = answers.join_next() => match ended {
                None => break,
                Some(Ok(Ok(first))) => {
                    whole += 1;
                    first_token.add(first);
                }
                Some(Ok(Err(error))) => {
                    incomplete += 1;
                    reason.get_or_insert(error.to_string());
                }
                Some(Err(error)) => return Err(error.into()),
            },
        }
    }
    let seconds = (clock::now() - start) as f64 / 1e9;
    let (memory_after, open) = memory_after.unwrap_or((memory_before, 0));
    let share = |share| {
        let value = first_token.quantile(share);
        value.map_or("null".to_owned(), |value| {
            format!("{:.4}", value as f64 / 1e6)
        })
    };
    println!(
        r#"{{"took_seconds":{seconds:.6},"total_answers":{whole},"incomplete":{incomplete},"reason":{reason:?},"open":{open},"cpu_seconds":{:.2},"memory_before_kib":{memory_before},"memory_after_kib":{memory_after},"first_token_ms":{{"p50":{},"p99":{}}}}}"#,
        process::cpu(watched) - cpu,
        share(0.5),
        share(0.99),
        reason = reason.unwrap_or_default(),
    );
    Ok(())
}

impl Asking {
    fn request(&self) -> Result<http::Request<()>, http::Error> {
        http::Request::post(format!("http://{}/v1/streams", self.target))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(())
    }
}

async fn answer(
    request: http::Request<()>,
    body: Bytes,
    requests: SendRequest<Bytes>,
    begins: Duration,
    tokens: usize,
) -> Answered {
    tokio::time::sleep(begins).await;
    tokio::time::timeout(PATIENCE, read(request, body, requests, tokens)).await?
}

/// One answer to its end.
async fn read(
    request: http::Request<()>,
    body: Bytes,
    requests: SendRequest<Bytes>,
    tokens: usize,
) -> Answered {
    let asked = clock::now();
    let mut requests = requests.ready().await?;
    let (answer, mut sent) = requests.send_request(request, false)?;
    sent.send_data(body, true)?;
    let response = answer.await?;
    let status = response.status();
    let mut body = response.into_body();
    let (mut all, mut first) = (Vec::new(), None);
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        all.extend_from_slice(&bytes);
        if first.is_none() && memmem::find(&all, b"text\":\"@").is_some() {
            first = Some(clock::now() - asked);
        }
    }
    let came = memmem::find_iter(&all, b"text\":\"@").count();
    let complete = memmem::find(&all, b"event: complete").is_some();
    match first {
        Some(first) if complete && came == tokens => Ok(first),
        _ => Err(format!("status {status}, {came} tokens, complete: {complete}").into()),
    }
}
