//! Reads the counters at one moment.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::text;
use crate::app::Gateway;
use crate::model::StreamId;

/// How many streams are looked at before other tasks get their turn.
const STREAMS_PER_TURN: usize = 256;

/// Counts by their label.
pub(super) type Counts = BTreeMap<String, f64>;

/// The counters of the process at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) cpu: Duration,
    pub(super) memory: Option<u64>,
    pub(super) models: BTreeMap<String, ModelCounts>,
    pub(super) upstreams: BTreeMap<String, UpstreamCounts>,
    pub(super) limit_refusals: Counts,
    pub(super) refusals: Counts,
    pub(super) resumes: Counts,
    pub(super) gauges: Counts,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ModelCounts {
    pub(super) open: f64,
    pub(super) ended: f64,
    pub(super) errors: f64,
    pub(super) failovers: f64,
    /// Of ended and open streams.
    pub(super) tokens: f64,
    pub(super) first_token: Histogram,
}

#[derive(Debug, Clone, Default)]
pub(super) struct UpstreamCounts {
    pub(super) attempts: f64,
    pub(super) errors: Counts,
    /// The states of the breakers that are not closed, by the upstream's model.
    pub(super) breakers: Counts,
}

/// Counts of the values up to each bound, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram(pub(super) Vec<(f64, f64)>);

/// The tokens that open streams had when they were last looked at.
#[derive(Default)]
pub(super) struct OpenTokens(HashMap<StreamId, f64>);

impl Snapshot {
    /// Before the process did anything.
    pub(super) fn empty() -> Self {
        Self {
            at: Instant::now(),
            cpu: cpu(),
            memory: None,
            models: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            limit_refusals: Counts::new(),
            refusals: Counts::new(),
            resumes: Counts::new(),
            gauges: Counts::new(),
        }
    }

    pub(super) async fn take(gateway: &Gateway, open: &mut OpenTokens) -> Self {
        gateway.record_stream_buffer();
        let mut snapshot = Self {
            memory: memory(),
            ..Self::empty()
        };
        snapshot.read(&gateway.metrics.open_metrics());
        snapshot.add_open_streams(gateway, open).await;
        snapshot
    }

    fn read(&mut self, text: &str) {
        for series in text::parse(text) {
            let Some(name) = series.name.strip_prefix("sluicegate_") else {
                continue;
            };
            let (label, value) = (|name| series.label(name), series.value);
            match name {
                "requests_total" => {
                    let model = self.models.entry(label("model")).or_default();
                    model.ended += value;
                    if !matches!(label("outcome").as_str(), "complete" | "cancelled") {
                        model.errors += value;
                    }
                }
                "streamed_tokens_total" => {
                    self.models.entry(label("model")).or_default().tokens += value;
                }
                "failovers_total" => {
                    self.models.entry(label("model")).or_default().failovers += value;
                }
                "first_token_seconds_bucket" => {
                    let model = self.models.entry(label("model")).or_default();
                    let bound = label("le").parse().unwrap_or(f64::INFINITY);
                    model.first_token.add(bound, value);
                }
                "attempts_total" => {
                    self.upstreams
                        .entry(label("upstream"))
                        .or_default()
                        .attempts += value;
                }
                "breaker_state" => {
                    let upstream = self.upstreams.entry(label("upstream")).or_default();
                    if value > 0.0 {
                        upstream.breakers.insert(label("model"), value);
                    }
                }
                "upstream_errors_total" => {
                    let upstream = self.upstreams.entry(label("upstream")).or_default();
                    *upstream.errors.entry(label("code")).or_default() += value;
                }
                "limit_refusals_total" => add(&mut self.limit_refusals, label("policy"), value),
                "refusals_total" => add(&mut self.refusals, label("code"), value),
                "resumes_total" => add(&mut self.resumes, label("found"), value),
                "open_streams"
                | "readers"
                | "listeners"
                | "connections"
                | "request_memory_bytes"
                | "stream_buffer_bytes"
                | "store_up" => {
                    add(&mut self.gauges, name.to_owned(), value);
                }
                _ => {}
            }
        }
    }

    /// Counts the tokens of streams that have not ended.
    async fn add_open_streams(&mut self, gateway: &Gateway, known: &mut OpenTokens) {
        let mut current = HashMap::new();
        for (number, stream) in gateway.open_streams.all().iter().enumerate() {
            let before = known.0.get(&stream.id).copied().unwrap_or_default();
            let progress = stream.progress();
            let tokens = progress.map_or(before, |progress| progress.tokens as f64);
            current.insert(stream.id, tokens);
            let model = self.models.entry(stream.model.clone()).or_default();
            model.open += 1.0;
            model.tokens += tokens;
            if (number + 1).is_multiple_of(STREAMS_PER_TURN) {
                tokio::task::yield_now().await;
            }
        }
        known.0 = current;
    }

    pub(super) fn gauge(&self, name: &str) -> f64 {
        self.gauges.get(name).copied().unwrap_or_default()
    }
}

impl Histogram {
    fn add(&mut self, bound: f64, count: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((bound, count)),
        }
    }

    /// Adds the counts of another one.
    pub(super) fn merge(&mut self, other: &Self) {
        for &(bound, count) in &other.0 {
            self.add(bound, count);
        }
    }

    /// What was counted since `before`.
    pub(super) fn since(&self, before: Option<&Self>) -> Self {
        let old = |bound| {
            let counts = before.map_or(&[][..], |before| &before.0);
            let same = counts.iter().find(|(known, _)| *known == bound);
            same.map_or(0.0, |(_, count)| *count)
        };
        let new = self.0.iter();
        Self(
            new.map(|&(bound, count)| (bound, count - old(bound)))
                .collect(),
        )
    }

    /// The value below which `share` of all values are; between two bounds it is interpolated.
    /// `None` without values.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last()?.1;
        if total <= 0.0 {
            return None;
        }
        let wanted = total * share;
        let (mut low, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= wanted {
                if bound.is_infinite() {
                    return Some(low);
                }
                let part = (wanted - below) / (count - below).max(f64::MIN_POSITIVE);
                return Some(low + (bound - low) * part.clamp(0.0, 1.0));
            }
            (low, below) = (bound, count);
        }
        Some(low)
    }
}

fn add(counts: &mut Counts, label: String, value: f64) {
    *counts.entry(label).or_default() += value;
}

/// The processor time of the process, all threads.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// The resident memory of the process, in bytes; `None` where there is no `/proc`.
fn memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        let histogram = Histogram(vec![
            (0.1, 0.0),
            (0.2, 8.0),
            (1.0, 10.0),
            (f64::INFINITY, 10.0),
        ]);
        let near = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < 1e-9;
        assert!(near(histogram.quantile(0.4), 0.15));
        assert!(near(histogram.quantile(0.9), 0.6));
        assert!(near(histogram.quantile(1.0), 1.0));
        let beyond = Histogram(vec![(0.1, 0.0), (f64::INFINITY, 4.0)]);
        assert!(near(beyond.quantile(0.5), 0.1));
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(histogram.since(Some(&histogram)).quantile(0.5), None);
    }
}
