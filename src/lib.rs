//! Sluicegate, the streaming front door for AI apps.
//!
//! A prompt request comes in over HTTP; an upstream model API answers with a stream in its own
//! protocol; the gateway reparses that stream and re-emits it as one normalized stream of
//! Server-Sent Events. The rooms, in the order in which a byte passes them on its way back:
//!
//! | room | does |
//! |---|---|
//! | [`model`] | the vocabulary: requests, events, errors, ids |
//! | [`framing`] | bytes to frames |
//! | [`wire`] | frames to events, one file per upstream protocol |
//! | [`dialect`] | events to bytes, one file per client protocol |
//! | [`upstream`] | a request sent, an answer's bytes read |
//! | [`route`] | which target answers |
//! | [`stream`] | one stream from its request to its terminal event |
//! | [`pipeline`] | the same without a connection: chunks to events to bytes, for tests and tools |
//! | [`config`], [`access`] | what the operator wrote; whose key it is |
//! | [`store`] | the connection to the state that replicas share |
//! | [`limit`] | who may pass: requests per key and per address, open streams |
//! | [`metrics`] | what is counted |
//! | [`app`] | one configuration's objects, and the swap to the next |
//! | [`server`] | HTTP: layers, handlers, listeners |
//! | [`fixture`] | canned upstream answers, and a server that gives them |
//! | [`command`] | what the program's commands do |
//!
//! Modules import downwards only. `docs/architecture.md` tells the whole journey.

pub mod access;
pub mod app;
pub mod command;
pub mod config;
pub mod dialect;
pub mod fixture;
pub mod framing;
pub mod limit;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod route;
pub mod server;
pub mod store;
pub mod stream;
pub mod upstream;
pub mod wire;
