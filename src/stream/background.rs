//! Streams without viewers: what drives them, and for how long.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::stream::Stream;

/// How long the store may be down before reads of followed streams end with an error.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long followers take to renew their `viewed` keys in a store that is back.
const RENEWAL_GRACE: Duration = Duration::from_secs(2);
/// How soon the store is asked again after it did not answer.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// The last viewer has left a stream that has not ended.
pub(super) fn last_viewer_left(stream: &Arc<Stream>) {
    if stream.is_remote() {
        return;
    }
    match stream.window() {
        // A client can only come back if it knows the stream's id.
        Some(window) if stream.is_id_disclosed() => spawn(Arc::clone(stream), Some(window)),
        _ => stream.abandon(stream.total_viewers()),
    }
}

/// Drives a stream until it ends or gets a viewer, and abandons it once `window` has passed.
pub(super) fn spawn(stream: Arc<Stream>, window: Option<Duration>) {
    let Some(retention) = stream.retention() else {
        return;
    };
    let tasks = retention.tasks.clone();
    let total_viewers = stream.total_viewers();
    let task = async move {
        let running = poll_fn(|context| stream.poll_in_background(context, total_viewers));
        let Some(window) = window else {
            return running.await;
        };
        let mut running = std::pin::pin!(running);
        let (mut wait, mut remote_readers) = (window, RemoteReaders::new(window));
        while timeout(wait, running.as_mut()).await.is_err() {
            wait = match remote_readers.time_left(&stream).await {
                Some(wait) => wait,
                None => return stream.abandon(total_viewers),
            };
        }
    };
    // During the shutdown of the process there is no runtime, and no client can come back.
    if Handle::try_current().is_ok() {
        tasks.spawn(task);
    }
}

/// The readers that a stream has, or had within its window, on other replicas.
struct RemoteReaders {
    window: Duration,
    /// Since when the store has not answered.
    unknown_since: Option<Instant>,
}

impl RemoteReaders {
    fn new(window: Duration) -> Self {
        Self {
            window,
            unknown_since: None,
        }
    }

    /// How much longer the stream runs for them; `None` if there are none. While the store does not
    /// answer, the stream continues for a bounded time: readers elsewhere learn after a while that the
    /// store is gone, and then have one window to come back.
    async fn time_left(&mut self, stream: &Stream) -> Option<Duration> {
        // Another replica produces a superseded stream for its readers.
        let retention = stream.retention().filter(|_| !stream.is_superseded())?;
        let replicas = retention.replicas.as_ref()?;
        match replicas.remote_readers_left(retention.stream).await {
            Ok(Some(left)) => {
                self.unknown_since = None;
                Some(left)
            }
            // A store that has just come back may have lost the mark of remote readers.
            Ok(None) => self.unknown_since.take().map(|_| RENEWAL_GRACE),
            Err(_) => {
                let unknown_since = *self.unknown_since.get_or_insert_with(Instant::now);
                (unknown_since.elapsed() < STORE_TIMEOUT + self.window).then_some(STORE_RETRY)
            }
        }
    }
}
