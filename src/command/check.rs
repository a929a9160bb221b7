//! `sluicegate check`: validates a config and prints the effective config.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{FAILURE, NO_CONFIG, SUCCESS, USAGE_ERROR, config_path};
use crate::config::{Config, Environment, Overrides};

/// Validates a config. Prints the effective config, with presets and defaults filled in and secrets
/// redacted, or every problem at once.
#[derive(Debug, Clone, clap::Args)]
pub struct Check {
    /// The config file; without it, the file that SLUICEGATE_CONFIG names
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Check {
    /// Prints the effective config to `out` and warnings to `err`, or problems to `err`.
    pub fn run(&self, env: Environment<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        self.report(env, out, err).unwrap_or(FAILURE)
    }

    fn report(
        &self,
        env: Environment<'_>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<u8> {
        let Some(path) = config_path(self.config.as_ref()) else {
            writeln!(err, "{NO_CONFIG}")?;
            return Ok(USAGE_ERROR);
        };
        match Config::load(&path, env, &Overrides::default()) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    writeln!(err, "warning: {warning}")?;
                }
                out.write_all(loaded.config.effective().as_bytes())?;
                out.flush()?;
                Ok(SUCCESS)
            }
            Err(problems) => {
                writeln!(err, "{problems}")?;
                Ok(USAGE_ERROR)
            }
        }
    }
}
