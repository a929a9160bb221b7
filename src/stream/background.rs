//! Streams that nobody views: who drives them, and for how long.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::replicas::{RENEWAL_GRACE, STORE_TIMEOUT};
use super::stream::Stream;

/// How soon a store that did not answer is asked again.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// The last viewer has left a stream that has not ended.
pub(super) fn last_viewer_left(stream: &Arc<Stream>) {
    if stream.is_remote() {
        return;
    }
    match stream.window() {
        // Nobody can come back to a stream whose id nobody knows.
        Some(window) if stream.is_id_disclosed() => spawn(Arc::clone(stream), Some(window)),
        _ => stream.abandon(stream.total_viewers()),
    }
}

/// Drives a stream until it ends or is viewed, and abandons it once `window` has passed.
pub(super) fn spawn(stream: Arc<Stream>, window: Option<Duration>) {
    let Some(retention) = stream.retention() else {
        return;
    };
    let tasks = retention.registry.tasks().clone();
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
    // A process that ends has no runtime any more, and nobody to come back.
    if Handle::try_current().is_ok() {
        tasks.spawn(task);
    }
}

/// Those who read the stream on other replicas, or did.
struct RemoteReaders {
    window: Duration,
    /// Since when the store does not say.
    unknown_since: Option<Instant>,
}

impl RemoteReaders {
    fn new(window: Duration) -> Self {
        Self {
            window,
            unknown_since: None,
        }
    }

    /// How long it goes on for them; `None` where there is nobody. A store that does not answer
    /// ends nothing: those who read there are told after a while that it is gone, and have a window
    /// from then on to come back. Longer than that the stream does not go on for nobody known.
    async fn time_left(&mut self, stream: &Stream) -> Option<Duration> {
        // Others make it for them.
        let retention = stream.retention().filter(|_| !stream.is_superseded())?;
        let replicas = retention.replicas.as_ref()?;
        match replicas.remote_readers_left(retention.stream).await {
            Ok(Some(left)) => {
                self.unknown_since = None;
                Some(left)
            }
            // It may have forgotten them.
            Ok(None) => self.unknown_since.take().map(|_| RENEWAL_GRACE),
            Err(_) => {
                let unknown_since = *self.unknown_since.get_or_insert_with(Instant::now);
                (unknown_since.elapsed() < STORE_TIMEOUT + self.window).then_some(STORE_RETRY)
            }
        }
    }
}
