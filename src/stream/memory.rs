//! Which streams there were, so that a client that comes back gets a true answer and never a new
//! generation.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::StreamId;

/// How long an ended stream is remembered.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// How many streams are remembered at most, some 100 bytes each; beyond, the oldest are forgotten.
const MOST: usize = 500_000;

/// What is known of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    Running,
    /// Its terminal event was sent.
    Ended,
    /// Its client left before the terminal event, and its upstream was cancelled.
    Abandoned,
}

/// The streams of this process, running and ended.
#[derive(Debug, Default)]
pub struct Memory {
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    known: HashMap<StreamId, Remembered>,
    /// Ended streams, oldest first.
    ended: VecDeque<(Instant, StreamId)>,
}

impl Memory {
    pub fn began(&self, stream: StreamId) {
        self.lock().known.insert(stream, Remembered::Running);
    }

    pub fn ended(&self, stream: StreamId, how: Remembered) {
        let mut streams = self.lock();
        streams.known.insert(stream, how);
        streams.ended.push_back((Instant::now(), stream));
        // Two a time keep the queue from growing, and no call is long.
        for _ in 0..2 {
            streams.forget_one();
        }
    }

    pub fn find(&self, stream: StreamId) -> Option<Remembered> {
        self.lock().known.get(&stream).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Streams> {
        // The map is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn forget_one(&mut self) {
        let Some(&(at, stream)) = self.ended.front() else {
            return;
        };
        if self.ended.len() > MOST || at.elapsed() > KEPT {
            self.ended.pop_front();
            self.known.remove(&stream);
        }
    }
}
