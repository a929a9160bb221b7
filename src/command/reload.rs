//! A changed configuration file, or SIGHUP, puts a new configuration in force; a bad one is refused,
//! and the old one goes on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::serve::load;
use crate::app::Gateway;
use crate::config::Overrides;

/// How often the file is looked at. Looking at its bytes sees what file events miss: Kubernetes
/// swaps a symbolic link two folders up.
const EVERY: Duration = Duration::from_secs(2);

/// Watches one configuration file for one gateway.
pub(super) struct Reloader {
    path: PathBuf,
    overrides: Overrides,
    gateway: Arc<Gateway>,
    /// As they were when last loaded; `None` if the file could not be read.
    bytes: Option<Vec<u8>>,
}

impl Reloader {
    pub(super) fn new(path: PathBuf, overrides: Overrides, gateway: Arc<Gateway>) -> Self {
        let bytes = fs::read(&path).ok();
        Self {
            path,
            overrides,
            gateway,
            bytes,
        }
    }

    /// Never returns.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        let mut look = tokio::time::interval(EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                Some(()) = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let bytes = tokio::fs::read(&self.path).await.ok();
            if asked || bytes != self.bytes {
                self.bytes = bytes;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        let accepted = self.accept();
        self.gateway.metrics.reloaded(accepted.is_ok());
        match accepted {
            Ok(()) => tracing::info!(path = %self.path.display(), "configuration reloaded"),
            Err(problem) => tracing::error!(
                path = %self.path.display(),
                problem,
                "configuration refused; the old one goes on"
            ),
        }
    }

    fn accept(&self) -> Result<(), String> {
        let loaded = load(&self.path, &self.overrides).map_err(|error| error.to_string())?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let app = self.gateway.app();
        let listens = (loaded.config.listen, loaded.config.admin_listen);
        if listens != (app.config.listen, app.config.admin_listen) {
            tracing::warn!("other addresses to listen on take a restart");
        }
        self.gateway
            .reload(loaded.config)
            .map_err(|error| error.to_string())
    }
}
