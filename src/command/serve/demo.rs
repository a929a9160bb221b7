//! The demo: an embedded upstream that plays the embedded fixtures over real loopback HTTP, and a
//! configuration that routes to it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use super::error::ServeError;
use crate::config::{Config, LoadedConfig, Overrides};
use crate::fixture::{Library, Options, Server};

/// A running upstream, and the configuration of a gateway before it.
pub(super) struct Demo {
    pub(super) loaded: LoadedConfig,
    /// Plays as long as it is held.
    _upstream: Server,
}

impl Demo {
    /// # Errors
    /// If the fixtures are broken, no port can be had, or `overrides` name a public address.
    pub(super) fn start(overrides: &Overrides) -> Result<Self, ServeError> {
        let library = Library::embedded().map_err(ServeError::Fixtures)?;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let upstream = Server::bind(any_port, &library, &Options::default())
            .map_err(|error| ServeError::Listen(any_port, error))?;
        let text = config(&upstream);
        let loaded = Config::parse(&text, "demo", &|_| None, overrides)?;
        Ok(Self {
            loaded,
            _upstream: upstream,
        })
    }
}

/// `demo` and `demo-<wire>` answer with the case `text`; `demo-<wire>/<case>` with any other.
fn config(upstream: &Server) -> String {
    let mut upstreams = String::from("upstreams:\n");
    let mut models = String::from(
        "models:\n  demo: { targets: [ { upstream: demo-openai-chat, model: text } ] }\n",
    );
    for (wire, _) in upstream.served() {
        let addr = upstream.addr();
        // Writing to a string cannot fail.
        let _ = writeln!(
            upstreams,
            "  demo-{wire}: {{ wire: {wire}, base_url: 'http://{addr}' }}"
        );
        let _ = writeln!(
            models,
            "  demo-{wire}: {{ targets: [ {{ upstream: demo-{wire}, model: text }} ] }}\n  \
             'demo-{wire}/*': {{ targets: [ {{ upstream: demo-{wire}, model: '*' }} ] }}"
        );
    }
    upstreams + &models
}
