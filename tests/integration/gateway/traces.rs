//! Traces and the access log of the real binary.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use rustix::process::Signal;

use super::client::ClientRequest;
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::ScriptedUpstream;

const CLIENTS_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENTS_SPAN: &str = "b7ad6b7169203331";

fn config(upstreams: &[&ScriptedUpstream], settings: &str) -> TemporaryFile {
    let mut declared = String::new();
    let mut targets = String::new();
    for (at, upstream) in upstreams.iter().enumerate() {
        let addr = upstream.addr();
        declared += &format!("  u{at}: {{ wire: openai-chat, base_url: 'http://{addr}/v1' }}\n");
        targets += &format!("{{ upstream: u{at}, model: m{at}, priority: {at} }}, ");
    }
    TemporaryFile::new(&format!(
        "upstreams:\n{declared}models:\n  m: {{ targets: [ {targets} ], retry: off }}\n{settings}\n"
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a Any> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

fn text(span: &Span, name: &str) -> Option<String> {
    match attribute(span, name)? {
        Any::StringValue(text) => Some(text.clone()),
        other => panic!("{name}: {other:?}"),
    }
}

fn number(span: &Span, name: &str) -> Option<i64> {
    match attribute(span, name)? {
        Any::IntValue(number) => Some(*number),
        other => panic!("{name}: {other:?}"),
    }
}

/// Asks once: the first upstream refuses, the second answers. Returns the spans, the trace headers that
/// the upstreams got, the headers that the receiver got, and the access-log line.
async fn observe(
    settings: &str,
    environment: &[(&str, &str)],
) -> (Vec<Span>, [String; 2], String, serde_json::Value) {
    let (first, second) = (
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    );
    let receiver = ScriptedUpstream::bind().await;
    let config = config(&[&first, &second], settings);
    let endpoint = format!("http://{}/api/otel", receiver.addr());
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    variables.extend(environment);
    let mut gateway = GatewayProcess::start(&config, &variables).await;
    let traceparent = format!("00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01");
    let request = ClientRequest::prompt("m").header("traceparent", &traceparent);
    let answering = async {
        let mut refused = first.request().await;
        refused
            .answer(429, "", r#"{"error":{"message":"slow down"}}"#)
            .await;
        let mut answered = second.request().await;
        answered.begin().await;
        answered.token("Hi").await;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
        answered.chunk(format!("data: {usage}\n\n")).await;
        answered.finish().await;
        [refused.head, answered.head]
    };
    let (mut answer, heads) = tokio::join!(gateway.ask(&request), answering);
    let attempts = answer.header("x-sluicegate-attempts").to_owned();
    assert_eq!(attempts, "u0/m0=429,u1/m1=ok");
    answer.body().await;
    let line = gateway.program.wait_for_log("request ended").await;
    gateway.program.signal(Signal::TERM);
    let mut export = receiver.request().await;
    export
        .answer(200, "content-type: application/x-protobuf\r\n", "")
        .await;
    let exported = ExportTraceServiceRequest::decode(&*export.body).unwrap();
    let scopes = exported
        .resource_spans
        .into_iter()
        .flat_map(|spans| spans.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans).collect();
    let contexts = heads.map(|head| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("traceparent: "));
        line.unwrap().to_owned()
    });
    assert!(
        export.head.starts_with("post /api/otel/v1/traces "),
        "{}",
        export.head
    );
    (spans, contexts, export.head.clone(), line)
}

#[tokio::test]
async fn a_request_is_a_span_and_each_try_a_span_below_it() {
    let headers = "Authorization=Basic%20cGs6c2s=,x-langfuse-ingestion-version=4";
    let environment = [("OTEL_EXPORTER_OTLP_HEADERS", headers)];
    let (spans, contexts, head, line) = observe("", &environment).await;
    assert!(head.contains("authorization: basic cgs6c2s="), "{head}");
    assert!(head.contains("x-langfuse-ingestion-version: 4"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );

    assert_eq!(spans.len(), 3, "{spans:#?}");
    let of_kind = |kind: SpanKind| spans.iter().filter(move |span| span.kind == kind as i32);
    let server = of_kind(SpanKind::Server).next().unwrap();
    assert_eq!(hex(&server.trace_id), CLIENTS_TRACE);
    assert_eq!(hex(&server.parent_span_id), CLIENTS_SPAN);
    assert_eq!(text(server, "sluicegate.outcome").unwrap(), "complete");
    assert_eq!(number(server, "http.response.status_code"), Some(200));
    assert_eq!(number(server, "gen_ai.usage.input_tokens"), None);

    let tries: Vec<_> = of_kind(SpanKind::Client).collect();
    let find = |upstream: &str| {
        let mut tries = tries.iter();
        let is = |span: &&&Span| text(span, "sluicegate.upstream").as_deref() == Some(upstream);
        *tries.find(is).unwrap()
    };
    let (refused, answered) = (find("u0"), find("u1"));
    for (span, context) in [(refused, &contexts[0]), (answered, &contexts[1])] {
        assert_eq!(span.parent_span_id, server.span_id);
        let sent = format!("00-{CLIENTS_TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(*context, sent, "the upstream continues the span of its try");
        assert_eq!(text(span, "gen_ai.operation.name").unwrap(), "chat");
        assert_eq!(text(span, "gen_ai.provider.name").unwrap(), "openai");
    }
    assert_eq!(text(refused, "error.type").unwrap(), "429");
    assert_eq!(number(refused, "gen_ai.usage.input_tokens"), None);
    assert_eq!(text(answered, "gen_ai.request.model").unwrap(), "m1");
    assert_eq!(number(answered, "gen_ai.usage.input_tokens"), Some(5));
    assert_eq!(number(answered, "gen_ai.usage.output_tokens"), Some(2));
    assert!(attribute(answered, "gen_ai.response.time_to_first_chunk").is_some());
    assert!(attribute(answered, "gen_ai.system").is_none());
    assert!(attribute(answered, "error.type").is_none());

    assert_eq!(line["trace_id"], CLIENTS_TRACE);
    for (field, expected) in [
        ("model", "m"),
        ("upstream", "u1"),
        ("upstream_model", "m1"),
        ("outcome", "complete"),
        ("finish_reason", "stop"),
        ("attempts", "u0/m0=429,u1/m1=ok"),
        ("dialect", "native"),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
    for (field, expected) in [("status", 200), ("input_tokens", 5), ("output_tokens", 2)] {
        assert_eq!(line[field], expected, "{field}");
    }
    for field in ["request_id", "first_token_ms", "duration_ms", "bytes"] {
        assert!(!line[field].is_null(), "{field}: {line}");
    }
}

#[tokio::test]
async fn the_config_chooses_the_names_of_attributes() {
    let (spans, ..) = observe("tracing: { semconv: both }", &[]).await;
    let tries = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Client as i32);
    for span in tries {
        assert_eq!(
            text(span, "gen_ai.provider.name"),
            text(span, "gen_ai.system")
        );
        assert!(attribute(span, "gen_ai.system").is_some());
    }
}

#[tokio::test]
async fn a_receiver_that_fails_costs_spans_and_nothing_else() {
    let upstream = ScriptedUpstream::bind().await;
    let receiver = ScriptedUpstream::bind().await;
    let config = config(&[&upstream], "");
    let endpoint = format!("http://{}/traces", receiver.addr());
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let gateway = GatewayProcess::start(&config, &variables).await;
    let request = ClientRequest::prompt("m");
    let answering = async {
        let mut answered = upstream.request().await;
        answered.begin().await;
        answered.token("Hi").await;
        answered.finish().await;
    };
    let (mut answer, ()) = tokio::join!(gateway.ask(&request), answering);
    let body = String::from_utf8(answer.body().await).unwrap();
    assert!(body.contains("event: complete"), "{body}");
    receiver.request().await.answer(400, "", "no").await;
    let dropped = "sluicegate_trace_spans_dropped_total";
    while gateway.metric(dropped).await == 0.0 {
        // The next batch, if the first one had only one of the two spans.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_refusal_has_one_line_too() {
    let upstream = ScriptedUpstream::bind().await;
    let config = config(&[&upstream], "");
    let mut gateway = GatewayProcess::start(&config, &[]).await;
    let request = ClientRequest::prompt("unknown").header("x-request-id", "req-1");
    assert_eq!(gateway.ask(&request).await.status(), 404);
    let line = gateway.program.wait_for_log("request ended").await;
    assert_eq!(line["request_id"], "req-1");
    assert_eq!(line["outcome"], "not_found");
    assert_eq!(line["status"], 404);
    assert_eq!(line["key"], "anonymous");
    let traceparent = format!("00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01");
    let models = ClientRequest::new("GET", "/v1/models").header("traceparent", &traceparent);
    assert_eq!(gateway.ask(&models).await.status(), 200);
    let line = gateway.program.wait_for_log("request ended").await;
    assert_eq!(line["trace_id"], CLIENTS_TRACE);
    assert_eq!(line["outcome"], "complete");
    assert_eq!(line["key"], "anonymous");
    gateway.program.signal(Signal::TERM);
    let log = gateway.program.ended().await.err;
    assert_eq!(log.matches("request ended").count(), 2, "{log}");
}

#[tokio::test]
async fn the_log_level_can_be_changed() {
    let upstream = ScriptedUpstream::bind().await;
    let config = config(&[&upstream], "");
    let gateway = GatewayProcess::start(&config, &[]).await;
    let change = |filter: &str| ClientRequest {
        body: filter.as_bytes().to_vec(),
        ..ClientRequest::new("PUT", "/log-level")
    };
    let ask = async |asked: ClientRequest| {
        let mut client = crate::raw_client::RawClient::connect(gateway.admin)
            .await
            .unwrap();
        asked.send(&mut client).await;
        let head = client.head().await.unwrap();
        let mut answer = super::client::Answer::new(head, client);
        let body = String::from_utf8(answer.body().await).unwrap();
        (answer.status(), body)
    };
    let (status, body) = ask(change("warn,sluicegate::route=debug")).await;
    assert_eq!(status, 200, "{body}");
    let (_, body) = ask(ClientRequest::new("GET", "/log-level")).await;
    assert!(body.contains("sluicegate::route=debug"), "{body}");
    let (status, body) = ask(change("=[")).await;
    assert_eq!(status, 400, "{body}");
    // A refusal is logged as `info`, which is off now.
    assert_eq!(
        gateway
            .ask(&ClientRequest::prompt("unknown"))
            .await
            .status(),
        404
    );
    gateway.program.signal(Signal::TERM);
    let log = gateway.program.ended().await.err;
    assert!(log.contains("the log level was changed"), "{log}");
    assert!(!log.contains("request ended"), "{log}");
}

#[tokio::test]
async fn contents_are_in_spans_only_if_the_config_wants_them() {
    for (settings, wanted) in [("", false), ("tracing: { content: on }", true)] {
        let (spans, ..) = observe(settings, &[]).await;
        let texts = |name| spans.iter().filter_map(move |span| text(span, name));
        let input: Vec<_> = texts("gen_ai.input.messages").collect();
        let output: Vec<_> = texts("gen_ai.output.messages").collect();
        assert_eq!(
            (input.len(), output.len()),
            (usize::from(wanted), usize::from(wanted))
        );
        assert!(
            output
                .iter()
                .all(|output| output.contains(r#""content":"Hi""#)),
            "{output:?}"
        );
        assert!(
            input.iter().all(|input| input.contains(r#""role":"user""#)),
            "{input:?}"
        );
    }
}
