//! `sluicegate keys`: API keys for clients.

use std::io::{self, Write};

use secrecy::ExposeSecret;

use super::{FAILURE, SUCCESS, USAGE_ERROR};
use crate::access::{NewKey, generate};
use crate::config::key_entry;

/// Creates API keys, or config entries for existing keys.
#[derive(Debug, Clone, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Prints a new random API key, once, and the config entry with its hash.
    New(New),
}

#[derive(Debug, Clone, clap::Args)]
pub struct New {
    /// The name of the key, such as the client that uses it
    #[arg(long, default_value = "new-key")]
    pub name: String,
}

impl Keys {
    /// Prints the key and its config entry to `out`.
    pub fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let Command::New(new) = &self.command;
        print_new(new, out, err).unwrap_or(FAILURE)
    }
}

fn print_new(new: &New, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    if new.name.is_empty() || new.name.contains(char::is_control) {
        writeln!(
            err,
            "--name must not be empty or contain control characters"
        )?;
        return Ok(USAGE_ERROR);
    }
    let NewKey { key, sha256 } = match generate() {
        Ok(key) => key,
        Err(error) => {
            writeln!(err, "cannot generate a random key: {error}")?;
            return Ok(FAILURE);
        }
    };
    writeln!(out, "{}", key.expose_secret())?;
    writeln!(out)?;
    writeln!(
        out,
        "# The line above is the key for the client. It is not stored and not shown again."
    )?;
    writeln!(out, "# For the config:")?;
    out.write_all(key_entry(&new.name, &sha256).as_bytes())?;
    out.flush()?;
    Ok(SUCCESS)
}
