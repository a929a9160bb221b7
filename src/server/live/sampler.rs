//! Takes samples and sends them to the viewers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::sample::{Sample, WINDOW_SECONDS, Window};
use super::snapshot::{OpenTokens, Snapshot};
use crate::app::Gateway;

const PERIOD: Duration = Duration::from_secs(1);
/// How many samples a new viewer can have of the time before it came.
const HISTORY: usize = 300;
/// How many viewers there may be.
const MAX_VIEWERS: usize = 64;

/// Takes one sample a second, also without viewers, so that a new one sees the last minutes.
pub(in crate::server) struct Sampler {
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    viewers: Vec<mpsc::Sender<Bytes>>,
    /// As JSON, oldest first: the last minute whole, the time before without details. Each is one allocation:
    /// many small ones that live for minutes would hold the memory in which short-lived ones lay beside them.
    history: VecDeque<Box<str>>,
    /// The short form of the whole ones, oldest first.
    short: VecDeque<Box<str>>,
    closed: bool,
}

/// The HTTP body of one viewer. One that reads slowly misses samples.
pub(in crate::server) struct SampleBody {
    /// Sent first.
    greeting: Option<Bytes>,
    samples: mpsc::Receiver<Bytes>,
}

impl Sampler {
    pub(in crate::server) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            gateway,
            state: Mutex::default(),
        }
    }

    /// Takes samples until it is dropped.
    pub(in crate::server) async fn run(&self) {
        let started = Instant::now();
        let mut period = tokio::time::interval_at(started + PERIOD, PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut window, mut open) = (Window::default(), OpenTokens::default());
        let mut before = Snapshot::empty();
        loop {
            period.tick().await;
            let now = Snapshot::take(&self.gateway, &mut open).await;
            let sample = Sample::of(&before, &now, &mut window, &self.gateway, started);
            self.publish(sample);
            before = now;
        }
    }

    fn publish(&self, sample: Sample) {
        let mut state = self.lock();
        if state.history.len() == HISTORY {
            state.history.pop_front();
        }
        let whole = sample.whole.to_string();
        let event = Bytes::from(format!("event: metrics\ndata: {whole}\n\n"));
        state.history.push_back(whole.into());
        state.short.push_back(sample.short.to_string().into());
        if state.short.len() > WINDOW_SECONDS {
            let index = state.history.len() - state.short.len();
            if let Some(short) = state.short.pop_front() {
                state.history[index] = short;
            }
        }
        state.viewers.retain(|viewer| {
            // A viewer that has not taken its last sample does not get this one.
            !matches!(
                viewer.try_send(event.clone()),
                Err(mpsc::error::TrySendError::Closed(_))
            )
        });
    }

    /// Ends the streams of all viewers.
    pub(in crate::server) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.viewers.clear();
    }

    /// A viewer's stream of samples, with the samples before it if `history` is set; `None` if there
    /// are too many viewers.
    pub(in crate::server) fn view(&self, history: bool) -> Option<SampleBody> {
        let mut state = self.lock();
        state.viewers.retain(|viewer| !viewer.is_closed());
        if state.closed || state.viewers.len() >= MAX_VIEWERS {
            return None;
        }
        let (viewer, samples) = mpsc::channel(1);
        state.viewers.push(viewer);
        let mut greeting = "retry: 1000\n: sampling\n\n".to_owned();
        if history {
            let samples: Vec<_> = state.history.iter().map(|sample| &**sample).collect();
            let samples = samples.join(",");
            greeting.push_str(&format!("event: history\ndata: [{samples}]\n\n"));
        }
        Some(SampleBody {
            greeting: Some(greeting.into()),
            samples,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for SampleBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.greeting.take() {
            Some(greeting) => Poll::Ready(Some(greeting)),
            None => self.samples.poll_recv(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
