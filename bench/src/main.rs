//! `sluicegate-bench upstream …` and `sluicegate-bench load …`: the upstream and the clients of the
//! gateway while `bench/run.py` measures it. One thread each, nothing but epoll and prepared bytes.
//! `sluicegate-bench multiplexed …` is a load over HTTP/2, with the h2 crate, and
//! `sluicegate-bench listeners …` the clients of notifications.

#[allow(dead_code, reason = "the micro-benchmarks need more of it")]
mod answer;
#[cfg(test)]
mod answer_tests;
mod arguments;
mod clock;
mod histogram;
mod listeners;
mod load;
mod multiplexed;
mod plan;
mod process;
mod reader;
mod transport;
mod upstream;

use std::error::Error;
use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluicegate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_environment()?;
    match arguments.command.as_str() {
        "upstream" => upstream::run(&mut arguments),
        "load" => load::run(&mut arguments),
        "listeners" => listeners::run(&mut arguments),
        "multiplexed" => multiplexed::run(&mut arguments),
        other => Err(format!("{other:?} is no command").into()),
    }
}
