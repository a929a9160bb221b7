//! The program's commands: arguments in, exit status out.

pub mod ask;
pub mod check;
mod client;
pub mod completions;
pub mod connect;
pub mod healthcheck;
pub mod keys;
pub mod record;
pub mod replay;
pub mod schema;
pub mod serve;
mod signals;

pub use signals::ShutdownSignals;

use std::path::PathBuf;

/// The environment variable that names the config file.
const CONFIG_VARIABLE: &str = "SLUICEGATE_CONFIG";

/// The config file: that of the command line, else that of the environment. An empty variable
/// counts as unset.
fn config_path(argument: Option<&PathBuf>) -> Option<PathBuf> {
    let variable = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    argument.cloned().or_else(|| variable().map(PathBuf::from))
}

/// What is wrong where a command needs a config and has none.
const NO_CONFIG: &str = "there is no config file: pass --config FILE or set SLUICEGATE_CONFIG";

/// Exit status: the command succeeded.
pub const SUCCESS: u8 = 0;
/// Exit status: the command failed at run time.
pub const FAILURE: u8 = 1;
/// Exit status: wrong usage or a wrong config.
pub const USAGE_ERROR: u8 = 2;
