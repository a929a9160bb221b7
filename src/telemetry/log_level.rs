//! Changes which log lines are written, while the program runs.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Puts a filter in force.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static LEVEL: OnceLock<(SetFilter, Box<dyn Fn() -> String + Send + Sync>)> = OnceLock::new();

/// Called once by the program that has set up logging. `get` returns the filter in force as a text.
pub fn register(
    set: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static,
    get: impl Fn() -> String + Send + Sync + 'static,
) {
    // Set once by the program.
    let _ = LEVEL.set((Box::new(set), Box::new(get)));
}

/// The filter in force. `None` if the program cannot change it.
pub fn get() -> Option<String> {
    LEVEL.get().map(|(_, get)| get())
}

/// Puts a filter in force, in the form of `RUST_LOG`, such as `info,sluicegate::route=debug`.
///
/// # Errors
/// In words: the filter is wrong, or the program cannot change it.
pub fn set(filter: &str) -> Result<(), String> {
    let (set, _) = LEVEL
        .get()
        .ok_or("this process cannot change its log level")?;
    set(EnvFilter::try_new(filter).map_err(|error| error.to_string())?)
}
