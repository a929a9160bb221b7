//! The program's commands: arguments in, exit status out.

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

/// Exit status: the command succeeded.
pub const SUCCESS: u8 = 0;
/// Exit status: the command failed at run time.
pub const FAILURE: u8 = 1;
/// Exit status: wrong usage or a wrong config.
pub const USAGE_ERROR: u8 = 2;
