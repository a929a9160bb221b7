//! Why the gateway did not run.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::{Config, LoadedConfig, Overrides, Problems};
use crate::fixture::LoadError;

/// Why the gateway did not run.
#[derive(Debug)]
pub(in crate::command) enum ServeError {
    Config(Problems),
    Fixtures(LoadError),
    Listen(SocketAddr, io::Error),
    Signals(io::Error),
    /// The system's certificates cannot be read.
    Certificates(rustls::Error),
    /// The exporter of traces cannot be made.
    Tracing(String),
    Output(io::Error),
}

/// Loads a config with the environment of the process.
pub(in crate::command) fn load(
    path: &Path,
    overrides: &Overrides,
) -> Result<LoadedConfig, ServeError> {
    let env = |name: &str| std::env::var(name).ok();
    Config::load(path, &env, overrides).map_err(ServeError::Config)
}

impl From<Problems> for ServeError {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => problems.fmt(f),
            Self::Fixtures(error) => error.fmt(f),
            Self::Listen(addr, error) => write!(
                f,
                "cannot listen on {addr}: {error}; --listen and --admin-listen choose other addresses"
            ),
            Self::Signals(error) => write!(f, "cannot install signal handlers: {error}"),
            Self::Certificates(error) => {
                write!(f, "cannot read the system's certificates: {error}")
            }
            Self::Tracing(problem) => write!(
                f,
                "cannot send traces as the environment says (OTEL_…): {problem}"
            ),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}
