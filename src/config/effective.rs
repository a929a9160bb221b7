//! Writes the effective config: every setting, defaults and presets included, without secrets.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::keys::write_hash;
use super::routing::{AffinityConfig, BreakerConfig, HedgeConfig, RetryConfig, StrategyConfig};
use super::settings::{AllowedOrigins, OnStoreFailure, TimeoutsConfig};
use super::telemetry::SpanNames;
use super::unit::{write_duration, write_rate, write_size};
use super::{Config, KeyConfig, ModelConfig, UpstreamConfig};
use crate::model::{Credential, ReasoningStyle};

/// Replaces every secret.
const REDACTED: &str = "<redacted>";

/// YAML that is itself a config once its secrets are put back.
pub fn write(config: &Config) -> String {
    let mut root = Map::new();
    let mut set = |key: &str, value: Value| root.insert(key.to_owned(), value);
    set("listen", json!(config.listen.to_string()));
    set("admin_listen", json!(config.admin_listen.to_string()));
    if let Some(tls) = &config.tls {
        let path = |path: &Path| text(&path.to_string_lossy());
        set(
            "tls",
            json!({ "cert": path(&tls.cert), "key": path(&tls.key) }),
        );
    }
    set("open", json!(config.open));
    set(
        "upstreams",
        named(&config.upstreams, |one| &one.name, upstream),
    );
    set(
        "models",
        named(config.models.iter(), |one| &one.name, model),
    );
    set("timeouts", timeouts(&config.timeouts));
    set("heartbeat", json!(write_duration(config.heartbeat)));
    if let Some(keys) = &config.keys {
        set("keys", keys.iter().map(key).collect());
    }
    set("limits", limits(config));
    set(
        "trusted_proxies",
        config
            .trusted_proxies
            .iter()
            .map(|network| json!(network.to_string()))
            .collect(),
    );
    set(
        "resume",
        json!({
            "window": write_duration(config.resume.window),
            "buffer": write_size(config.resume.buffer),
        }),
    );
    set("metrics", json!({ "key": config.metrics.key }));
    set("drain", json!(write_duration(config.drain)));
    set("state", escaped(config.state.redacted(REDACTED)));
    let on_store_failure = match config.on_store_failure {
        OnStoreFailure::Local => "local",
        OnStoreFailure::Deny => "deny",
    };
    set("on_store_failure", json!(on_store_failure));
    let origins = match &config.origins {
        AllowedOrigins::Any => json!(["*"]),
        AllowedOrigins::These(origins) => origins.iter().map(|origin| text(origin)).collect(),
    };
    set("cors", json!({ "origins": origins }));
    set("hosts", json!(config.hosts));
    let names = match config.tracing.names {
        SpanNames::Latest => "latest",
        SpanNames::Legacy => "legacy",
        SpanNames::Both => "both",
    };
    let content = config.tracing.content;
    set("tracing", json!({ "semconv": names, "content": content }));
    to_yaml(&Value::Object(root))
}

/// A config entry for a key with that name and hash, as YAML under `keys`.
pub fn key_entry(name: &str, sha256: &[u8; 32]) -> String {
    to_yaml(&json!({
        "keys": [{ "name": text(name), "sha256": write_hash(sha256) }]
    }))
}

/// Writes a tree of strings, numbers, booleans, lists and maps as YAML.
fn to_yaml(value: &Value) -> String {
    // Writing such a tree to a string cannot fail.
    serde_saphyr::to_string(value).unwrap_or_default()
}

/// The value with all of its strings as [`text`].
fn escaped(value: Value) -> Value {
    match value {
        Value::String(string) => text(&string),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(map) => {
            let map = map.into_iter();
            Value::Object(map.map(|(key, value)| (key, escaped(value))).collect())
        }
        other => other,
    }
}

/// Escapes `$`, which has a meaning in a config, so that the string reads back as itself.
fn text(value: &str) -> Value {
    Value::String(value.replace('$', "$$"))
}

fn named<'c, T: 'c>(
    all: impl IntoIterator<Item = &'c T>,
    name: impl Fn(&T) -> &str,
    write: impl Fn(&T) -> Value,
) -> Value {
    let entries = all
        .into_iter()
        .map(|one| (name(one).to_owned(), write(one)));
    Value::Object(entries.collect())
}

fn upstream(upstream: &std::sync::Arc<UpstreamConfig>) -> Value {
    let mut entry = Map::new();
    let mut set = |key: &str, value: Value| entry.insert(key.to_owned(), value);
    if let Some(preset) = upstream.preset {
        set("preset", json!(preset));
    }
    set("wire", json!(upstream.wire.name()));
    set("base_url", text(upstream.base_url.as_str()));
    if let Some(region) = &upstream.region {
        set("region", json!(region));
    }
    match upstream.credential {
        Some(Credential::Bearer(_) | Credential::Header(..)) => set("api_key", json!(REDACTED)),
        // Signing keys stay in the environment.
        None | Some(Credential::SigV4(_)) => None,
    };
    if !upstream.wire.has_look_alikes() || upstream.verbatim {
        let fidelity = if upstream.verbatim {
            "verbatim"
        } else {
            "repaired"
        };
        set("fidelity", fidelity.into());
    }
    if upstream.vendor.think_tags {
        set("think_tags", "reasoning".into());
    }
    if !upstream.headers.is_empty() {
        let names = upstream.headers.keys();
        let headers = names.map(|name| (name.to_string(), json!(REDACTED)));
        set("headers", Value::Object(headers.collect()));
    }
    let connection = &upstream.connection;
    if let Some(proxy) = &connection.proxy {
        set("proxy", text(&proxy.redacted(REDACTED)));
    }
    if let Some(ca) = &connection.ca {
        set("ca", text(&ca.path));
    }
    if let Some(client) = &connection.client_cert {
        let (cert, key) = (text(&client.cert), text(&client.key));
        set("client_cert", json!({ "cert": cert, "key": key }));
    }
    set(
        "reuse",
        match connection.reuse {
            None => json!("off"),
            Some(reuse) => {
                json!({ "requests": reuse.requests, "age": write_duration(reuse.age) })
            }
        },
    );
    Value::Object(entry)
}

fn model(model: &std::sync::Arc<ModelConfig>) -> Value {
    let targets: Value = model
        .targets
        .iter()
        .map(|target| {
            let mut entry = json!({
                "upstream": text(&target.upstream.name),
                "model": text(target.pattern()),
                "priority": target.priority,
                "weight": target.weight,
            });
            if let Some(style) = target.reasoning {
                entry["reasoning"] = reasoning_style(style).into();
            }
            entry
        })
        .collect();
    let mut entry = json!({
        "targets": targets,
        "timeouts": timeouts(&model.timeouts),
        "continue": if model.continues { "on" } else { "off" },
        "reserve_tokens": model.reserve_tokens,
        "strategy": match model.routing.strategy {
            StrategyConfig::Weighted => "weighted",
            StrategyConfig::Fastest => "fastest",
        },
        "affinity": match &model.routing.affinity {
            AffinityConfig::Auto => "auto".to_owned(),
            AffinityConfig::Off => "off".to_owned(),
            AffinityConfig::Header(name) => format!("header:{name}"),
        },
        "retry": retry(&model.routing.retry),
        "breaker": breaker(model.routing.breaker.as_ref()),
        "hedge": match model.routing.hedge {
            None => json!("off"),
            Some(HedgeConfig::P95) => json!({ "after": "p95" }),
            Some(HedgeConfig::After(after)) => json!({ "after": write_duration(after) }),
        },
    });
    if let Some(max_tokens) = model.max_tokens {
        entry["max_tokens"] = max_tokens.into();
    }
    entry
}

fn retry(retry: &RetryConfig) -> Value {
    json!({
        "attempts": retry.attempts,
        "backoff": write_duration(retry.backoff),
        "max_backoff": write_duration(retry.max_backoff),
    })
}

fn breaker(breaker: Option<&BreakerConfig>) -> Value {
    let Some(breaker) = breaker else {
        return json!("off");
    };
    json!({
        "failures": breaker.failures,
        "window": write_duration(breaker.window),
        "open": write_duration(breaker.open),
    })
}

fn reasoning_style(style: ReasoningStyle) -> &'static str {
    match style {
        ReasoningStyle::Adaptive => "adaptive",
        ReasoningStyle::Budget => "budget",
        ReasoningStyle::Effort => "effort",
        ReasoningStyle::None => "none",
    }
}

fn timeouts(timeouts: &TimeoutsConfig) -> Value {
    json!({
        "connect": write_duration(timeouts.connect),
        "first_token": write_duration(timeouts.first_token),
        "idle": write_duration(timeouts.idle),
        "total": timeouts.total.map_or_else(|| "none".to_owned(), write_duration),
    })
}

fn key(key: &KeyConfig) -> Value {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), text(&key.name));
    entry.insert("sha256".to_owned(), json!(write_hash(&key.sha256)));
    if let Some(globs) = &key.models {
        let globs = globs.iter().map(|glob| text(glob.as_str())).collect();
        entry.insert("models".to_owned(), globs);
    }
    let mut limits = Map::new();
    for (name, rate) in [
        ("requests", key.limits.requests),
        ("tokens", key.limits.tokens),
    ] {
        if let Some(rate) = rate {
            limits.insert(name.to_owned(), json!(write_rate(rate)));
        }
    }
    if let Some(streams) = key.limits.streams {
        limits.insert("streams".to_owned(), json!(streams));
    }
    if !limits.is_empty() {
        entry.insert("limits".to_owned(), Value::Object(limits));
    }
    Value::Object(entry)
}

fn limits(config: &Config) -> Value {
    let limits = &config.limits;
    let mut entry = Map::new();
    entry.insert("streams".to_owned(), json!(limits.streams));
    let connections = limits.connections;
    let per_ip = connections.per_ip.map_or(json!("none"), |most| json!(most));
    entry.insert(
        "connections".to_owned(),
        json!({ "total": connections.total, "per_ip": per_ip }),
    );
    entry.insert("listeners".to_owned(), json!(limits.listeners));
    if let Some(rate) = limits.per_ip {
        entry.insert("per_ip".to_owned(), json!({ "requests": write_rate(rate) }));
    }
    entry.insert("memory".to_owned(), json!(write_size(limits.memory)));
    entry.insert("body".to_owned(), json!(write_size(limits.body)));
    entry.insert("frame".to_owned(), json!(write_size(limits.frame)));
    Value::Object(entry)
}
