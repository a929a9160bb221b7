//! Model APIs as the gateway sees them: sending a request, reading the answer.

pub mod ingest;
