//! A changed configuration file, or SIGHUP, puts a new configuration in force; a bad one is refused,
//! and the old one goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::error::load;
use crate::app::Gateway;
use crate::config::Overrides;

/// How often the file is looked at. Looking at its bytes sees what file events miss: Kubernetes
/// swaps a symbolic link two folders up.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What a configuration file holds; `None` if it cannot be read.
pub(super) fn read_file(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// Watches one configuration file for one gateway.
pub(super) struct Reloader {
    path: PathBuf,
    overrides: Overrides,
    gateway: Arc<Gateway>,
    /// As they were when last loaded.
    bytes: Option<Vec<u8>>,
}

impl Reloader {
    /// `bytes` are what [`seen`] said before the configuration in force was loaded, so that no
    /// change after that is missed.
    pub(super) fn new(
        path: PathBuf,
        bytes: Option<Vec<u8>>,
        overrides: Overrides,
        gateway: Arc<Gateway>,
    ) -> Self {
        Self {
            path,
            overrides,
            gateway,
            bytes,
        }
    }

    /// Never returns.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        let mut look = tokio::time::interval(POLL_INTERVAL);
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
        self.gateway.metrics.record_reload(accepted.is_ok());
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
