//! Parses the arguments and runs the command that they name.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::{CommandFactory as _, Parser, Subcommand};
use mimalloc::MiMalloc;
use sluicegate::command::{
    ShutdownSignals, ask, check, completions, connect, healthcheck, keys, record, replay, schema,
    serve,
};
use sluicegate::telemetry::{JsonLines, log_level};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

/// A request makes some hundred small, short-lived allocations.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The streaming front door for AI apps.
#[derive(Debug, Parser)]
// Without the conflict, `sluicegate --config FILE serve` would ignore the file.
#[command(
    name = "sluicegate",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(serve::DemoCommand),
    Ask(ask::Ask),
    Check(check::Check),
    Replay(replay::Replay),
    Record(record::Record),
    Connect(connect::Connect),
    Keys(keys::Keys),
    Healthcheck(healthcheck::Healthcheck),
    Schema(schema::Schema),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging();
    // Fails only if it is installed already; no other provider is compiled in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the asynchronous runtime");
            return ExitCode::FAILURE;
        }
    };
    let command = arguments.command.unwrap_or(Command::Serve(arguments.serve));
    runtime.block_on(run(command)).into()
}

/// A thread for each processor, or as many as `TOKIO_WORKER_THREADS` says. A single thread needs no
/// synchronization, which makes everything cheaper, system calls too.
fn runtime() -> io::Result<Runtime> {
    let workers_variable = std::env::var("TOKIO_WORKER_THREADS").ok();
    let single_thread = match workers_variable {
        Some(workers) => workers == "1",
        None => available_parallelism().is_ok_and(|workers| workers.get() == 1),
    };
    let mut builder = match single_thread {
        true => Builder::new_current_thread(),
        false => Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

async fn run(command: Command) -> u8 {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let env = |name: &str| std::env::var(name).ok();
    match command {
        Command::Serve(serve) => serve.run(&mut out, &mut err).await,
        Command::Demo(demo) => demo.run(&mut out, &mut err).await,
        Command::Schema(schema) => schema.run(&mut out),
        Command::Completions(completions) => completions.run(&mut Arguments::command(), &mut out),
        Command::Connect(connect) => connect.run(&mut out, &mut err),
        Command::Ask(ask) => ask.run(&mut out, &mut err).await,
        Command::Check(check) => check.run(&env, &mut out, &mut err),
        Command::Record(record) => record.run(&mut out, &mut err).await,
        Command::Keys(keys) => keys.run(&mut out, &mut err),
        Command::Healthcheck(healthcheck) => healthcheck.run(&mut err).await,
        Command::Replay(replay) => match run_replay(replay, out).await {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!("{error}");
                1
            }
        },
    }
}

/// Serves fixtures until SIGTERM or SIGINT.
async fn run_replay(replay: replay::Replay, out: io::Stdout) -> Result<(), Box<dyn Error>> {
    // Installed before the address is printed: a program that reads it may send a signal at once.
    let mut signals = ShutdownSignals::new()?;
    Ok(replay.run(out, signals.received()).await?)
}

/// Logs to stderr: human-readable on a terminal, JSON lines otherwise. `RUST_LOG` filters.
fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if io::stderr().is_terminal() {
        registry.with(lines).init();
    } else {
        registry.with(lines.event_format(JsonLines)).init();
    }
    let current = handle.clone();
    log_level::register(
        move |filter| handle.reload(filter).map_err(|error| error.to_string()),
        move || {
            let text = current.with_current(EnvFilter::to_string);
            text.unwrap_or_default()
        },
    );
}
