//! One stream from the client's request to its terminal event: who drives it, what ends it.
//!
//! Nobody runs a stream: its viewers drive it. A viewer is a client's HTTP body; once it has read
//! all there is, polling it polls the upstream too. So one client alone costs no task and no
//! channel; a client that does not read slows the upstream, and memory stays bounded; and among
//! several viewers whoever is awake drives, so that one that does not read slows nobody: it falls
//! behind in the log. Only a stream that nobody views is driven by a task, for as long as its window.
//!
//! | file | does |
//! |---|---|
//! | `pump` | the state machine from the upstream to bytes: opening, live, ended; deadlines |
//! | `active_answer` | an answer that has begun: reading it, and waiting for the rest of a burst |
//! | `deadlines` | how long an upstream may be silent, and how long an answer may take |
//! | `timers` | waits that are polled for every token and over once a stream |
//! | `client_sink` | the pump's end: what is written, and what is settled with it |
//! | `answer_encoder` | events to the client's bytes; exactly one terminal event |
//! | `record` | settles a stream once, however it ends |
//! | `log` | the newest bytes of a stream, bounded, for viewers at any position |
//! | `stream` | one stream: pump, log, and those who wait |
//! | `replication` | what replicas do to one another's streams |
//! | `state` | what its viewers and whoever drives it have in common |
//! | `viewer` | a client's HTTP body: reads the log from a position on; heartbeats |
//! | `multiplex` | several streams over one connection |
//! | `summary` | a stream as a whole, read back from its log |
//! | `background` | drives a stream that nobody views, for as long as its window |
//! | `replicas` | streams that other replicas can read, and theirs |
//! | `registry` | which streams there are and were, for clients that come back |

mod active_answer;
mod background;
mod client_sink;
mod deadlines;
mod log;
mod multiplex;
mod pump;
mod record;
mod registry;
mod replicas;
mod timers;
// Named after the one type that it holds.
mod answer_encoder;
mod replication;
mod state;
#[allow(clippy::module_inception)]
mod stream;
mod summary;
mod viewer;

pub use answer_encoder::AnswerEncoder;
pub use client_sink::ClientSink;
pub use multiplex::{Multiplex, Positions, Subscription, SubscriptionSource};
pub use pump::StreamSettings;
pub use record::{StreamGuards, StreamLabels, StreamRecord};
pub use registry::{Lookup, ReaderPermit, Registry};
pub use replicas::{Orphan, Replicas};
pub use stream::{Retention, Stream};
pub use summary::Summary;
pub use timers::CancelWaiter;
pub use viewer::{Heartbeat, JoinOutcome, Reader, Viewer, collect, open, open_in_background};
