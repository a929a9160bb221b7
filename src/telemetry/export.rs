//! Sends finished spans to an OpenTelemetry receiver: OTLP over HTTP with protobuf.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};

use crate::config::{SpanNames, TracingConfig};
use crate::metrics::Metrics;

/// How many finished spans may wait for the receiver; further ones are dropped and counted. The
/// exporter's own queue is as long, so it never drops any.
const MAX_WAITING: usize = 2048;
/// How long the last spans may take when the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Begins spans, and sends those that have ended.
#[derive(Debug)]
pub struct Tracing {
    pub(super) tracer: SdkTracer,
    pub(super) names: SpanNames,
    /// Whether spans have prompts and answers.
    pub(super) content: bool,
    provider: SdkTracerProvider,
}

impl Tracing {
    /// As `OTEL_EXPORTER_OTLP_ENDPOINT` and the other variables of OpenTelemetry's SDKs say; `None` if
    /// none names a receiver. Blocks for a short time.
    ///
    /// # Errors
    /// For a variable with a wrong value, in words.
    pub fn from_environment(
        config: TracingConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, String> {
        let is_set = |name| std::env::var(name).is_ok_and(|value: String| !value.trim().is_empty());
        let is = |name, word| {
            std::env::var(name).is_ok_and(|value: String| value.trim().eq_ignore_ascii_case(word))
        };
        let has_receiver =
            is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        if !has_receiver || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let exporter = OtlpExporter::builder().with_http().build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = CountingExporter {
            exporter,
            waiting: Arc::clone(&waiting),
            metrics: Arc::clone(metrics),
        };
        // The queue must hold all spans that may wait: a span that it drops itself would be counted as waiting for
        // as long as the process runs.
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .build();
        let processor = BoundedProcessor {
            next: BatchSpanProcessor::builder(exporter)
                .with_batch_config(queue)
                .build(),
            waiting,
            metrics: Arc::clone(metrics),
        };
        let resource = match is_set("OTEL_SERVICE_NAME") {
            true => Resource::builder().build(),
            false => Resource::builder().with_service_name("sluicegate").build(),
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        let scope = InstrumentationScope::builder("sluicegate")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Some(Self {
            tracer: provider.tracer_with_scope(scope),
            names: config.names,
            content: config.content,
            provider,
        }))
    }

    /// Sends the spans that wait. Blocks for some seconds at most.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Drops spans while too many wait, so that a slow receiver costs nothing else.
#[derive(Debug)]
struct BoundedProcessor {
    next: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl SpanProcessor for BoundedProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            self.next.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.record_dropped_spans(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Counts the spans that a receiver did not take.
#[derive(Debug)]
struct CountingExporter {
    exporter: OtlpExporter,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if let Err(error) = &result {
            self.metrics.record_dropped_spans(spans as u64);
            tracing::debug!(%error, spans, "the trace receiver did not take spans");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
