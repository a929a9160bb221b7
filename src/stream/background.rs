//! Streams that nobody views: who drives them, and for how long.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::replicas::{GONE, SAID_AGAIN};
use super::stream::Stream;

/// How soon a store that did not answer is asked again.
const ASKED_AGAIN: Duration = Duration::from_millis(500);

/// The last viewer has left a stream that has not ended.
pub(super) fn left(stream: &Arc<Stream>) {
    if stream.is_followed() {
        return;
    }
    match stream.window() {
        // Nobody can come back to a stream whose id nobody knows.
        Some(window) if stream.is_known() => run(Arc::clone(stream), Some(window)),
        _ => stream.abandon(stream.visits()),
    }
}

/// Drives a stream until it ends or is viewed, and abandons it once `window` has passed.
pub(super) fn run(stream: Arc<Stream>, window: Option<Duration>) {
    let Some(keeping) = stream.keeping() else {
        return;
    };
    let tasks = keeping.registry.tasks().clone();
    let visits = stream.visits();
    let driving = async move {
        let alone = poll_fn(|context| stream.poll_alone(context, visits));
        let Some(window) = window else {
            return alone.await;
        };
        let mut alone = std::pin::pin!(alone);
        let (mut patience, mut elsewhere) = (window, Elsewhere::new(window));
        while timeout(patience, alone.as_mut()).await.is_err() {
            patience = match elsewhere.awaited(&stream).await {
                Some(patience) => patience,
                None => return stream.abandon(visits),
            };
        }
    };
    // A process that ends has no runtime any more, and nobody to come back.
    if Handle::try_current().is_ok() {
        tasks.spawn(driving);
    }
}

/// Those who read the stream on other replicas, or did.
struct Elsewhere {
    window: Duration,
    /// Since when the store does not say.
    unknown: Option<Instant>,
}

impl Elsewhere {
    fn new(window: Duration) -> Self {
        Self {
            window,
            unknown: None,
        }
    }

    /// How long it goes on for them; `None` where there is nobody. A store that does not answer
    /// ends nothing: those who read there are told after a while that it is gone, and have a window
    /// from then on to come back. Longer than that the stream does not go on for nobody known.
    async fn awaited(&mut self, stream: &Stream) -> Option<Duration> {
        // Others make it for them.
        let keeping = stream.keeping().filter(|_| !stream.is_superseded())?;
        let replicas = keeping.replicas.as_ref()?;
        match replicas.awaited(keeping.stream).await {
            Ok(Some(left)) => {
                self.unknown = None;
                Some(left)
            }
            // It may have forgotten them.
            Ok(None) => self.unknown.take().map(|_| SAID_AGAIN),
            Err(_) => {
                let unknown = *self.unknown.get_or_insert_with(Instant::now);
                (unknown.elapsed() < GONE + self.window).then_some(ASKED_AGAIN)
            }
        }
    }
}
