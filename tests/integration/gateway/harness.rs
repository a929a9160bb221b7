//! A gateway in the test's process, with its real listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate::app::Gateway;
use sluicegate::config::{Config, Overrides};
use sluicegate::server::{self, Listener};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{Answer, ClientRequest};
use super::within_timeout;
use crate::fixture_server::ANY_PORT;
use crate::raw_client::RawClient;

/// A gateway that serves until it is dropped.
pub struct TestGateway {
    pub gateway: Arc<Gateway>,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl TestGateway {
    /// Starts a gateway with a config's text, which names no addresses.
    pub fn start(text: &str) -> Self {
        // Only the first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gateway = Arc::new(Gateway::new(config(text)).unwrap());
        let stop = CancellationToken::new();
        let bind = || {
            let listener = Listener::bind(ANY_PORT).unwrap();
            let addr = listener.addr().unwrap();
            (listener, addr)
        };
        let ((clients, client_addr), (admin, admin_addr)) = (bind(), bind());
        tokio::spawn(server::serve_clients(
            clients,
            Arc::clone(&gateway),
            stop.clone(),
        ));
        tokio::spawn(server::serve_admin(
            admin,
            Arc::clone(&gateway),
            stop.clone(),
        ));
        Self {
            clients: client_addr,
            admin: admin_addr,
            stop: stop.clone(),
            _stop: stop.drop_guard(),
            gateway,
        }
    }

    /// The model `m` with these upstreams as its targets, in this order. They are named `a`, `b`, …,
    /// speak `openai-chat` and are asked for the model `text`. `settings` are more lines.
    pub fn with_upstreams(upstreams: &[SocketAddr], settings: &str) -> Self {
        Self::start(&targets(upstreams, settings))
    }

    /// As [`TestGateway::with_upstreams`], with streams that can be resumed: `resume` is the config's value of
    /// that name.
    pub fn with_resume(upstreams: &[SocketAddr], resume: &str, settings: &str) -> Self {
        Self::start(&resumable_targets(upstreams, resume, settings))
    }

    /// Closes the listeners, as at the end of a drain.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Reloads with another config.
    pub fn reload(&self, text: &str) {
        self.gateway.reload(config(text)).unwrap();
    }

    /// Sends a request and waits for the answer's head.
    pub async fn ask(&self, asked: &ClientRequest) -> Answer {
        within_timeout(async {
            let mut client = RawClient::connect(self.clients).await.unwrap();
            asked.send(&mut client).await;
            let head = client.head().await.unwrap();
            Answer::new(head, client)
        })
        .await
    }

    /// Sends a prompt to the model `m`.
    pub async fn prompt(&self) -> Answer {
        self.ask(&ClientRequest::prompt("m")).await
    }

    /// One page of the admin listener.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        page(self.admin, path).await
    }

    /// The value of a metric, with its labels; 0 where it has no value.
    pub async fn metric(&self, name: &str) -> f64 {
        metric(self.admin, name).await
    }

    /// Waits until no stream is open and every permit was given back.
    pub async fn wait_idle(&self) {
        within_timeout(async {
            while self.gateway.app().limiter.open_streams() > 0
                || self.metric("sluicegate_open_streams").await > 0.0
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A config's text for [`TestGateway::with_upstreams`].
pub fn targets(upstreams: &[SocketAddr], settings: &str) -> String {
    resumable_targets(upstreams, "{ window: 0s }", settings)
}

/// A config's text for [`TestGateway::with_resume`]. A target is asked once, so that a script needs one answer.
pub fn resumable_targets(upstreams: &[SocketAddr], resume: &str, settings: &str) -> String {
    let named = || (b'a'..).map(char::from).zip(upstreams);
    let declared: String = named()
        .map(|(name, addr)| {
            format!("  {name}: {{ wire: openai-chat, base_url: 'http://{addr}/v1' }}\n")
        })
        .collect();
    let targets: Vec<String> = named()
        .zip(0..)
        .map(|((name, _), at)| format!("{{ upstream: {name}, model: text, priority: {at} }}"))
        .collect();
    format!(
        "upstreams:\n{declared}models:\n  m: {{ targets: [ {} ], retry: off }}\nresume: {resume}\n\
         {settings}\n",
        targets.join(", ")
    )
}

pub async fn page(addr: SocketAddr, path: &str) -> (u16, String) {
    within_timeout(async {
        let mut client = RawClient::connect(addr).await.unwrap();
        client.send("GET", path, "").await.unwrap();
        let head = client.head().await.unwrap();
        let body = client.body(&head).await.unwrap();
        (head.status, String::from_utf8(body).unwrap())
    })
    .await
}

/// The value of a series; without labels, the sum of all series of that name.
pub async fn metric(admin: SocketAddr, name: &str) -> f64 {
    let (status, text) = page(admin, "/metrics").await;
    assert_eq!(status, 200);
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        match rest.strip_prefix(' ') {
            Some(value) => Some(value),
            None if name.contains('{') => None,
            None => rest.strip_prefix('{')?.rsplit(' ').next(),
        }
    });
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

fn config(text: &str) -> Config {
    let loaded = Config::parse(text, "test", &|_| None, &Overrides::default());
    loaded
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
        .config
}
