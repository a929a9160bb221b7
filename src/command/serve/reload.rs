//! Reloads the config when its file changes or on SIGHUP. A bad config is refused, and the one in
//! use stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::error::load;
use crate::app::Gateway;
use crate::config::Overrides;

/// How often the file is read. Comparing its bytes notices what file events miss: Kubernetes swaps
/// a symbolic link two folders up.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a changed file must stay the same before it is loaded. A part of a file that is still being
/// written can be a valid config, without the keys that come later.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// How many times a file that keeps changing is read before it is left to the next look.
const MAX_SETTLE_READS: usize = 10;

/// The content of a config file; `None` if it cannot be read.
pub(super) fn read_file(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// Watches one config file for one gateway.
pub(super) struct Reloader {
    path: PathBuf,
    overrides: Overrides,
    gateway: Arc<Gateway>,
    /// The content that was loaded last.
    bytes: Option<Vec<u8>>,
    /// Of the TLS files, when they were loaded last, or refused.
    tls: Option<[u8; 32]>,
}

impl Reloader {
    /// `bytes` is the result of [`read_file`] before the config in use was loaded, so that no later
    /// change is missed.
    pub(super) fn new(
        path: PathBuf,
        bytes: Option<Vec<u8>>,
        overrides: Overrides,
        gateway: Arc<Gateway>,
    ) -> Self {
        let tls = gateway.app().config.tls.as_ref().map(|tls| tls.digest);
        Self {
            path,
            overrides,
            gateway,
            bytes,
            tls,
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
            let read = async || tokio::fs::read(&self.path).await.ok();
            let mut bytes = read().await;
            if !asked && bytes != self.bytes {
                match settle(bytes, read).await {
                    Some(settled) => bytes = settled,
                    None => continue,
                }
            }
            let tls = self.tls_digest().await;
            if asked || bytes != self.bytes || tls != self.tls {
                self.bytes = bytes;
                self.reload();
                // Other files after a reload; these files where it was refused.
                self.tls = self.tls_digest().await;
            }
        }
    }

    /// The digest of the TLS files of the config in use; the last one where they cannot be read, as
    /// while they are replaced.
    async fn tls_digest(&self) -> Option<[u8; 32]> {
        let tls = self.gateway.app().config.tls.clone()?;
        let digest = tokio::task::spawn_blocking(move || tls.current_digest()).await;
        digest.ok().flatten().or(self.tls)
    }

    fn reload(&self) {
        let accepted = self.accept();
        self.gateway.metrics.record_reload(accepted.is_ok());
        match accepted {
            Ok(()) => tracing::info!(path = %self.path.display(), "configuration reloaded"),
            Err(problem) => tracing::error!(
                path = %self.path.display(),
                problem,
                "configuration refused; the one in use stays"
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
            tracing::warn!(
                "`listen` and `admin_listen` changed; restart the gateway to use the new addresses"
            );
        }
        self.gateway
            .reload(loaded.config)
            .map_err(|error| error.to_string())
    }
}

/// The content once two reads are the same. `None` if it keeps changing.
async fn settle<T: PartialEq>(first: T, read: impl AsyncFn() -> T) -> Option<T> {
    let mut last = first;
    for _ in 0..MAX_SETTLE_READS {
        tokio::time::sleep(SETTLE_TIME).await;
        let next = read().await;
        if next == last {
            return Some(next);
        }
        last = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_not_loaded() {
        let written = [
            "",
            "lis",
            "listen: x",
            "listen: x\nkeys: []",
            "listen: x\nkeys: []",
        ];
        let reads = Cell::new(0);
        let read = async || {
            reads.set(reads.get() + 1);
            written[reads.get()]
        };
        assert_eq!(settle(written[0], read).await, Some(written[4]));
        assert_eq!(reads.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_keeps_changing_waits_for_the_next_look() {
        let reads = Cell::new(0);
        let read = async || {
            reads.set(reads.get() + 1);
            reads.get()
        };
        assert_eq!(settle(0, read).await, None);
        assert_eq!(reads.get(), MAX_SETTLE_READS);
    }
}
