//! The demo: embedded upstreams that replay the embedded fixtures over real loopback HTTP, and a
//! configuration that routes to them.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use super::error::ServeError;
use crate::config::{Config, LoadedConfig, Overrides};
use crate::fixture::{Library, Options, Server};

/// The running upstreams, and the configuration of a gateway in front of them.
pub(super) struct Demo {
    pub(super) loaded: LoadedConfig,
    /// They run as long as this exists.
    _upstreams: [Server; 2],
}

impl Demo {
    /// # Errors
    /// If the fixtures are broken, or an address cannot be bound.
    pub(super) fn start(overrides: &Overrides) -> Result<Self, ServeError> {
        let library = Library::embedded().map_err(ServeError::Fixtures)?;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind = |known_cases_only| {
            let options = Options {
                known_cases_only,
                ..Options::default()
            };
            Server::bind(any_port, &library, &options)
                .map_err(|error| ServeError::Listen(any_port, error))
        };
        let (any_model, known_cases) = (bind(false)?, bind(true)?);
        let text = config(&any_model, &known_cases);
        let loaded = Config::parse(&text, "the demo's config", &|_| None, overrides)?;
        Ok(Self {
            loaded,
            _upstreams: [any_model, known_cases],
        })
    }
}

/// `demo-<wire>/<case>` plays that case, and is a 404 if there is none. `demo`, `demo-<wire>` and
/// every other name play the case `text`. Nothing in it costs money, so any address may serve it.
fn config(any_model: &Server, known_cases: &Server) -> String {
    let mut upstreams = String::from("open: true\ncors: { origins: [loopback] }\nupstreams:\n");
    let mut models = String::from(
        "models:\n  demo: { targets: [ { upstream: demo-openai-chat, model: text } ] }\n  \
         '*': { targets: [ { upstream: demo-openai-chat, model: text } ] }\n",
    );
    let (any_model, known) = (any_model, known_cases.addr());
    for (wire, _) in any_model.served() {
        let addr = any_model.addr();
        // Writing to a string cannot fail.
        let _ = writeln!(
            upstreams,
            "  demo-{wire}: {{ wire: {wire}, base_url: 'http://{addr}' }}\n  \
             demo-{wire}-cases: {{ wire: {wire}, base_url: 'http://{known}' }}"
        );
        let _ = writeln!(
            models,
            "  demo-{wire}: {{ targets: [ {{ upstream: demo-{wire}, model: text }} ] }}\n  \
             'demo-{wire}/*': {{ targets: [ {{ upstream: demo-{wire}-cases, model: '*' }} ] }}"
        );
    }
    upstreams + &models
}
