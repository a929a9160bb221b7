//! A model API whose answer the model's name describes: `bench-500-64-20000` is 500 tokens, 64 in
//! a chunk, a chunk every 20,000 µs; 0 is as fast as they are taken. `prose-500-64-20000` has other texts. The
//! path says in which wire.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::answer::{Answer, Kind, WIRES, whole};
use crate::arguments::Arguments;
use crate::clock;

const LISTENER: u64 = u64::MAX;
/// How many tokens are written at once where a chunk holds fewer.
const BATCH: u64 = 64;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 16_384;

/// # Errors
/// If the address cannot be had, or the system's events fail.
pub fn run(arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = arguments.need("listen")?;
    arguments.done()?;
    let listener = TcpListener::bind(address)?;
    // Again, with room for a storm.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    let answers = Kind::ALL
        .iter()
        .flat_map(|kind| WIRES.iter().filter_map(|wire| Answer::of(wire, *kind)));
    let mut site = Site {
        events: epoll::create(CreateFlags::CLOEXEC)?,
        listener,
        answers: answers.collect(),
        connections: Vec::new(),
        free: Vec::new(),
        ready: VecDeque::new(),
        due: BinaryHeap::new(),
        scratch: Vec::new(),
    };
    epoll::add(
        &site.events,
        &site.listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    println!("listening on {}", site.listener.local_addr()?);
    site.serve()?;
    Ok(())
}

struct Site {
    events: OwnedFd,
    listener: TcpListener,
    answers: Vec<Answer>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that can accept more bytes.
    ready: VecDeque<usize>,
    /// When the next chunk of each connection is due.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    inbound: Vec<u8>,
    /// Bytes that the socket did not accept.
    pending: Vec<u8>,
    job: Option<Job>,
}

/// An answer that is being sent.
struct Job {
    answer: usize,
    tokens: u64,
    left: u64,
    per_chunk: u64,
    /// Nanoseconds from chunk to chunk; 0 is as fast as they are taken.
    pace: u64,
    next: u64,
}

impl Site {
    fn serve(&mut self) -> io::Result<()> {
        let mut happened = Vec::with_capacity(1024);
        loop {
            let now = clock::now();
            let wait = match (self.ready.is_empty(), self.due.peek()) {
                (false, _) => Some(0),
                (true, Some(Reverse((next, _)))) => Some(next.saturating_sub(now)),
                (true, None) => None,
            };
            let wait = wait.map(clock::timespec);
            match epoll::wait(&self.events, spare_capacity(&mut happened), wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in happened.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.wake(index as usize),
                }
            }
            let now = clock::now();
            while let Some(Reverse((next, index))) = self.due.peek().copied()
                && next <= now
            {
                self.due.pop();
                let job = self.connections[index]
                    .as_ref()
                    .and_then(|c| c.job.as_ref());
                // The connection may have gone, and another one have its place.
                if job.is_some_and(|job| job.pace > 0 && job.next == next) {
                    self.proceed(index);
                }
            }
            for _ in 0..self.ready.len() {
                if let Some(index) = self.ready.pop_front() {
                    self.proceed(index);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(
                &self.events,
                &stream,
                EventData::new_u64(index as u64),
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            )?;
            self.connections[index] = Some(Connection {
                stream,
                inbound: Vec::new(),
                pending: Vec::new(),
                job: None,
            });
        }
    }

    /// Something happened to a connection: it can be read, or written to again, or is closed.
    fn wake(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let mut piece = [0; 16 * 1024];
        loop {
            match connection.stream.read(&mut piece) {
                Ok(0) => return self.close(index),
                Ok(count) => connection.inbound.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.close(index),
            }
        }
        if connection.job.is_none() && connection.pending.is_empty() {
            let Some(asked) = request(&mut connection.inbound) else {
                return;
            };
            let Some(asked) = asked else {
                return self.close(index);
            };
            return self.begin(index, &asked);
        }
        if !connection.pending.is_empty() && flush(connection).is_err() {
            return self.close(index);
        }
        let paced = connection.job.as_ref().is_none_or(|job| job.pace > 0);
        if connection.pending.is_empty() && !paced {
            self.proceed(index);
        }
    }

    fn begin(&mut self, index: usize, asked: &Asked) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let now = clock::now();
        if !asked.streamed {
            let body = whole(self.answers[asked.answer].kind, now, asked.tokens);
            connection.pending = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            connection.pending.extend_from_slice(&body);
            if flush(connection).is_err() {
                self.close(index);
            }
            return;
        }
        let answer = &self.answers[asked.answer];
        connection.pending.extend_from_slice(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
                answer.content_type
            )
            .as_bytes(),
        );
        let opening = answer.opening();
        if !opening.is_empty() {
            chunk(&mut connection.pending, opening.len(), |out| {
                out.extend_from_slice(opening);
            });
        }
        connection.job = Some(Job {
            answer: asked.answer,
            tokens: asked.tokens,
            left: asked.tokens,
            per_chunk: asked.per_chunk,
            pace: asked.pace,
            next: now,
        });
        self.proceed(index);
    }

    /// Writes what is due, and sees to it that the rest comes.
    fn proceed(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let Some(job) = &mut connection.job else {
            return;
        };
        let fast = job.pace == 0;
        if fast && job.next == 0 && !connection.pending.is_empty() {
            return; // The socket says when it takes more.
        }
        let out = &mut self.scratch;
        out.clear();
        out.append(&mut connection.pending);
        let answer = &self.answers[job.answer];
        let now = clock::now();
        let mut budget = if fast {
            BATCH.max(job.per_chunk)
        } else {
            job.per_chunk
        };
        while budget > 0 && job.left > 0 {
            let count = job.per_chunk.min(job.left).min(budget);
            let first = job.tokens - job.left;
            chunk(out, answer.size(first, count), |out| {
                for number in first..first + count {
                    answer.token(number, now, out);
                }
            });
            job.left -= count;
            budget -= count;
        }
        let done = job.left == 0;
        if done {
            let closing = answer.closing(job.tokens);
            chunk(out, closing.len(), |out| out.extend_from_slice(&closing));
            out.extend_from_slice(b"0\r\n\r\n");
        }
        let next = job.next + job.pace;
        job.next = if fast { 0 } else { next };
        if done {
            connection.job = None;
        } else if !fast {
            self.due.push(Reverse((next, index)));
        }
        match write(&mut connection.stream, out) {
            Ok(count) => connection.pending.extend_from_slice(&out[count..]),
            Err(_) => return self.close(index),
        }
        if fast && !done && connection.pending.is_empty() {
            self.ready.push_back(index);
        }
    }

    fn close(&mut self, index: usize) {
        if self.connections[index].take().is_some() {
            self.free.push(index);
        }
    }
}

/// What a request asks for.
struct Asked {
    answer: usize,
    streamed: bool,
    tokens: u64,
    per_chunk: u64,
    pace: u64,
}

/// Takes a whole request out of `inbound`; `None` while there is none, `Some(None)` if it makes no
/// sense here.
fn request(inbound: &mut Vec<u8>) -> Option<Option<Asked>> {
    let head = memmem::find(inbound, b"\r\n\r\n")? + 4;
    let length = content_length(&inbound[..head]).unwrap_or(0);
    if inbound.len() < head + length {
        return None;
    }
    let asked = asked(&inbound[..head + length]);
    inbound.drain(..head + length);
    Some(asked)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    length.trim().parse().ok()
}

fn asked(request: &[u8]) -> Option<Asked> {
    let line = std::str::from_utf8(request.split(|byte| *byte == b'\r').next()?).ok()?;
    let path = line.split(' ').nth(1)?;
    let wire = if path.ends_with("/chat/completions") {
        "openai-chat"
    } else if path.ends_with("/messages") {
        "anthropic-messages"
    } else if path.ends_with("/converse-stream") {
        "bedrock-converse"
    } else if path.ends_with("/v2/chat") {
        "cohere-chat"
    } else if path.contains(":streamGenerateContent") {
        "gemini"
    } else if path.ends_with("/api/chat") {
        "ollama-chat"
    } else if path.ends_with("/responses") {
        "openai-responses"
    } else {
        return None;
    };
    let mut kinds = Kind::ALL.iter().enumerate();
    let (kind, name) = kinds.find_map(|(at, kind)| {
        let name = memmem::find(request, kind.prefix().as_bytes())?;
        Some((at, name + kind.prefix().len()))
    })?;
    let model = &request[name..];
    let mut numbers = model
        .split(|byte| !byte.is_ascii_digit())
        .map(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
    Some(Asked {
        answer: kind * WIRES.len() + WIRES.iter().position(|known| *known == wire)?,
        streamed: wire != "openai-chat" || memmem::find(request, b"\"stream\":true").is_some(),
        tokens: numbers.next()??,
        per_chunk: numbers.next()??.max(1),
        pace: numbers.next()??.checked_mul(1_000)?,
    })
}

fn chunk(out: &mut Vec<u8>, size: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{size:x}\r\n");
    fill(out);
    out.extend_from_slice(b"\r\n");
}

fn flush(connection: &mut Connection) -> io::Result<()> {
    let count = write(&mut connection.stream, &connection.pending)?;
    connection.pending.drain(..count);
    Ok(())
}

/// Writes what the socket takes, and says how much that was.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
