//! Assembles what one stream needs, for a client's request and for a takeover.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::access::Caller;
use crate::app::{App, Gateway};
use crate::config::ModelConfig;
use crate::dialect::{Dialect, Encoder};
use crate::limit::{MemoryReservation, Permit};
use crate::model::StreamId;
use crate::route::Route;
use crate::stream::{
    ClientSink, Retention, StreamGuards, StreamLabels, StreamRecord, StreamSettings,
};
use crate::telemetry::Observation;

/// What is known about a stream when its request was admitted.
pub(super) struct StreamBuilder<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) app: &'a App,
    pub(super) dialect: &'a dyn Dialect,
    pub(super) caller: &'a Caller,
    pub(super) model: &'a ModelConfig,
    pub(super) stream: StreamId,
    pub(super) observation: Observation,
    pub(super) route: Route,
    pub(super) permit: Permit,
    pub(super) open: TaskTrackerToken,
    pub(super) memory: MemoryReservation,
}

/// What a stream needs beside its request.
pub(super) struct StreamParts {
    pub(super) sink: ClientSink,
    pub(super) settings: StreamSettings,
    pub(super) retention: Retention,
}

impl StreamBuilder<'_> {
    /// `model` is the model's name as the client sent it. `request` is the client's request, if another
    /// replica may take the stream over.
    pub(super) fn build(
        self,
        encoder: Box<dyn Encoder>,
        model: &str,
        request: Option<Bytes>,
    ) -> StreamParts {
        let Self {
            gateway, app, open, ..
        } = self;
        let labels = StreamLabels {
            stream: self.stream,
            observation: self.observation,
            dialect: self.dialect.name(),
            model: self.model.name.clone(),
            key: self.caller.name.clone(),
        };
        let guards = StreamGuards {
            permit: self.permit,
            open,
        };
        let record = StreamRecord::new(labels, guards, Arc::clone(&gateway.metrics));
        let settings = StreamSettings {
            route: Arc::new(self.route),
            metrics: Arc::clone(&gateway.metrics),
            heartbeat: app.config.heartbeat,
            heartbeat_bytes: self.dialect.heartbeat(),
            shutdown: gateway.shutdown.clone(),
            recycler: gateway.recycler.clone(),
            open_streams: Arc::clone(&gateway.open_streams),
            may_continue: self.model.continues,
            memory: Arc::new(self.memory),
        };
        let retention = Retention {
            stream: self.stream,
            owner: self.caller.name.clone(),
            model: model.to_owned(),
            window: app.config.resume.window,
            buffer: app.config.resume.buffer,
            registry: Arc::clone(&gateway.registry) as _,
            replicas: app.replicas.clone().map(|replicas| replicas as _),
            tasks: gateway.registry.tasks().clone(),
            request,
        };
        StreamParts {
            sink: ClientSink::new(encoder, record),
            settings,
            retention,
        }
    }
}
