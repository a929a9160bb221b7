//! HTTP: listeners, connections, routes and handlers.
//!
//! | file | does |
//! |---|---|
//! | `clients` | the routes of the client listener |
//! | `admission` | admits requests: address, key, limits |
//! | `chat` | answers prompt requests, for every dialect |
//! | `resume` | existing streams: resuming, reading along, status, cancelling |
//! | `stream_builder` | assembles what one stream needs |
//! | `takeover` | continues the streams of replicas that are gone |
//! | `parsing` | parses a request's body without holding up streams |
//! | `paths` | puts the forms in which clients write one path into one |
//! | `models` | lists the models that a key may use |
//! | `web` | the chat page at `GET /` |
//! | `refusal` | errors as HTTP responses |
//! | `admin` | the routes of the admin listener |
//! | `listener` | binds an address, accepts its connections |
//! | `connection` | one connection, HTTP/1.1 or HTTP/2: deadlines, bounds, graceful end |
//! | `streaming` | writes a streamed answer over HTTP/1.1, without hyper |
//! | `socket` | a client's HTTP/1.1 socket, which detects that the client left |

mod admin;
mod admission;
mod chat;
mod clients;
mod connection;
mod listener;
mod models;
mod origin;
mod parsing;
mod paths;
mod refusal;
mod resume;
mod socket;
mod stream_builder;
mod streaming;
mod takeover;
mod web;

pub use admin::router as admin_router;
pub use clients::router as client_router;
pub use listener::Listener;
pub use takeover::run_takeovers;
