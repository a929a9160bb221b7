//! `command --name value --switch …`.

use std::collections::HashMap;
use std::error::Error;
use std::str::FromStr;

pub struct Arguments {
    pub command: String,
    named: HashMap<String, String>,
}

impl Arguments {
    /// # Errors
    /// If there is no command, or a value without a name.
    pub fn from_environment() -> Result<Self, Box<dyn Error>> {
        let mut words = std::env::args().skip(1).peekable();
        let command = words.next().ok_or("which command?")?;
        let mut named = HashMap::new();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("{word:?} has no name before it"))?;
            let value = words.next_if(|next| !next.starts_with("--"));
            named.insert(name.to_owned(), value.unwrap_or_default());
        }
        Ok(Self { command, named })
    }

    /// # Errors
    /// If it is missing or does not parse.
    pub fn need<T: FromStr>(&mut self, name: &str) -> Result<T, Box<dyn Error>> {
        let value = self.named.remove(name);
        let value = value.ok_or_else(|| format!("--{name} is missing"))?;
        parse(name, &value)
    }

    /// # Errors
    /// If it does not parse.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, Box<dyn Error>> {
        match self.named.remove(name) {
            Some(value) => parse(name, &value),
            None => Ok(default),
        }
    }

    pub fn switch(&mut self, name: &str) -> bool {
        self.named.remove(name).is_some()
    }

    /// # Errors
    /// If an unknown argument was given.
    pub fn done(&self) -> Result<(), Box<dyn Error>> {
        match self.named.keys().next() {
            Some(name) => Err(format!("--{name} is unknown").into()),
            None => Ok(()),
        }
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, Box<dyn Error>> {
    value
        .parse()
        .map_err(|_| format!("--{name} {value:?} does not parse").into())
}
