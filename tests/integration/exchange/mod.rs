//! The exchange with an upstream: answers as bytes, over connections, and over TLS.
//!
//! | file | is about |
//! |---|---|
//! | `heads`, `bodies` | the pure parts: what a head says, and a body's content for every way of cutting it |
//! | `connections` | one connection: early answers, broken ones, ones that are given up |
//! | `pool` | which connections are used again |
//! | `tls` | whom the certificate must name, and how an answer ends |
//! | `differential` | the same answers as hyper's client reads them |
//! | `support` | sends requests, for the rest |
//! | `certificates` | of the tests' TLS servers, with the script that made them |

mod bodies;
mod connections;
mod differential;
mod heads;
mod pool;
mod support;
mod tls;
