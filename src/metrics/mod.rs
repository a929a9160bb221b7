//! The gateway's metrics. Label values come only from the configuration and from fixed lists, so
//! the number of series is bounded: no label holds a key, a user, or a client's text. There is one exception:
//! `breaker_state` names the models that clients asked for by a target with a `*`, once an upstream has
//! answered for them, and at most 1,024 of them (`route/health`).

mod labels;
mod register;
mod routing;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::Usage;
use labels::{
    CauseLabels, CodeLabels, DecisionLabels, DurationLabels, EventLabels, ImageLabels, KeyLabel,
    ModelLabels, PolicyLabels, ReloadLabels, RequestLabels, ResumeLabels, SkipLabels, SourceLabels,
    TakeoverLabels, TargetLabels, TokenLabels, UpstreamLabels,
};

use routing::RoutingMetrics;
pub use routing::{Affinity, HedgeWinner};

/// Seconds to the first content: OpenTelemetry's buckets for generative AI servers.
const FIRST_TOKEN: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Seconds of one token of the output: OpenTelemetry's buckets for generative AI servers.
const OUTPUT_TOKEN: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0,
];
/// Seconds that the gateway itself takes before the first request goes out.
const OVERHEAD: [f64; 10] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0,
];
/// Seconds of a whole answer.
const DURATION: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    /// Whether requests and tokens are counted for each API key.
    has_key_label: AtomicBool,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<CodeLabels, Counter>,
    limit_refusals: Family<PolicyLabels, Counter>,
    request_memory: Gauge,
    connections: Gauge,
    upstream_errors: Family<UpstreamLabels, Counter>,
    routing: RoutingMetrics,
    overhead: Histogram,
    tokens: Family<TokenLabels, Counter>,
    open_streams: Gauge,
    readers: Gauge,
    resumes: Family<ResumeLabels, Counter>,
    takeovers: Family<TakeoverLabels, Counter>,
    first_token: Histograms<TargetLabels>,
    output_token: Histograms<TargetLabels>,
    duration: Histograms<DurationLabels>,
    repaired_lines: Counter,
    skipped_frames: Family<SkipLabels, Counter>,
    images: Family<ImageLabels, Counter>,
    token_counts: Family<SourceLabels, Counter>,
    dropped_spans: Counter,
    reloads: Family<ReloadLabels, Counter>,
    store_up: Gauge,
    store_round_trips: Counter,
    store_failures: Family<CauseLabels, Counter>,
    limited_alone: Family<DecisionLabels, Counter>,
    settlements_lost: Counter,
    listeners: Gauge,
    notifications: Family<EventLabels, Counter>,
    dropped_listeners: Counter,
    streamed_tokens: Family<ModelLabels, Counter>,
    stream_buffer: Gauge,
    broken_answers: Family<UpstreamLabels, Counter>,
    unread_tokens: Family<ModelLabels, Counter>,
}

/// A histogram for each set of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// How one stream ended, for [`Metrics::record_stream_end`].
#[derive(Debug)]
pub struct StreamEnd<'a> {
    pub dialect: &'static str,
    /// The model's name in the configuration.
    pub model: &'a str,
    /// The name of the caller's API key.
    pub key: &'a str,
    /// The upstream that answered; none if no target did.
    pub upstream: Option<&'a str>,
    /// `complete`, `cancelled` or an error's code.
    pub outcome: &'static str,
    pub first_token: Option<Duration>,
    pub duration: Duration,
    pub usage: Option<Usage>,
    /// The tokens of the output: the upstream's count, or an estimate.
    pub output_tokens: u64,
}

/// The result of taking over a stream of a dead replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// This replica continues the answer.
    Continued,
    /// This replica ended it with an error.
    Ended,
}

/// Why a command to the shared state failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFailure {
    /// No answer in time.
    Timeout,
    /// No connection, or a server that takes no writes.
    Connection,
    /// A healthy server refused the command.
    Refused,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sluicegate");
        let metrics = Self {
            has_key_label: AtomicBool::new(false),
            requests: Family::default(),
            refusals: Family::default(),
            limit_refusals: Family::default(),
            request_memory: Gauge::default(),
            connections: Gauge::default(),
            upstream_errors: Family::default(),
            routing: RoutingMetrics::default(),
            overhead: Histogram::new(OVERHEAD),
            tokens: Family::default(),
            open_streams: Gauge::default(),
            readers: Gauge::default(),
            resumes: Family::default(),
            takeovers: Family::default(),
            first_token: Family::new_with_constructor(|| Histogram::new(FIRST_TOKEN)),
            output_token: Family::new_with_constructor(|| Histogram::new(OUTPUT_TOKEN)),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION)),
            repaired_lines: Counter::default(),
            skipped_frames: Family::default(),
            images: Family::default(),
            token_counts: Family::default(),
            dropped_spans: Counter::default(),
            reloads: Family::default(),
            store_up: Gauge::default(),
            store_round_trips: Counter::default(),
            store_failures: Family::default(),
            limited_alone: Family::default(),
            settlements_lost: Counter::default(),
            listeners: Gauge::default(),
            notifications: Family::default(),
            dropped_listeners: Counter::default(),
            streamed_tokens: Family::default(),
            stream_buffer: Gauge::default(),
            broken_answers: Family::default(),
            unread_tokens: Family::default(),
            registry: Registry::default(),
        };
        metrics.register_all(&mut registry);
        // Without a shared state the store is the process's own memory.
        metrics.store_up.set(1);
        Self {
            registry,
            ..metrics
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All metrics in the OpenMetrics text format 1.0.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok(), "a String takes any write");
        text
    }

    /// All metrics in Prometheus' text format 0.0.4, in which a counter has its whole name and there are no
    /// units.
    pub fn text(&self) -> String {
        let open = self.open_metrics();
        let types = open.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let counters: HashSet<&str> = types
            .filter_map(|line| line.strip_suffix(" counter"))
            .collect();
        let mut text = String::with_capacity(open.len());
        for line in open.lines() {
            let mut words = line.splitn(4, ' ');
            let (hash, keyword) = (words.next(), words.next());
            let name = words.next().unwrap_or_default();
            match (hash, keyword) {
                (Some("#"), Some("EOF" | "UNIT")) => continue,
                (Some("#"), Some(keyword)) if counters.contains(name) => {
                    let rest = words.next().unwrap_or_default();
                    text.push_str(&format!("# {keyword} {name}_total {rest}"));
                }
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }

    pub fn record_stream_opened(&self) {
        self.open_streams.inc();
    }

    pub fn record_reader_opened(&self) {
        self.readers.inc();
    }

    pub fn record_reader_closed(&self) {
        self.readers.dec();
    }

    /// A client asked for an existing stream: `resumed`, `complete` or an error code.
    pub fn record_resume(&self, found: &'static str) {
        self.resumes.get_or_create(&ResumeLabels { found }).inc();
    }

    /// This replica took over a stream of a dead replica.
    pub fn record_takeover(&self, takeover: Takeover) {
        let outcome = match takeover {
            Takeover::Continued => "continued",
            Takeover::Ended => "ended",
        };
        let labels = TakeoverLabels { outcome };
        self.takeovers.get_or_create(&labels).inc();
    }

    pub fn record_stream_end(&self, end: &StreamEnd<'_>) {
        self.open_streams.dec();
        self.requests
            .get_or_create(&RequestLabels {
                dialect: end.dialect,
                model: end.model.to_owned(),
                outcome: end.outcome,
                key: self.key_label(end),
            })
            .inc();
        let labels = DurationLabels {
            model: end.model.to_owned(),
            outcome: end.outcome,
        };
        let duration = self.duration.get_or_create(&labels);
        duration.observe(end.duration.as_secs_f64());
        let model = end.model.to_owned();
        let tokens = self.streamed_tokens.get_or_create(&ModelLabels { model });
        tokens.inc_by(end.output_tokens);
        if let Some(upstream) = end.upstream {
            self.record_answer(end, upstream);
        }
    }

    /// Whether requests and tokens are counted for each API key from here on.
    pub fn set_key_label(&self, on: bool) {
        self.has_key_label.store(on, Ordering::Relaxed);
    }

    fn key_label(&self, end: &StreamEnd<'_>) -> KeyLabel {
        let has_label = self.has_key_label.load(Ordering::Relaxed);
        KeyLabel(has_label.then(|| end.key.to_owned()))
    }

    /// What an upstream's answer took and counted.
    fn record_answer(&self, end: &StreamEnd<'_>, upstream: &str) {
        let usage = end.usage.unwrap_or_default();
        let later = usage.output.map(|tokens| tokens.saturating_sub(1));
        if let (Some(first), Some(later @ 1..)) = (end.first_token, later) {
            let taken = end.duration.saturating_sub(first);
            let target = TargetLabels {
                model: end.model.to_owned(),
                upstream: upstream.to_owned(),
            };
            let times = self.output_token.get_or_create(&target);
            times.observe(taken.as_secs_f64() / later as f64);
        }
        for (kind, count) in [
            ("input", usage.input),
            ("output", usage.output),
            ("cached", usage.cached_input),
            ("reasoning", usage.reasoning),
        ] {
            if let Some(count) = count {
                let labels = TokenLabels {
                    model: end.model.to_owned(),
                    upstream: upstream.to_owned(),
                    kind,
                    key: self.key_label(end),
                };
                self.tokens.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// The first content of a stream arrived, so long after its request.
    pub fn record_first_token(&self, model: &str, upstream: &str, taken: Duration) {
        let target = TargetLabels {
            model: model.to_owned(),
            upstream: upstream.to_owned(),
        };
        let times = self.first_token.get_or_create(&target);
        times.observe(taken.as_secs_f64());
    }

    /// The gateway's own time before the first request goes out.
    pub fn record_overhead(&self, taken: Duration) {
        self.overhead.observe(taken.as_secs_f64());
    }

    pub fn record_refusal(&self, code: &'static str) {
        self.refusals.get_or_create(&CodeLabels { code }).inc();
    }

    /// A limit refused a request.
    pub fn record_limit_refusal(&self, policy: &'static str) {
        self.limit_refusals
            .get_or_create(&PolicyLabels { policy })
            .inc();
    }

    pub fn set_connections(&self, count: usize) {
        self.connections
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn add_request_memory(&self, bytes: usize) {
        self.request_memory
            .inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn subtract_request_memory(&self, bytes: usize) {
        self.request_memory
            .dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn record_upstream_error(&self, upstream: &str, code: &'static str) {
        let upstream = upstream.to_owned();
        self.upstream_errors
            .get_or_create(&UpstreamLabels { upstream, code })
            .inc();
    }

    /// An upstream's answer broke off after its first content.
    pub fn record_broken_answer(&self, upstream: &str, code: &'static str) {
        let upstream = upstream.to_owned();
        self.broken_answers
            .get_or_create(&UpstreamLabels { upstream, code })
            .inc();
    }

    pub fn record_repaired_lines(&self, lines: u64) {
        self.repaired_lines.inc_by(lines);
    }

    pub fn record_skipped_frames(&self, upstream: &str, frames: u64) {
        let upstream = upstream.to_owned();
        self.skipped_frames
            .get_or_create(&SkipLabels { upstream })
            .inc_by(frames);
    }

    pub fn record_image(&self, dialect: &'static str) {
        self.images.get_or_create(&ImageLabels { dialect }).inc();
    }

    /// Spans that the receiver of traces did not take, or that found too many waiting.
    pub fn record_dropped_spans(&self, spans: u64) {
        self.dropped_spans.inc_by(spans);
    }

    /// The gateway answered how many tokens a prompt has.
    pub fn record_token_count(&self, estimated: bool) {
        let source = if estimated { "estimate" } else { "upstream" };
        self.token_counts
            .get_or_create(&SourceLabels { source })
            .inc();
    }

    pub fn record_reload(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }

    pub fn set_store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    pub fn record_store_round_trip(&self) {
        self.store_round_trips.inc();
    }

    pub fn record_store_failure(&self, failure: StoreFailure) {
        let cause = match failure {
            StoreFailure::Timeout => "timeout",
            StoreFailure::Connection => "connection",
            StoreFailure::Refused => "refused",
        };
        self.store_failures
            .get_or_create(&CauseLabels { cause })
            .inc();
    }

    /// The shared state did not answer a limit check.
    pub fn record_limit_without_store(&self, denied: bool) {
        let decision = if denied { "denied" } else { "local" };
        self.limited_alone
            .get_or_create(&DecisionLabels { decision })
            .inc();
    }

    /// No client received these tokens of a stream's output.
    pub fn record_unread_tokens(&self, model: &str, tokens: u64) {
        let model = model.to_owned();
        self.unread_tokens
            .get_or_create(&ModelLabels { model })
            .inc_by(tokens);
    }

    pub fn set_stream_buffer(&self, bytes: usize) {
        self.stream_buffer
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn set_listeners(&self, count: usize) {
        self.listeners.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn record_notification(&self, event: &'static str) {
        self.notifications
            .get_or_create(&EventLabels { event })
            .inc();
    }

    pub fn record_dropped_listener(&self) {
        self.dropped_listeners.inc();
    }

    pub fn record_lost_settlements(&self, count: u64) {
        self.settlements_lost.inc_by(count);
    }
}
