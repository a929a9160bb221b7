//! Upstreams (model APIs): sends requests and reads answers.
//!
//! | file | does |
//! |---|---|
//! | `client` | one upstream: its address and credential; sends a request, returns the answer |
//! | `answer` | an answer while it is read |
//! | `trace` | names the client's request in logs and at the upstream, and records the attempts |
//! | `count` | asks an upstream how many tokens a prompt has |
//! | `exchange` | the HTTP/1.1 client: connections, heads, bodies |
//! | `pass` | sends a client's body as it is, but for the model |
//! | `request_url` | the URL of a request, from the base URL and the path |
//! | `recycle` | reads the last bytes of a finished answer, so that its connection can be reused |
//! | `refusal`, `retry_after` | classifies a non-2xx answer, for every wire in one place; how long it asks to wait |
//! | `rate_limits` | the headers in which a vendor states its rate limits |
//! | `refused_answer` | reads a non-2xx answer and makes the client's error of it |
//! | `scrub`, `account_ids` | remove credentials and account ids from messages |
//! | `sigv4` | signs requests to AWS |
//! | `ingest` | decodes an answer's bytes into events |
//! | `long_work` | lets other tasks run while a long frame is read |
//! | `frame_reader` | reads a frame with its wire's decoder; repairs or skips what it cannot read |
//! | `template` | decodes a frame that repeats the one before it, without parsing it |
//! | `repair` | repairs frames that are not the JSON that a wire requires |
//! | `restore_names` | gives the calls of an answer the client's names of its tools |
//! | `think_tags` | separates reasoning from text where a vendor marks it inside the text |

mod account_ids;
mod answer;
mod client;
mod count;
pub mod exchange;
mod frame_reader;
pub mod ingest;
mod long_work;
mod pass;
mod rate_limits;
mod recycle;
mod refusal;
mod refused_answer;
mod repair;
mod request_url;
mod restore_names;
mod retry_after;
mod scrub;
mod sigv4;
mod template;
mod think_tags;
mod trace;

pub use answer::Answer;
pub use client::{PreparedRequest, Upstream};
pub use long_work::run_long_work;
pub use pass::{PassedRequest, PassedStart};
pub use recycle::Recycler;
pub use scrub::mask;
pub use trace::Trace;
