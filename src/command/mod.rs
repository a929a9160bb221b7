//! The commands: arguments in, exit status out.

pub mod ask;
pub mod check;
mod client;
pub mod healthcheck;
pub mod keys;
pub mod record;
pub mod replay;
pub mod serve;
mod signals;

pub use signals::ShutdownSignals;

/// The exit status of a command that did what it was asked.
pub const SUCCESS: u8 = 0;
/// The exit status of a command that failed at run time.
pub const FAILURE: u8 = 1;
/// The exit status for wrong usage or a wrong config.
pub const USAGE_ERROR: u8 = 2;
