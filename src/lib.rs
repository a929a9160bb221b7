//! Sluicegate, a streaming gateway for LLM APIs.
//!
//! A client sends a prompt over HTTP. An upstream model API answers with a stream in its own protocol.
//! The gateway parses that stream and sends it on as one normalized stream of Server-Sent Events, or
//! in the protocol that the client speaks. The modules, in the order in which the bytes of an answer
//! pass them:
//!
//! | module | does |
//! |---|---|
//! | [`model`] | the vocabulary: requests, events, errors, ids |
//! | [`framing`] | bytes to frames |
//! | [`wire`] | frames to events, one folder per upstream protocol |
//! | [`dialect`] | events to bytes, one folder per client protocol |
//! | [`upstream`] | sends a request, reads the bytes of its answer |
//! | [`route`] | selects the target that answers |
//! | [`stream`] | one stream from its request to its terminal event |
//! | [`pipeline`] | the same without a connection: chunks to events to bytes, for tests and tools |
//! | [`config`], [`access`] | the operator's config; API keys |
//! | [`store`] | the connection to the state that replicas share |
//! | [`notify`] | events about the gateway, for every listener |
//! | [`limit`] | requests and tokens per key, requests per address, open streams, memory |
//! | [`metrics`] | counters, gauges and histograms |
//! | [`telemetry`] | the access log, and a trace of each request |
//! | [`app`] | the objects of one config, and the change to the next |
//! | [`server`] | HTTP: listeners, connections, handlers |
//! | [`fixture`] | canned upstream answers, and a server that plays them |
//! | [`command`] | the program's commands |
//!
//! Modules import downwards only. `docs/architecture.md` describes a request's whole life.

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
pub mod notify;
pub mod pipeline;
pub mod route;
pub mod server;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod upstream;
pub mod wire;
