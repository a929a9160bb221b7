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
//! | `live` | an answer that has begun: reading it, and waiting for the rest of a burst |
//! | `deadlines` | how long an upstream may be silent, and how long an answer may take |
//! | `patience` | waits that are polled for every token and over once a stream |
//! | `outlet` | the pump's end: what is written, and what is settled with it |
//! | `transcript` | events to the client's bytes; exactly one terminal event |
//! | `receipt` | settles a stream once, however it ends |
//! | `log` | the newest bytes of a stream, bounded, for viewers at any position |
//! | `shared` | one stream: pump, log, and those who wait |
//! | `sharing` | what replicas do to one another's streams |
//! | `state` | what its viewers and whoever drives it have in common |
//! | `viewer` | a client's HTTP body: reads the log from a position on; heartbeats |
//! | `multiplex` | several streams over one connection |
//! | `summary` | a stream as a whole, read back from its log |
//! | `alone` | drives a stream that nobody views, for as long as its window |
//! | `replicas` | streams that other replicas can read, and theirs |
//! | `registry` | which streams there are and were, for clients that come back |

mod alone;
mod deadlines;
mod live;
mod log;
mod multiplex;
mod outlet;
mod patience;
mod pump;
mod receipt;
mod registry;
mod replicas;
mod shared;
mod sharing;
mod state;
mod summary;
mod transcript;
mod viewer;

pub use multiplex::{Lane, Multiplex, Positions, Source};
pub use outlet::Outlet;
pub use patience::Stop;
pub use pump::Conditions;
pub use receipt::{Held, Receipt, Subject};
pub use registry::{Found, Registry, Seat};
pub use replicas::{Orphan, Replicas};
pub use shared::{Keeping, Stream};
pub use summary::Summary;
pub use transcript::Transcript;
pub use viewer::{Heartbeat, Reader, Return, Viewer, begin_alone, collect, open};
