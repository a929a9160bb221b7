//! `sluicegate keys`: API keys for clients.

use std::io::{self, Write};

use secrecy::ExposeSecret;

use super::{FAILURE, SUCCESS, USAGE_ERROR};
use crate::access::{NewKey, generate};
use crate::config::key_entry;

/// Makes API keys.
#[derive(Debug, Clone, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Prints a new random API key, once, and the config entry that holds only its hash.
    New(New),
}

#[derive(Debug, Clone, clap::Args)]
pub struct New {
    /// Who the key is for
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
        writeln!(err, "--name is empty or has a control character in it")?;
        return Ok(USAGE_ERROR);
    }
    let NewKey { key, sha256 } = match generate() {
        Ok(key) => key,
        Err(error) => {
            writeln!(err, "no random key could be made: {error}")?;
            return Ok(FAILURE);
        }
    };
    writeln!(out, "{}", key.expose_secret())?;
    writeln!(out)?;
    writeln!(
        out,
        "# For the client; it is kept nowhere and not shown again."
    )?;
    writeln!(out, "# For the config:")?;
    out.write_all(key_entry(&new.name, &sha256).as_bytes())?;
    out.flush()?;
    Ok(SUCCESS)
}
