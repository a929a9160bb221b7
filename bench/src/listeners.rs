//! Clients that listen to notifications: all of them connected, then announcements, one after the
//! other. What is measured goes from the request that announces to the event at each listener.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::arguments::Arguments;
use crate::clock;
use crate::histogram::Histogram;
use crate::process;

/// How long connecting, or an announcement, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many connections are made at a time: fewer than a listener lets wait.
const AT_ONCE: usize = 500;

/// # Errors
/// If the arguments make no sense, or a listener is lost.
pub fn run(arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let target: SocketAddr = arguments.need("target")?;
    let admin: SocketAddr = arguments.need("admin")?;
    let key: String = arguments.take("key", String::new())?;
    let listeners: usize = arguments.need("listeners")?;
    let announcements: usize = arguments.take("announcements", 10)?;
    let watched: u32 = arguments.need("watch")?;
    arguments.done()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(
        target,
        admin,
        &key,
        listeners,
        announcements,
        watched,
    ))
}

async fn measure(
    target: SocketAddr,
    admin: SocketAddr,
    key: &str,
    count: usize,
    announcements: usize,
    watched: u32,
) -> Result<(), Box<dyn Error>> {
    let memory_before = process::memory(&[watched]);
    let posted = Arc::<AtomicU64>::default();
    let (report, mut latencies) = mpsc::channel(count);
    let (ready, mut listening) = mpsc::channel(AT_ONCE);
    let request = format!(
        "GET /v1/notifications HTTP/1.1\r\nhost: {target}\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    let mut opened = 0;
    while opened < count {
        let batch = AT_ONCE.min(count - opened);
        for _ in 0..batch {
            let (request, posted) = (request.clone(), Arc::clone(&posted));
            let (ready, report) = (ready.clone(), report.clone());
            tokio::spawn(async move {
                // A listener that is lost reports nothing, which ends the measurement.
                let _ = listen(target, &request, ready, &posted, &report).await;
            });
        }
        for _ in 0..batch {
            timeout(PATIENCE, listening.recv())
                .await
                .map_err(|_| "a listener did not connect")?;
        }
        opened += batch;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory_after = process::memory(&[watched]);
    let mut all = Histogram::new();
    let mut slowest = Vec::new();
    let cpu = process::cpu(&[watched]);
    for number in 0..announcements {
        posted.store(clock::now(), Ordering::Relaxed);
        announce(admin, number).await?;
        let mut slow = 0;
        for _ in 0..count {
            let latency = timeout(PATIENCE, latencies.recv()).await;
            let latency = latency.map_err(|_| "an announcement did not reach a listener")?;
            let latency = latency.ok_or("the listeners are gone")?;
            all.add(latency);
            slow = slow.max(latency);
        }
        slowest.push(slow);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let cpu = (process::cpu(&[watched]) - cpu) / announcements as f64;
    slowest.sort_unstable();
    let milliseconds = |value: Option<u64>| value.unwrap_or_default() as f64 / 1e6;
    println!(
        r#"{{"listeners":{count},"announcements":{announcements},"p50_ms":{:.1},"p99_ms":{:.1},"max_ms":{:.1},"kib_per_listener":{:.1},"cpu_seconds_per_announcement":{cpu:.3}}}"#,
        milliseconds(all.quantile(0.5)),
        milliseconds(all.quantile(0.99)),
        milliseconds(slowest.last().copied()),
        memory_after.saturating_sub(memory_before) as f64 / count as f64,
    );
    Ok(())
}

/// One listener: reports how long each announcement took, in nanoseconds.
async fn listen(
    target: SocketAddr,
    request: &str,
    ready: mpsc::Sender<()>,
    posted: &AtomicU64,
    report: &mpsc::Sender<u64>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut stream = TcpStream::connect(target).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    read_until(&mut stream, &mut bytes, b": listening\n\n").await?;
    ready.send(()).await?;
    loop {
        read_until(&mut stream, &mut bytes, b"event: announcement\n").await?;
        let latency = clock::now() - posted.load(Ordering::Relaxed);
        report.send(latency).await?;
    }
}

/// Reads until `mark` came, and drops everything up to it.
async fn read_until(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    mark: &[u8],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    loop {
        if let Some(at) = memmem::find(bytes, mark) {
            bytes.drain(..at + mark.len());
            return Ok(());
        }
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await? {
            0 => return Err("the connection ended".into()),
            length => bytes.extend_from_slice(&piece[..length]),
        }
    }
}

async fn announce(admin: SocketAddr, number: usize) -> Result<(), Box<dyn Error>> {
    let body = format!(r#"{{"event":"announcement","data":{{"number":{number}}}}}"#);
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!(
        "POST /notifications HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err("the announcement was refused".into()),
    }
}
