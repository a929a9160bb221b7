//! The HTTP/1.1 client for upstreams: answers as bytes, over connections, and over TLS.
//!
//! | file | is about |
//! |---|---|
//! | `heads`, `bodies` | the pure parts: heads, and bodies at every cut |
//! | `connections` | one connection: early, broken and dropped answers |
//! | `proxies` | upstreams behind an HTTP proxy |
//! | `pool` | which connections are reused |
//! | `poison` | what an upstream may leave on a connection, and what becomes of it |
//! | `tls` | certificates, and how an answer ends |
//! | `differential` | the same answers decoded by hyper's client |
//! | `support` | sends requests, for the other files |
//! | `certificates` | the certificates of the tests' TLS servers, with the script that made them |

mod bodies;
mod connections;
mod differential;
mod heads;
mod poison;
mod pool;
mod proxies;
mod support;
mod tls;
