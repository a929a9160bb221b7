//! Problems of a config and their places.

use std::fmt::{self, Write as _};

/// One problem: `gateway.yaml:14: models.fast.targets[0].upstream: there is no upstream …`.
///
/// The message quotes the file as written, never the value of a `${…}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as it was given.
    pub source: String,
    /// Counted from 1; absent for a problem of the whole file.
    pub line: Option<u64>,
    /// The key's path; empty for a problem of the whole file.
    pub path: String,
    pub message: String,
}

/// Every problem of a config, in the order of lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
            write_on_one_line(f, &self.path)?;
        }
        f.write_str(": ")?;
        write_on_one_line(f, &self.message)
    }
}

impl fmt::Display for Problems {
    /// One problem per line, without a newline after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Keys and values of the file may contain newlines and terminal controls.
fn write_on_one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        if c.is_control() {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    Ok(())
}
