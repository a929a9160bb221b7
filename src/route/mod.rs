//! From a model's name to the target that answers: targets are tried in order until one gives its
//! first content.

mod failover;

use std::sync::Arc;
use std::time::Duration;

use crate::model::{ReasoningSigner, Sink};
use crate::upstream::Upstream;

pub use failover::CommitSink;

/// Where requests for one model go.
#[derive(Debug)]
pub struct Route {
    /// In the order in which they are tried; at least one.
    pub targets: Vec<Target>,
    pub timeouts: Timeouts,
}

impl Route {
    /// Where an answer can be gone on with that broke off at the upstream of the name `broken`,
    /// which is asked last; `None` where that is nowhere.
    pub fn continuation(&self, broken: Option<&str>) -> Option<Self> {
        let able = self.targets.iter().filter(|target| {
            target
                .upstream
                .wire
                .supports_prefill(&target.upstream.vendor)
        });
        let (last, first): (Vec<_>, Vec<_>) = able
            .cloned()
            .partition(|target| Some(target.upstream.name.as_str()) == broken);
        let targets = [first, last].concat();
        (!targets.is_empty()).then_some(Self {
            targets,
            timeouts: self.timeouts,
        })
    }
}

/// One upstream's model.
#[derive(Debug, Clone)]
pub struct Target {
    pub upstream: Arc<Upstream>,
    pub model: String,
}

/// The deadlines that hold past connecting, which is the upstream's own.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From sending a request to its first content, for each target.
    pub first_token: Duration,
    /// Between two bytes of an answer that has begun.
    pub idle: Duration,
    /// From the request's arrival to the answer's end.
    pub total: Option<Duration>,
}

/// Takes the events of the target that answers.
pub trait Receiver: Sink + Send {
    /// This target answers: its first content comes next, and no other target will be tried.
    fn begin_answer(&mut self, upstream: &str, model: &str, signer: &ReasoningSigner);
}
