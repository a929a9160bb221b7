//! What is recorded about each request: one line of the access log, and a trace.
//!
//! | file | does |
//! |---|---|
//! | `observation` | collects what happens to one request, and writes it when the request has ended |
//! | `context` | the trace that a client's request belongs to |
//! | `facts` | what a stream reports at its end |
//! | `spans` | the spans of one request |
//! | `log_level` | changes which log lines are written |
//! | `names` | the names of their attributes, by generation of the convention |
//! | `content` | prompts and answers in spans, where they are wanted |
//! | `export` | sends finished spans to a receiver, and drops those that it does not take |

mod content;
mod context;
mod export;
mod facts;
mod json_lines;
pub mod log_level;
mod names;
mod observation;
mod spans;

pub use content::{MAX_CONTENT, input_messages, truncate};
pub use context::TraceContext;
pub use export::Tracing;
pub use facts::StreamFacts;
pub use json_lines::JsonLines;
pub use names::provider_name;
pub use observation::Observation;
