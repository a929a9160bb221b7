//! `sluicegate replay`: a model API that plays fixtures.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::config::parse_address;
use crate::fixture::{Fault, Library, LoadError, Options, Pace, Server};

/// Serves recorded model answers, so that an app can be tested without a real model.
///
/// Every API that the gateway speaks to is served from DIR/<wire>/<case>/. The requested model
/// names the case; any other model gets the case `text`. GET / lists the cases.
#[derive(Debug, Clone, clap::Args)]
pub struct Replay {
    /// The folder of fixtures
    pub dir: PathBuf,

    /// The address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8089", value_parser = parse_address)]
    pub listen: SocketAddr,

    /// How fast to send: recorded, max, or milliseconds
    ///
    /// recorded: each chunk as long after the one before as it was recorded (timing.json), or one
    /// event every 30 ms where nothing was recorded.
    /// max: without waiting.
    /// MS: every chunk that many milliseconds after the one before.
    #[arg(
        long,
        value_name = "recorded|max|MS",
        default_value = "recorded",
        verbatim_doc_comment
    )]
    pub pace: Pace,

    /// Cut every chunk into pieces of N bytes, each written by itself
    #[arg(long, value_name = "N")]
    pub split: Option<NonZeroUsize>,

    /// How every answer breaks: refuse, status:N, hang, stall:N, reset:N, truncate:N, garbage:N
    ///
    /// refuse      the port is taken, but connections are refused
    /// status:N    status N, with an error body in the form of the API that was asked; 429, 503
    ///             and 529 say retry-after: 2
    /// hang        the request is read and never answered
    /// stall:N     N events, then silence over an open connection
    /// reset:N     N events, half of the next one, then a TCP reset
    /// truncate:N  N events, half of the next one, then a clean end of the body
    /// garbage:N   N events, then a well-framed event whose JSON does not parse, then the rest
    ///
    /// An answer with no more than N events breaks before its last one. (Of an OpenAI answer the
    /// last event is [DONE], which clients may do without.) Comments are no events; an answer that
    /// is not a stream is one event.
    #[arg(long, value_name = "KIND", verbatim_doc_comment)]
    pub fault: Option<Fault>,
}

/// Why the replay did not run.
#[derive(Debug)]
pub enum ReplayError {
    /// The fixtures cannot be loaded.
    Load(LoadError),
    /// The address cannot be bound.
    Listen(SocketAddr, io::Error),
    /// The output cannot be written.
    Output(io::Error),
}

impl Replay {
    /// Serves until `stop`, and prints on `out` the address and the cases.
    ///
    /// # Errors
    /// If it cannot begin to serve.
    pub async fn run(
        self,
        mut out: impl Write,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ReplayError> {
        let library = Library::load(&self.dir).map_err(ReplayError::Load)?;
        let options = Options {
            pace: self.pace,
            split: self.split,
            fault: self.fault,
            ..Options::default()
        };
        let server = Server::bind(self.listen, &library, &options)
            .map_err(|error| ReplayError::Listen(self.listen, error))?;
        announce(&mut out, &server, &library).map_err(ReplayError::Output)?;
        stop.await;
        server.stop().await;
        Ok(())
    }
}

fn announce(out: &mut impl Write, server: &Server, library: &Library) -> io::Result<()> {
    writeln!(out, "http://{}", server.addr())?;
    let mut served = Vec::new();
    for (wire, cases) in server.served() {
        served.push(wire);
        let cases: Vec<&str> = cases.collect();
        writeln!(out, "  {wire}: {}", cases.join(", "))?;
    }
    for wire in library.wires().filter(|wire| !served.contains(wire)) {
        writeln!(out, "  {wire}: not served: the gateway has no such wire")?;
    }
    out.flush()
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Listen(addr, error) => write!(f, "cannot listen on {addr}: {error}"),
            Self::Output(error) => write!(f, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Load(error) => Some(error),
            Self::Listen(_, error) | Self::Output(error) => Some(error),
        }
    }
}
