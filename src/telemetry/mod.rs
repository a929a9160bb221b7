//! What is recorded about each request: one line of the access log, and a trace.
//!
//! | file | does |
//! |---|---|
//! | `observation` | collects what happens to one request, and writes it when the request has ended |
//! | `context` | the trace that a client's request belongs to |

mod context;
mod observation;

pub use context::TraceContext;
pub use observation::{Observation, StreamFacts};
