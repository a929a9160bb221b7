//! Clients that read as fast as they can, and their measurements.
//!
//! A measurement is a window: it opens when every connection has begun and a moment has passed, and
//! only what happens inside of it counts as throughput, CPU and per-token latency. Answers that are
//! under way when it closes are read to their end, since one that is not whole is a failure.

use std::error::Error;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::arguments::Arguments;
use crate::clock;
use crate::histogram::Histogram;
use crate::plan::{Plan, SECOND};
use crate::process;
use crate::reader::Reader;
use crate::transport::Transport;

/// How much is read at once, in bytes.
const READ: usize = 256 * 1024;

/// # Errors
/// If the arguments make no sense or the system's events fail. What goes wrong with an answer is
/// counted.
pub fn run(arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let plan = Plan::new(arguments)?;
    arguments.done()?;
    let mut clients = Clients::new(&plan)?;
    let before = Mark::now(&plan, &clients);
    let memory_before = process::memory(&plan.watched);
    if plan.storm || plan.connector.uses_tls() {
        // The connections first, so that all requests come at once, and no handshake keeps the clients from reading.
        for index in 0..plan.connections {
            clients.connect(index);
        }
        std::thread::sleep(Duration::from_nanos(plan.settle));
    }
    let start = clock::now();
    let opens = start + plan.ramp + plan.warm;
    let closes = opens + plan.window;
    let gives_up = closes + plan.grace;
    let mut begun = 0;
    let mut first: Option<Mark> = None;
    let mut last: Option<Mark> = None;
    let mut memory_after = 0;
    let mut open = 0;
    let mut resident = Vec::new();
    let mut sample = start;
    loop {
        let now = clock::now();
        while begun < plan.connections && start + plan.begins(begun) <= now {
            clients.ask_again(begun);
            begun += 1;
        }
        if now >= sample {
            resident.push(process::resident(&plan.watched));
            sample = now + plan.window / 60 + 100_000_000;
        }
        if first.is_none() && now >= opens {
            first = Some(Mark::now(&plan, &clients));
            clients.measuring = true;
        }
        if last.is_none() && now >= closes {
            last = Some(Mark::now(&plan, &clients));
            clients.measuring = false;
            clients.stopping = true;
            memory_after = process::memory(&plan.watched);
            open = clients.open();
        }
        let idle = begun == plan.connections && clients.open() == 0;
        let ends = last.is_some() || plan.once || clients.requests == plan.requests;
        if (idle && ends) || now >= gives_up {
            break;
        }
        let next = if begun < plan.connections {
            start + plan.begins(begun)
        } else {
            sample
        };
        clients.wait(next.saturating_sub(now))?;
    }
    // With `once` all may be over before the window is.
    let end = Mark::now(&plan, &clients);
    let (first, last) = match (first, last) {
        (Some(first), Some(last)) => (first, last),
        _ => (before, end),
    };
    clients.give_up();
    report(&Seen {
        clients: &clients,
        first: &first,
        last: &last,
        took: clock::now() - start,
        memory: (memory_before, memory_after),
        resident: &resident,
        open,
    });
    Ok(())
}

struct Client {
    stream: Option<Transport>,
    reader: Option<Reader>,
    asked: u64,
}

struct Clients<'a> {
    plan: &'a Plan,
    events: OwnedFd,
    list: Vec<Client>,
    happened: Vec<epoll::Event>,
    space: Vec<u8>,
    body: Vec<u8>,
    measuring: bool,
    stopping: bool,
    open: usize,
    requests: u64,
    tokens: u64,
    answers: u64,
    incomplete: u64,
    first_reason: Option<String>,
    per_token: Histogram,
    first_token: Histogram,
}

impl<'a> Clients<'a> {
    fn new(plan: &'a Plan) -> Result<Self, Box<dyn Error>> {
        let client = || Client {
            stream: None,
            reader: None,
            asked: 0,
        };
        Ok(Self {
            plan,
            events: epoll::create(CreateFlags::CLOEXEC)?,
            list: std::iter::repeat_with(client)
                .take(plan.connections)
                .collect(),
            happened: Vec::with_capacity(1024),
            space: vec![0; READ],
            body: Vec::with_capacity(2 * READ),
            measuring: false,
            stopping: false,
            open: 0,
            requests: 0,
            tokens: 0,
            answers: 0,
            incomplete: 0,
            first_reason: None,
            per_token: Histogram::new(),
            first_token: Histogram::new(),
        })
    }

    /// How many answers are under way.
    fn open(&self) -> usize {
        self.open
    }

    fn connect(&mut self, index: usize) -> bool {
        let connected = self.plan.connector.connect().and_then(|stream| {
            epoll::add(
                &self.events,
                &stream,
                EventData::new_u64(index as u64),
                EventFlags::IN,
            )?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                self.list[index].stream = Some(stream);
                true
            }
            Err(error) => {
                self.failed(format!("no connection: {error}"));
                false
            }
        }
    }

    /// Sends a request if there may be another one.
    fn ask_again(&mut self, index: usize) {
        if self.requests < self.plan.requests {
            self.requests += 1;
            self.ask(index);
        }
    }

    /// Sends a request, over a new connection where there is none.
    fn ask(&mut self, index: usize) {
        if self.list[index].stream.is_none() && !self.connect(index) {
            return;
        }
        let client = &mut self.list[index];
        let Some(stream) = &mut client.stream else {
            return;
        };
        client.asked = clock::now();
        client.reader = Some(Reader::default());
        self.open += 1;
        // A request is much smaller than what a socket takes.
        if let Err(error) = stream.write_all(&self.plan.request) {
            self.end(index, Some(format!("the request was not taken: {error}")));
        }
    }

    fn wait(&mut self, nanoseconds: u64) -> Result<(), Box<dyn Error>> {
        let mut happened = std::mem::take(&mut self.happened);
        let wait = clock::timespec(nanoseconds);
        match epoll::wait(&self.events, spare_capacity(&mut happened), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in happened.drain(..) {
            self.read(event.data.u64() as usize);
        }
        self.happened = happened;
        Ok(())
    }

    fn read(&mut self, index: usize) {
        let client = &mut self.list[index];
        let Some(stream) = &mut client.stream else {
            return;
        };
        let count = match stream.read(&mut self.space) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => return self.end(index, Some(format!("the connection broke: {error}"))),
        };
        if count == 0 {
            let waiting = client.reader.is_some();
            client.stream = None;
            if waiting {
                self.end(
                    index,
                    Some("the connection was closed too early".to_owned()),
                );
            }
            return;
        }
        let Some(reader) = &mut client.reader else {
            client.stream = None;
            return self.failed("there are bytes that nobody asked for".to_owned());
        };
        let (now, before) = (clock::now(), reader.tokens);
        let (per_token, measuring) = (&mut self.per_token, self.measuring);
        let read = reader.read(
            &self.space[..count],
            self.plan.looks,
            now,
            &mut self.body,
            &mut |age| {
                if measuring {
                    per_token.add(age);
                }
            },
        );
        if before == 0 && reader.tokens > 0 {
            self.first_token.add(now - client.asked);
        }
        self.tokens += reader.tokens - before;
        if let Err(reason) = read {
            return self.end(index, Some(reason));
        }
        if reader.whole() {
            let wrong = (reader.tokens != self.plan.tokens || !reader.terminal).then(|| {
                format!(
                    "{} of {} tokens, terminal event: {}",
                    reader.tokens, self.plan.tokens, reader.terminal
                )
            });
            if reader.closes || self.plan.fresh {
                client.stream = None;
            }
            self.end(index, wrong);
        }
    }

    /// Ends an answer, with a `reason` if it is not complete.
    fn end(&mut self, index: usize, reason: Option<String>) {
        self.list[index].reader = None;
        self.open -= 1;
        match reason {
            None => self.answers += 1,
            Some(reason) => {
                self.list[index].stream = None;
                self.failed(reason);
            }
        }
        if !self.stopping && !self.plan.once {
            self.ask_again(index);
        }
    }

    fn failed(&mut self, reason: String) {
        self.incomplete += 1;
        self.first_reason.get_or_insert(reason);
    }

    /// Ends all open answers.
    fn give_up(&mut self) {
        if self.open > 0 {
            self.incomplete += self.open as u64;
            let reason = format!("{} answers did not end", self.open);
            self.first_reason.get_or_insert(reason);
        }
    }
}

/// All counters at one moment.
struct Mark {
    time: u64,
    cpu: f64,
    driver: f64,
    tokens: u64,
    answers: u64,
}

impl Mark {
    fn now(plan: &Plan, clients: &Clients<'_>) -> Self {
        let own = process::cpu(&[std::process::id()]);
        Self {
            time: clock::now(),
            cpu: process::cpu(&plan.watched),
            driver: own + process::cpu(&plan.upstream),
            tokens: clients.tokens,
            answers: clients.answers,
        }
    }
}

struct Seen<'a> {
    clients: &'a Clients<'a>,
    first: &'a Mark,
    last: &'a Mark,
    took: u64,
    memory: (u64, u64),
    resident: &'a [u64],
    open: usize,
}

/// One JSON object; times in the names' units, `null` for what there is none of.
fn report(seen: &Seen<'_>) {
    let Seen {
        clients,
        first,
        last,
        ..
    } = seen;
    let quantiles = |histogram: &Histogram| {
        let value = |share| {
            let value = histogram.quantile(share);
            value.map_or("null".to_owned(), |value| {
                format!("{:.4}", value as f64 / 1e6)
            })
        };
        let [p50, p99, p999] = [value(0.5), value(0.99), value(0.999)];
        format!(r#"{{"p50":{p50},"p99":{p99},"p999":{p999}}}"#)
    };
    let reason = clients.first_reason.as_ref();
    let reason = reason.map_or("null".to_owned(), |reason| {
        format!(
            "{:?}",
            reason.replace(|c: char| !(' '..='~').contains(&c), " ")
        )
    });
    println!(
        r#"{{"seconds":{:.6},"took_seconds":{:.6},"tokens":{},"answers":{},"cpu_seconds":{:.2},"driver_cpu_seconds":{:.2},"total_answers":{},"incomplete":{},"reason":{reason},"open":{},"memory_before_kib":{},"memory_after_kib":{},"resident_kib":{:?},"token_ms":{},"first_token_ms":{}}}"#,
        (last.time - first.time) as f64 / SECOND,
        seen.took as f64 / SECOND,
        last.tokens - first.tokens,
        last.answers - first.answers,
        last.cpu - first.cpu,
        last.driver - first.driver,
        clients.answers,
        clients.incomplete,
        seen.open,
        seen.memory.0,
        seen.memory.1,
        seen.resident,
        quantiles(&clients.per_token),
        quantiles(&clients.first_token),
    );
}
