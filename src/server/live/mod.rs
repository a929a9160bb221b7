//! What the gateway does right now: one sample a second, for any number of viewers.
//!
//! | file | does |
//! |---|---|
//! | `snapshot` | reads the counters at one moment |
//! | `text` | parses the metrics' text format |
//! | `sample` | compares two snapshots |
//! | `sampler` | takes samples and sends them to the viewers |

mod sample;
mod sampler;
mod snapshot;
mod text;

pub(super) use sampler::Sampler;
