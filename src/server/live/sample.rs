//! Compares two snapshots.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::snapshot::{Counts, Histogram, ModelCounts, Snapshot};
use crate::app::Gateway;

/// How many seconds percentiles look back.
pub(super) const WINDOW_SECONDS: usize = 60;

/// The first-token times of each model at earlier moments, oldest first.
pub(super) struct Window(VecDeque<BTreeMap<String, Histogram>>);

/// One sample: for the viewers, and what the history keeps of it.
pub(super) struct Sample {
    pub(super) whole: Value,
    pub(super) short: Value,
}

impl Default for Window {
    /// Begins before the process counted anything.
    fn default() -> Self {
        Self(VecDeque::from([BTreeMap::new()]))
    }
}

impl Window {
    /// The oldest counts that are known.
    fn oldest(&self, model: &str) -> Option<&Histogram> {
        self.0.front().and_then(|counts| counts.get(model))
    }

    fn push(&mut self, models: &BTreeMap<String, ModelCounts>) {
        if self.0.len() == WINDOW_SECONDS {
            self.0.pop_front();
        }
        let counts = models.iter();
        let counts = counts.map(|(model, counts)| (model.clone(), counts.first_token.clone()));
        self.0.push_back(counts.collect());
    }
}

impl Sample {
    /// What happened between two snapshots.
    pub(super) fn of(
        before: &Snapshot,
        now: &Snapshot,
        window: &mut Window,
        gateway: &Gateway,
        started: Instant,
    ) -> Self {
        let seconds = (now.at - before.at).as_secs_f64().max(1e-3);
        let rate = |old: f64, new: f64| round((new - old).max(0.0) / seconds);
        let count = |name| now.gauge(name) as u64;
        let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
        let mut first_token = Histogram::default();
        let mut models = Map::new();
        let (mut tokens, mut requests, mut errors, mut failovers) = (0.0, 0.0, 0.0, 0.0);
        let none = ModelCounts::default();
        for (name, counts) in &now.models {
            let old = before.models.get(name).unwrap_or(&none);
            let times = counts.first_token.since(window.oldest(name));
            first_token.merge(&times);
            let begun = (old.ended + old.open, counts.ended + counts.open);
            let model = json!({
                "open_streams": counts.open as u64,
                "tokens_per_second": rate(old.tokens, counts.tokens),
                "requests_per_second": rate(begun.0, begun.1),
                "errors_per_second": rate(old.errors, counts.errors),
                "failovers_per_second": rate(old.failovers, counts.failovers),
                "first_token_ms": percentiles(&times),
            });
            let number = |name: &str| model[name].as_f64().unwrap_or_default();
            tokens += number("tokens_per_second");
            requests += number("requests_per_second");
            errors += number("errors_per_second");
            failovers += number("failovers_per_second");
            models.insert(name.clone(), model);
        }
        window.push(&now.models);
        let upstreams = now.upstreams.iter().map(|(name, counts)| {
            let old = before.upstreams.get(name).cloned().unwrap_or_default();
            let upstream = json!({
                "attempts_per_second": rate(old.attempts, counts.attempts),
                "errors_per_second": rates(&old.errors, &counts.errors, seconds),
                "breakers": counts.breakers.iter().map(breaker).collect::<Map<_, _>>(),
            });
            (name.clone(), upstream)
        });
        let short = json!({
            "time": humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            "cpu_percent": round(100.0 * cpu / seconds),
            "memory_bytes": now.memory,
            "open_streams": count("open_streams"),
            "tokens_per_second": round(tokens),
            "requests_per_second": round(requests),
            "first_token_ms": percentiles(&first_token),
            "errors_per_second": round(errors),
            "refusals_per_second": rates(&before.limit_refusals, &now.limit_refusals, seconds),
        });
        let more = json!({
            "failovers_per_second": round(failovers),
            "refused_codes_per_second": rates(&before.refusals, &now.refusals, seconds),
            "resumes_per_second": rates(&before.resumes, &now.resumes, seconds),
            "models": models,
            "upstreams": upstreams.collect::<Map<_, _>>(),
            "connections": count("connections"),
            "readers": count("readers"),
            "listeners": count("listeners"),
            "request_memory_bytes": count("request_memory_bytes"),
            "stream_buffer_bytes": count("stream_buffer_bytes"),
            "store_up": now.gauge("store_up") == 1.0,
            "draining": gateway.draining.is_cancelled(),
            "limits": limits(gateway),
            "uptime_seconds": (now.at - started).as_secs(),
            "window_seconds": WINDOW_SECONDS,
        });
        let mut whole = short.clone();
        if let (Value::Object(whole), Value::Object(more)) = (&mut whole, more) {
            whole.extend(more);
        }
        Self { whole, short }
    }
}

/// What the gauges are bounded by.
fn limits(gateway: &Gateway) -> Value {
    let limits = gateway.app().config.limits;
    json!({
        "streams": limits.streams,
        "connections": limits.connections.total,
        "memory": limits.memory,
        "listeners": limits.listeners,
    })
}

/// The state of a breaker that is not closed, for its model.
fn breaker((model, state): (&String, &f64)) -> (String, Value) {
    let state = if *state > 1.0 { "open" } else { "half_open" };
    (model.clone(), state.into())
}

/// What grew, as rates.
fn rates(before: &Counts, now: &Counts, seconds: f64) -> Map<String, Value> {
    let grown = now.iter().filter_map(|(label, count)| {
        let old = before.get(label).copied().unwrap_or_default();
        let rate = (count - old) / seconds;
        (rate > 0.0).then(|| (label.clone(), json!(round(rate))))
    });
    grown.collect()
}

fn percentiles(times: &Histogram) -> Value {
    let at = |share| times.quantile(share).map(|seconds| round(seconds * 1e3));
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)})
}

/// Three digits behind the point are enough.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
