//! `sluicegate completions`: completion scripts for shells.

use std::io::{self, Write};

use clap_complete::{Shell, generate};

use super::{FAILURE, SUCCESS};

/// Prints a completion script for a shell.
///
/// For bash: `sluicegate completions bash > /etc/bash_completion.d/sluicegate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

impl Completions {
    /// `program` is the whole command line.
    pub fn run(&self, program: &mut clap::Command, out: &mut dyn Write) -> u8 {
        let mut script = Vec::new();
        generate(self.shell, program, "sluicegate", &mut script);
        let written = out.write_all(&script).and_then(|()| out.flush());
        written.map_or_else(
            |error: io::Error| {
                // A closed pipe, such as that of `head`, is no failure.
                if error.kind() == io::ErrorKind::BrokenPipe {
                    SUCCESS
                } else {
                    FAILURE
                }
            },
            |()| SUCCESS,
        )
    }
}
