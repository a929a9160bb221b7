//! Streams that nobody views: who drives them, and for how long.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::shared::Stream;

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
        let Some(mut window) = window else {
            return alone.await;
        };
        let mut alone = std::pin::pin!(alone);
        while timeout(window, alone.as_mut()).await.is_err() {
            window = match awaited_elsewhere(&stream).await {
                Some(window) => window,
                None => return stream.abandon(visits),
            };
        }
    };
    // A process that ends has no runtime any more, and nobody to come back.
    if Handle::try_current().is_ok() {
        tasks.spawn(driving);
    }
}

/// How long it goes on for those who read it on other replicas, or did.
async fn awaited_elsewhere(stream: &Stream) -> Option<Duration> {
    let keeping = stream.keeping()?;
    let replicas = keeping.replicas.as_ref()?;
    replicas.awaited(keeping.stream).await
}
