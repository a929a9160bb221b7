//! `sluicegate schema`: the JSON Schema of the config, for editors.

use std::io::{self, Write};

use super::{FAILURE, SUCCESS};
use crate::config::schema;

/// Prints the JSON Schema of the config, so that editors complete and check it.
#[derive(Debug, Clone, clap::Args)]
pub struct Schema {}

impl Schema {
    pub fn run(&self, out: &mut dyn Write) -> u8 {
        print(out).map_or(FAILURE, |()| SUCCESS)
    }
}

fn print(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:#}", schema::json_schema())?;
    out.flush()
}
