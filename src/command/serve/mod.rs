//! `sluicegate serve`: runs the gateway until its graceful shutdown.

mod demo;
mod error;
mod reload;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{FAILURE, SUCCESS, ShutdownSignals, USAGE_ERROR, config_path};
use crate::app::Gateway;
use crate::config::{Overrides, parse_address};
use crate::model::Error;
use crate::server::{self, Listener};
use crate::store;
use crate::telemetry::Tracing;

use demo::Demo;
use error::ServeError;
use reload::Reloader;

pub(super) use error::load;

/// Runs the gateway. Without a config it runs the demo.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Serve {
    /// The config file; without it, the file that SLUICEGATE_CONFIG names
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The address for clients; overrides the config
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,

    /// The address for metrics and health; overrides the config
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub admin_listen: Option<SocketAddr>,
}

/// How long connections may take to send what is left to their clients.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the demo: an embedded upstream replays recorded answers, so nothing costs money.
///
/// The models are `demo`, `demo-<wire>` and `demo-<wire>/<case>`; any other name plays the case
/// `text`, so that an app's own model name works.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DemoCommand {
    /// The address for clients
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,

    /// The address for metrics and health
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub admin_listen: Option<SocketAddr>,
}

impl DemoCommand {
    /// Serves like [`Serve::run`], without a config.
    pub async fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let serve = Serve {
            config: None,
            listen: self.listen,
            admin_listen: self.admin_listen,
        };
        report(serve.serve(None, out, err).await, err)
    }
}

/// Reports why the gateway did not run; returns the exit status.
fn report(result: Result<(), ServeError>, err: &mut dyn Write) -> u8 {
    let Err(error) = result else {
        return SUCCESS;
    };
    // A failed write cannot be reported anywhere.
    let _ = writeln!(err, "{error}");
    match error {
        ServeError::Config(_) => USAGE_ERROR,
        _ => FAILURE,
    }
}

impl Serve {
    /// Serves until SIGTERM or SIGINT and then drains; a second signal ends the drain. Messages for
    /// people go to `out`, problems to `err`.
    pub async fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let config = config_path(self.config.as_ref());
        report(self.serve(config, out, err).await, err)
    }

    async fn serve(
        self,
        config: Option<PathBuf>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), ServeError> {
        let overrides = Overrides {
            listen: self.listen,
            admin_listen: self.admin_listen,
        };
        let file = config.as_deref().and_then(reload::read_file);
        // The demo's upstream runs as long as this value exists.
        let (loaded, demo) = match &config {
            Some(path) => (load(path, &overrides)?, None),
            None => {
                let demo = Demo::start(&overrides)?;
                (demo.loaded.clone(), Some(demo))
            }
        };
        for warning in &loaded.warnings {
            writeln!(err, "warning: {warning}").map_err(ServeError::Output)?;
        }
        let mut signals = ShutdownSignals::new().map_err(ServeError::Signals)?;
        let hangup = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
        let (clients, client_addr) = bind(loaded.config.listen)?;
        let (admin, admin_addr) = bind(loaded.config.admin_listen)?;
        let gateway = Gateway::new(loaded.config).map_err(ServeError::Certificates)?;
        let gateway = Arc::new(gateway);
        let tracing = start_tracing(&gateway).await?;
        let closing = CancellationToken::new();
        let mut listeners = JoinSet::new();
        listeners.spawn(server::serve_clients(
            clients,
            Arc::clone(&gateway),
            closing.clone(),
        ));
        listeners.spawn(server::serve_admin(
            admin,
            Arc::clone(&gateway),
            closing.clone(),
        ));
        // These tasks end when the set is dropped.
        let registry = Arc::clone(&gateway.registry);
        let mut housekeeping = JoinSet::new();
        housekeeping.spawn(async move { registry.run_cleanup().await });
        let open_streams = Arc::clone(&gateway.open_streams);
        housekeeping.spawn(async move { open_streams.run_deadlines().await });
        housekeeping.spawn(server::run_takeovers(Arc::clone(&gateway)));
        tracing::info!(clients = %client_addr, admin = %admin_addr, "serving");
        if demo.is_some() {
            print_welcome(out, client_addr).map_err(ServeError::Output)?;
        }
        match config {
            None => signals.received().await,
            Some(path) => {
                let reloader = Reloader::new(path, file, overrides, Arc::clone(&gateway));
                tokio::select! {
                    () = signals.received() => {}
                    () = reloader.run(hangup) => {}
                }
            }
        }
        drain(&gateway, signals.received()).await;
        closing.cancel();
        let ended = async {
            gateway.in_flight.wait().await;
            while listeners.join_next().await.is_some() {}
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some connections did not close in time and are closed now");
        }
        if let Some(replicas) = &gateway.app().replicas {
            replicas.leave().await;
        }
        // Other replicas rely on what the last streams gave back.
        let settled = gateway.app();
        let settled = tokio::time::timeout(store::DEADLINE, settled.limiter.flush());
        if settled.await.is_err() {
            tracing::warn!(
                "the shared state was not updated for the last streams; their unused tokens return with time"
            );
        }
        if let Some(tracing) = tracing {
            // Waits for the receiver, which may be slow.
            let sent = tokio::task::spawn_blocking(move || tracing.shutdown());
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, sent).await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Sends traces where the environment names a receiver.
async fn start_tracing(gateway: &Arc<Gateway>) -> Result<Option<Arc<Tracing>>, ServeError> {
    let (config, metrics) = (gateway.app().config.tracing, Arc::clone(&gateway.metrics));
    // The exporter's own HTTP client must not be made on a thread that runs async tasks.
    let made = tokio::task::spawn_blocking(move || Tracing::from_environment(config, &metrics));
    let made = made
        .await
        .map_err(|error| ServeError::Tracing(error.to_string()))?;
    let tracing = made.map_err(ServeError::Tracing)?.map(Arc::new);
    if let Some(tracing) = &tracing {
        // Set here only.
        let _ = gateway.tracing.set(Arc::clone(tracing));
    }
    Ok(tracing)
}

/// Refuses new requests, lets open streams finish for as long as the config allows, then ends the
/// rest. `cut_short` ends them at once.
async fn drain(gateway: &Gateway, cut_short: impl Future<Output = ()>) {
    let patience = gateway.app().config.drain;
    gateway.begin_drain();
    gateway.in_flight.close();
    if let Some(replicas) = &gateway.app().replicas {
        replicas.stop_takeovers();
    }
    tracing::info!(?patience, "draining");
    tokio::select! {
        () = gateway.in_flight.wait() => return,
        () = tokio::time::sleep(patience) => {}
        () = cut_short => {}
    }
    tracing::warn!(streams = gateway.in_flight.len(), "ending open streams");
    // Streams that another replica can continue are handed over instead of being ended.
    gateway.registry.hand_over(&Error::draining());
    gateway.shutdown.cancel();
}

fn bind(addr: SocketAddr) -> Result<(Listener, SocketAddr), ServeError> {
    let bound = Listener::bind(addr).and_then(|listener| {
        let addr = listener.addr()?;
        Ok((listener, addr))
    });
    bound.map_err(|error| ServeError::Listen(addr, error))
}

fn print_welcome(out: &mut dyn Write, addr: SocketAddr) -> io::Result<()> {
    // The wildcard address is not one that a browser can open.
    let host = match addr.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port()),
        _ => addr,
    };
    writeln!(
        out,
        "The demo runs on http://{addr}: no key, no config, no real model.\n\
         Playground: http://{host}/\n\
         Try:\n\n  curl -N 'http://{host}/v1/streams?model=demo&prompt=Hello'\n"
    )?;
    out.flush()
}
