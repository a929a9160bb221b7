//! HTTP: what clients and operators can reach, and how a connection lives and ends.
//!
//! | file | does |
//! |---|---|
//! | `clients` | the client listener's paths |
//! | `admission` | who is it, and may they pass: address, key, limits |
//! | `chat` | one prompt request to one answer, for every dialect |
//! | `resume` | streams that are there: coming back, reading along, status, cancelling |
//! | `succession` | going on with the streams of replicas that are gone |
//! | `models` | the models a key may use |
//! | `web` | the chat page at `GET /` |
//! | `refusal` | errors to HTTP answers |
//! | `admin` | the operators' listener |
//! | `listener` | addresses: binding, accepting |
//! | `connection` | HTTP/1.1 and HTTP/2, header deadlines, graceful ends |
//! | `streaming` | an answer that streams over HTTP/1.1, written without hyper |
//! | `socket` | an HTTP/1.1 client's socket that notices when its client leaves |

mod admin;
mod admission;
mod chat;
mod clients;
mod connection;
mod listener;
mod models;
mod refusal;
mod resume;
mod socket;
mod streaming;
mod succession;
mod web;

pub use admin::router as admin_router;
pub use clients::router as client_router;
pub use listener::Listener;
pub use succession::succeed;
