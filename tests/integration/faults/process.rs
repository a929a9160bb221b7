//! The program under test, and what can be seen of it from outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;

use crate::gateway::client::ClientRequest;
use crate::gateway::harness::page;
use crate::gateway::program::{GatewayProcess, TemporaryFile};
use crate::gateway::within_timeout;

/// How often the page of metrics is read while something in it is awaited: it is long.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A gateway that serves the models of many cases.
pub struct Process {
    pub gateway: GatewayProcess,
    file: TemporaryFile,
    config: Mutex<Value>,
    /// The notifications so far: event and upstream.
    notifications: watch::Receiver<Vec<(String, String)>>,
    listening: AbortHandle,
}

impl Process {
    /// `parts` are configs whose upstreams and models are merged; `config` has more members. `hosts` is in
    /// place of `/etc/hosts`.
    pub async fn start(
        mut config: Map<String, Value>,
        parts: Vec<Value>,
        hosts: Option<&str>,
    ) -> Arc<Self> {
        let mut merged = json!({"upstreams": {}, "models": {}});
        for part in parts {
            merge(&mut merged, part);
        }
        // A client that leaves cancels its upstream.
        config.entry("resume").or_insert(json!({"window": 0}));
        merge(&mut merged, config.into());
        let file = TemporaryFile::new(&merged.to_string());
        let gateway = match hosts {
            None => GatewayProcess::start(&file, &[]).await,
            Some(hosts) => {
                let hosts = TemporaryFile::new(hosts);
                GatewayProcess::start_with_hosts(&file, &hosts).await
            }
        };
        let mut listener = gateway
            .ask(&ClientRequest::new("GET", "/v1/notifications"))
            .await;
        let (sender, notifications) = watch::channel(Vec::new());
        let listening = tokio::spawn(async move {
            while let Some(event) = listener.event().await {
                let upstream = event.data["upstream"].as_str().unwrap_or_default();
                sender.send_modify(|seen| seen.push((event.name, upstream.to_owned())));
            }
        });
        Arc::new(Self {
            gateway,
            file,
            config: Mutex::new(merged),
            notifications,
            listening: listening.abort_handle(),
        })
    }

    /// Changes the config and waits until it is in use.
    pub async fn reload(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config.lock().await;
        change(&mut config);
        const ACCEPTED: &str = "sluicegate_config_reloads_total{outcome=\"accepted\"}";
        let before = self.gateway.metric(ACCEPTED).await;
        self.file.write(&config.to_string());
        self.gateway.program.signal(Signal::HUP);
        self.wait_for(|metrics| value(metrics, ACCEPTED) > before)
            .await;
    }

    /// Waits until the page of metrics is as wanted.
    pub async fn wait_for(&self, wanted: impl Fn(&str) -> bool) {
        within_timeout(async {
            while !wanted(&self.metrics().await) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
        .await;
    }

    pub async fn metrics(&self) -> String {
        page(self.gateway.admin, "/metrics").await.1
    }

    /// Waits until so many notifications named an upstream that `is_own`, and returns them.
    pub async fn notifications(
        &self,
        number: usize,
        is_own: impl Fn(&str) -> bool,
    ) -> Vec<(String, String)> {
        let own = |seen: &Vec<(String, String)>| {
            let seen = seen.iter().filter(|(_, upstream)| is_own(upstream));
            seen.cloned().collect::<Vec<_>>()
        };
        let mut seen = self.notifications.clone();
        let waiting = seen.wait_for(|seen| own(seen).len() >= number);
        own(&within_timeout(waiting).await.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The value of a series; 0 where there is none. The order of its labels does not matter.
pub fn value(metrics: &str, series: &str) -> f64 {
    let wanted = labels(series);
    let found = metrics.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (labels(name) == wanted).then(|| value.parse().unwrap())
    });
    found.unwrap_or(0.0)
}

/// The name of a series, and its labels in order.
fn labels(series: &str) -> (&str, BTreeMap<&str, &str>) {
    let (name, rest) = series.split_once('{').unwrap_or((series, ""));
    let labels = rest.trim_end_matches('}').split("\",");
    let labels = labels.filter_map(|label| label.split_once("=\""));
    let labels = labels.map(|(name, value)| (name, value.trim_end_matches('"')));
    (name, labels.collect())
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
