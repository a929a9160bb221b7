//! HTTP: listeners, connections, routes and handlers.
//!
//! | file | does |
//! |---|---|
//! | `clients` | the routes of the client listener |
//! | `admission` | admits requests: address, key, limits |
//! | `body` | reads the bodies of requests |
//! | `chat` | answers prompt requests, for every dialect |
//! | `endpoints` | the routes of requests that open no stream of a dialect |
//! | `count` | answers how many tokens a prompt has |
//! | `passing` | answers of upstreams to requests that are passed on |
//! | `resume` | existing streams: resuming, reading along, status, cancelling |
//! | `notifications` | listening to notifications, and announcing |
//! | `open_streams` | the open streams, for the operator |
//! | `live` | samples of what the gateway does, for viewers |
//! | `stream_builder` | assembles what one stream needs |
//! | `takeover` | continues the streams of replicas that are gone |
//! | `parsing` | parses a request's body without holding up streams |
//! | `paths` | puts the forms in which clients write one path into one |
//! | `models` | lists the models that a key may use |
//! | `web` | the pages for browsers: static files |
//! | `refusal` | errors as HTTP responses |
//! | `session` | the session that a request belongs to |
//! | `admin` | the routes of the admin listener |
//! | `log_level` | the level of the log, which can be changed |
//! | `listener` | binds an address, accepts its connections |
//! | `connections` | counts and bounds the open connections |
//! | `connection` | one connection: its first bytes, then HTTP/1.1 or HTTP/2 |
//! | `service` | what the connections of a listener share, and the client of one |
//! | `http1` | HTTP/1.1 up to an answer that streams |
//! | `http2` | HTTP/2 |
//! | `raw_head` | looks for heads that other servers read differently |
//! | `streaming` | writes a streamed answer over HTTP/1.1, without hyper |
//! | `socket` | a client's HTTP/1.1 socket, which detects that the client left |

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::Gateway;

mod admin;
mod admission;
mod body;
mod chat;
mod clients;
mod connection;
mod connections;
mod count;
mod endpoints;
mod http1;
mod http2;
mod listener;
mod live;
mod log_level;
mod models;
mod notifications;
mod open_streams;
mod origin;
mod parsing;
mod passing;
mod paths;
mod raw_head;
mod refusal;
mod resume;
mod service;
mod session;
mod socket;
mod stream_builder;
mod streaming;
mod takeover;
mod web;

pub use clients::router as client_router;
pub use listener::Listener;
pub use takeover::run_takeovers;

use axum::Router;
use connections::Connections;
use live::Sampler;
use service::Service;

/// Serves the routes of the client listener until `closing`.
pub async fn serve_clients(listener: Listener, gateway: Arc<Gateway>, closing: CancellationToken) {
    let service = Service {
        router: clients::router(Arc::clone(&gateway)),
        tls: {
            let gateway = Arc::clone(&gateway);
            Arc::new(move || {
                let app = gateway.app();
                let tls = app.config.tls.as_ref();
                tls.map(|tls| Arc::clone(&tls.server))
            })
        },
        draining: gateway.draining.clone(),
        closing,
    };
    let connections = Connections::of_clients(&gateway);
    listener.serve(service, connections).await;
}

/// The routes of the admin listener, without samples.
pub fn admin_router(gateway: Arc<Gateway>) -> Router {
    let sampler = Arc::new(Sampler::new(Arc::clone(&gateway)));
    admin::router(gateway, sampler)
}

/// Serves the routes of the admin listener until `closing`.
pub async fn serve_admin(listener: Listener, gateway: Arc<Gateway>, closing: CancellationToken) {
    let sampler = Arc::new(Sampler::new(Arc::clone(&gateway)));
    let service = Service {
        draining: gateway.draining.clone(),
        tls: Arc::new(|| None),
        router: admin::router(gateway, Arc::clone(&sampler)),
        closing: closing.clone(),
    };
    let sampling = async {
        tokio::select! {
            () = sampler.run() => {}
            () = closing.cancelled() => sampler.close(),
        }
    };
    tokio::join!(listener.serve(service, Connections::of_admin()), sampling);
}
