//! The spans of one request: one for the request itself, and one below it for each try of a target.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::content::output_message;
use super::context::TraceContext;
use super::export::Tracing;
use super::facts::StreamFacts;
use super::names::{self, Attribute};

static PROPAGATOR: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);

/// Dropping it without [`RequestSpans::end`] ends the spans without more attributes.
#[derive(Debug)]
pub(super) struct RequestSpans {
    tracing: Arc<Tracing>,
    /// Of the request: kind SERVER.
    request: Context,
    /// The messages of the request, if contents are wanted.
    input: Option<String>,
    /// Of the attempts that have not ended, with their numbers: kind CLIENT.
    attempts: Vec<(usize, Context)>,
}

/// What the span of a request says at its end.
pub(super) struct RequestFacts<'a> {
    pub(super) request: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) attempts: Option<String>,
    pub(super) outcome: &'static str,
    pub(super) status: Option<u16>,
    pub(super) stream: Option<&'a StreamFacts>,
}

impl RequestSpans {
    /// Begins the span of a request, below the client's span where its headers name one.
    pub(super) fn begin(
        tracing: &Arc<Tracing>,
        dialect: &'static str,
        headers: &HeaderMap,
    ) -> Self {
        let parent = PROPAGATOR.extract_with_context(&Context::new(), &Headers(headers));
        let span = tracing
            .tracer
            .span_builder(dialect)
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("sluicegate.dialect", dialect)])
            .start_with_context(&tracing.tracer, &parent);
        Self {
            tracing: Arc::clone(tracing),
            request: parent.with_span(span),
            input: None,
            attempts: Vec::new(),
        }
    }

    pub(super) fn wants_content(&self) -> bool {
        self.tracing.content
    }

    pub(super) fn set_input(&mut self, messages: String) {
        self.input = Some(messages);
    }

    /// 32 hexadecimal digits.
    pub(super) fn trace_id(&self) -> String {
        self.request.span().span_context().trace_id().to_string()
    }

    /// Begins the span of a try, and returns the trace headers of its request.
    pub(super) fn begin_attempt(
        &mut self,
        number: usize,
        upstream: &str,
        provider: &'static str,
        model: &str,
    ) -> TraceContext {
        let tracer = &self.tracing.tracer;
        let span = tracer
            .span_builder(format!("chat {model}"))
            .with_kind(SpanKind::Client)
            .start_with_context(tracer, &self.request);
        let attempt = self.request.with_span(span);
        self.set(&attempt, names::OPERATION, "chat");
        self.set(&attempt, names::PROVIDER, provider);
        self.set(&attempt, names::REQUEST_MODEL, model.to_owned());
        let upstream = KeyValue::new("sluicegate.upstream", upstream.to_owned());
        attempt.span().set_attribute(upstream);
        let mut headers = HeaderMap::new();
        PROPAGATOR.inject_context(&attempt, &mut HeadersMut(&mut headers));
        self.attempts.push((number, attempt));
        TraceContext::from_headers(&headers)
    }

    /// The attempt's target failed, or lost to a faster one.
    pub(super) fn end_attempt(&mut self, number: usize, outcome: &str) {
        let Some(place) = self.attempts.iter().position(|(known, _)| *known == number) else {
            return;
        };
        let (_, attempt) = self.attempts.swap_remove(place);
        let span = attempt.span();
        if outcome == "hedged" {
            let outcome = KeyValue::new("sluicegate.outcome", outcome.to_owned());
            span.set_attribute(outcome);
        } else {
            span.set_attribute(KeyValue::new("error.type", outcome.to_owned()));
            if let Ok(status) = outcome.parse::<i64>() {
                span.set_attribute(KeyValue::new("http.response.status_code", status));
            }
            span.set_status(Status::error(outcome.to_owned()));
        }
        span.end();
    }

    /// The attempt's target was not asked after all.
    pub(super) fn discard_attempt(&mut self, number: usize) {
        self.attempts.retain(|(known, _)| *known != number);
    }

    /// Ends the spans. The tokens are those of the attempt that answered, so that they are counted once in
    /// a trace.
    pub(super) fn end(&mut self, facts: &RequestFacts<'_>) {
        let is_failure = !matches!(facts.outcome, "complete" | "cancelled");
        if let Some((_, attempt)) = self.attempts.pop() {
            if let Some(stream) = facts.stream {
                self.set_stream(&attempt, stream);
            }
            if let Some(messages) = self.input.take() {
                self.set(&attempt, names::INPUT_MESSAGES, messages);
            }
            if is_failure {
                let kind = KeyValue::new("error.type", facts.outcome);
                attempt.span().set_attribute(kind);
                attempt.span().set_status(Status::error(facts.outcome));
            }
            attempt.span().end();
        }
        let span = self.request.span();
        let texts = [
            ("sluicegate.request_id", Some(facts.request)),
            ("sluicegate.key", facts.key),
            ("sluicegate.model", facts.model),
            ("sluicegate.attempts", facts.attempts.as_deref()),
            ("sluicegate.outcome", Some(facts.outcome)),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                span.set_attribute(KeyValue::new(name, text.to_owned()));
            }
        }
        if let Some(status) = facts.status {
            let status = i64::from(status);
            span.set_attribute(KeyValue::new("http.response.status_code", status));
        }
        // A refusal of the client's own request is no error of a server.
        let is_clients = facts
            .status
            .is_some_and(|status| (400..500).contains(&status));
        if is_failure {
            span.set_attribute(KeyValue::new("error.type", facts.outcome));
            if !is_clients {
                span.set_status(Status::error(facts.outcome));
            }
        }
        span.end();
    }

    fn set_stream(&self, attempt: &Context, stream: &StreamFacts) {
        let usage = stream.usage.unwrap_or_default();
        for (attribute, count) in [
            (names::INPUT, usage.input),
            (names::OUTPUT, usage.output),
            (names::CACHE_READ, usage.cached_input),
            (names::CACHE_WRITE, usage.cache_write),
            (names::REASONING, usage.reasoning),
        ] {
            if let Some(count) = count.and_then(|count| i64::try_from(count).ok()) {
                self.set(attempt, attribute, count);
            }
        }
        if let Some(first) = stream.first_token {
            self.set(attempt, names::FIRST_CHUNK, first.as_secs_f64());
        }
        if let Some(text) = &stream.text {
            let messages = output_message(text, stream.finish);
            self.set(attempt, names::OUTPUT_MESSAGES, messages);
        }
        if let Some(finish) = stream.finish {
            let list = vec![StringValue::from(finish)];
            self.set(
                attempt,
                names::FINISH_REASONS,
                Value::Array(Array::String(list)),
            );
        }
    }

    fn set(&self, context: &Context, attribute: Attribute, value: impl Into<Value>) {
        let value = value.into();
        for name in attribute.names(self.tracing.names) {
            context
                .span()
                .set_attribute(KeyValue::new(name, value.clone()));
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, name: &str, value: String) {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
