//! `sluicegate keys`: API keys for clients.

use std::io::{self, Read, Write};

use secrecy::{ExposeSecret, SecretString};

use super::{FAILURE, SUCCESS, USAGE_ERROR};
use crate::access::{NewKey, generate};
use crate::config::{is_well_known, key_entry};

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
    /// Reads an existing key from stdin and prints the config entry with its hash.
    Hash(Hash),
}

#[derive(Debug, Clone, clap::Args)]
pub struct New {
    /// The name of the key, such as the client that uses it
    #[arg(long, default_value = "new-key")]
    pub name: String,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Hash {
    /// The name of the key, such as the client that uses it
    #[arg(long, default_value = "new-key")]
    pub name: String,
}

impl Keys {
    /// Prints the key and its config entry to `out`.
    pub fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let printed = match &self.command {
            Command::New(new) => print_new(new, out, err),
            Command::Hash(hash) => print_hash(hash, &mut io::stdin().lock(), out, err),
        };
        printed.unwrap_or(FAILURE)
    }
}

/// The longest key that is read, in bytes.
const MAX_KEY_BYTES: u64 = 4096;

fn print_hash(
    hash: &Hash,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    if !is_name(&hash.name) {
        writeln!(err, "{BAD_NAME}")?;
        return Ok(USAGE_ERROR);
    }
    let mut key = String::new();
    input.take(MAX_KEY_BYTES).read_to_string(&mut key)?;
    let key = SecretString::from(key.trim_end_matches(['\r', '\n']));
    let usable = |c: char| c.is_ascii_graphic();
    if key.expose_secret().is_empty() || !key.expose_secret().chars().all(usable) {
        writeln!(
            err,
            "stdin must have one key: a line of ASCII characters without spaces"
        )?;
        return Ok(USAGE_ERROR);
    }
    let sha256 = crate::access::hash(key.expose_secret());
    if is_well_known(&sha256) {
        writeln!(
            err,
            "the key is a well-known word, which anybody can guess; use `sluicegate keys new`"
        )?;
        return Ok(USAGE_ERROR);
    }
    out.write_all(key_entry(&hash.name, &sha256).as_bytes())?;
    out.flush()?;
    Ok(SUCCESS)
}

const BAD_NAME: &str = "--name must not be empty or contain control characters";

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_control)
}

fn print_new(new: &New, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    if !is_name(&new.name) {
        writeln!(err, "{BAD_NAME}")?;
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
