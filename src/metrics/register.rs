//! The names of all metrics and what they mean.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;
use super::labels::BuildLabels;

impl Metrics {
    pub(super) fn register_all(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Ended streams by outcome: complete, cancelled or an error code",
            self.requests.clone(),
        );
        registry.register(
            "refusals",
            "Requests that got an error instead of a stream, by error code",
            self.refusals.clone(),
        );
        registry.register(
            "open_streams",
            "Streams that are open now",
            self.open_streams.clone(),
        );
        registry.register(
            "readers",
            "Clients that read a stream which they resumed or did not create",
            self.readers.clone(),
        );
        registry.register(
            "resumes",
            "Requests for an existing stream by result: resumed, complete or an error code",
            self.resumes.clone(),
        );
        registry.register(
            "streams_taken_over",
            "Streams of dead replicas that this replica took over, by outcome: continued or ended",
            self.takeovers.clone(),
        );
        registry.register(
            "repaired_lines",
            "Upstream lines with invalid UTF-8 that was replaced",
            self.repaired_lines.clone(),
        );
        registry.register(
            "skipped_frames",
            "Upstream frames that were left out because they are not JSON, such as keep-alives",
            self.skipped_frames.clone(),
        );
        registry.register(
            "images",
            "Generated images in answers; the native and the Anthropic protocol leave them out",
            self.images.clone(),
        );
        registry.register(
            "trace_spans_dropped",
            "Spans that were not sent: the receiver of traces failed, or was too slow",
            self.dropped_spans.clone(),
        );
        registry.register(
            "token_counts",
            "Answers to clients that asked how many tokens a prompt has, by source: upstream or estimate",
            self.token_counts.clone(),
        );
        registry.register(
            "config_reloads",
            "Reloads of the configuration by outcome: accepted or refused",
            self.reloads.clone(),
        );
        self.register_build(registry);
        self.register_answers(registry);
        self.register_upstreams(registry);
        self.register_limits(registry);
        self.register_store(registry);
        self.register_notifications(registry);
    }

    fn register_build(&self, registry: &mut Registry) {
        let build: Family<BuildLabels, Gauge> = Family::default();
        let labels = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("SLUICEGATE_REVISION").unwrap_or("unknown"),
        };
        build.get_or_create(&labels).set(1);
        registry.register("build_info", "The running version; always 1", build);
    }

    fn register_answers(&self, registry: &mut Registry) {
        registry.register(
            "tokens",
            "Tokens as reported by the upstreams; cached ones are part of the input, reasoning of the output",
            self.tokens.clone(),
        );
        registry.register(
            "streamed_tokens",
            "Tokens of the output of ended streams; estimated from the content if the upstream did not count",
            self.streamed_tokens.clone(),
        );
        registry.register(
            "unread_tokens",
            "Tokens of the output that no client received, of streams that no other replica can read",
            self.unread_tokens.clone(),
        );
        registry.register_with_unit(
            "stream_buffer",
            "Memory of the events that are kept for clients that resume",
            Unit::Bytes,
            self.stream_buffer.clone(),
        );
        registry.register_with_unit(
            "first_token",
            "Time from a request's arrival to its first content",
            Unit::Seconds,
            self.first_token.clone(),
        );
        registry.register_with_unit(
            "output_token",
            "Time per token of the output after the first content",
            Unit::Seconds,
            self.output_token.clone(),
        );
        registry.register_with_unit(
            "stream_duration",
            "Time from a request's arrival to the end of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    fn register_upstreams(&self, registry: &mut Registry) {
        registry.register(
            "upstream_errors",
            "Targets that failed before their first content, by error code",
            self.upstream_errors.clone(),
        );
        registry.register(
            "broken_answers",
            "Answers of upstreams that broke off after their first content, by error code",
            self.broken_answers.clone(),
        );
        self.routing.register(registry);
        registry.register_with_unit(
            "overhead",
            "Time from the end of a client's request until it goes out to the first target",
            Unit::Seconds,
            self.overhead.clone(),
        );
    }

    fn register_limits(&self, registry: &mut Registry) {
        registry.register(
            "limit_refusals",
            "Requests that a limit refused, by the limit's policy",
            self.limit_refusals.clone(),
        );
        registry.register_with_unit(
            "request_memory",
            "Memory that requests occupy until their first content",
            Unit::Bytes,
            self.request_memory.clone(),
        );
        registry.register(
            "connections",
            "Open connections of clients",
            self.connections.clone(),
        );
    }

    fn register_store(&self, registry: &mut Registry) {
        registry.register(
            "store_up",
            "1 if the shared state can be reached, 0 if not; always 1 if the state is in memory",
            self.store_up.clone(),
        );
        registry.register(
            "store_round_trips",
            "Round trips to the shared state",
            self.store_round_trips.clone(),
        );
        registry.register(
            "store_failures",
            "Round trips to the shared state that failed, by cause: timeout, connection or refused",
            self.store_failures.clone(),
        );
        registry.register(
            "limits_without_store",
            "Limit checks that the shared state did not answer, by decision: local or denied",
            self.limited_alone.clone(),
        );
        registry.register(
            "limits_lost_settlements",
            "Settlements of ended streams that the shared state did not get",
            self.settlements_lost.clone(),
        );
    }

    fn register_notifications(&self, registry: &mut Registry) {
        registry.register(
            "listeners",
            "Clients that listen to notifications",
            self.listeners.clone(),
        );
        registry.register(
            "notifications",
            "Notifications that this replica published, by event",
            self.notifications.clone(),
        );
        registry.register(
            "listeners_dropped",
            "Listeners that were dropped because they did not read",
            self.dropped_listeners.clone(),
        );
    }
}
