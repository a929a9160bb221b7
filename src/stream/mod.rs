//! One stream from the client's request to its terminal event: who drives it and what ends it.
//!
//! A stream has no task of its own: its viewers drive it. A viewer is a client's HTTP body. When it has
//! read the whole log, polling it polls the upstream. Three things follow. A stream with one client needs
//! no task and no channel. A client that does not read slows the upstream, so memory stays bounded.
//! Among several viewers, any one that is awake drives the stream; a viewer that does not read slows
//! none of the others and falls behind in the log. Only a stream without viewers is driven by a task,
//! for as long as its window.
//!
//! | file | does |
//! |---|---|
//! | `pump` | the state machine from the upstream to bytes: opening, active, ended; deadlines |
//! | `active_answer` | reads an answer that has begun, and decides what ends it |
//! | `deadlines` | how long an upstream may be silent, and how long an answer may take |
//! | `timers` | waits that are polled for every token and fire once a stream at most |
//! | `client_sink` | the pump's output: encodes events and settles the stream |
//! | `answer_encoder` | events to the client's bytes; exactly one terminal event |
//! | `record` | settles a stream once, however it ends |
//! | `log` | the newest bytes of a stream, bounded, for viewers at any position |
//! | `stream` | one stream: pump, log, and the wakers of its viewers |
//! | `driver` | how viewers drive a stream: who polls its pump, and who is woken |
//! | `replication` | the part of a stream that replicas use: append, store, take over |
//! | `state` | what the viewers and the driver of a stream share |
//! | `viewer` | a client's HTTP body: reads the log from a position; heartbeats |
//! | `passed` | answers that pass as the upstream wrote them |
//! | `multiplex` | several streams over one connection |
//! | `summary` | a stream's status, parsed from its log |
//! | `background` | drives a stream without viewers, for as long as its window |
//! | `orphans` | the queue of streams that this replica is to continue |
//! | `replicas` | writes this replica's streams to the shared store, and follows those of others |
//! | `open_streams` | the streams that are open, for the operator |
//! | `registry` | which streams exist and existed, for clients that come back |
//! | `readers` | how many readers there may be beside the streams' own clients |

mod active_answer;
mod background;
mod client_sink;
mod deadlines;
mod driver;
mod log;
mod multiplex;
mod open_streams;
mod orphans;
mod passed;
mod pump;
mod readers;
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
pub use client_sink::{ClientSink, ResponseReport};
pub use multiplex::{Multiplex, Positions, Subscription, SubscriptionSource};
pub use open_streams::{OpenStream, OpenStreams, PrefixMatch};
pub use orphans::{Orphan, OrphanQueue};
pub use passed::{PassSettings, PassedAnswer, pass};
pub use pump::StreamSettings;
pub use readers::{ReaderLimit, ReaderLimits, ReaderPermit, Readers};
pub use record::{Progress, StreamGuards, StreamLabels, StreamRecord};
pub use registry::{Lookup, Registry};
pub use replicas::Replicas;
pub use stream::{Retention, Stream};
pub use summary::Summary;
pub use timers::CancelWaiter;
pub use viewer::{Heartbeat, JoinOutcome, Reader, Viewer, collect, open, open_in_background};
