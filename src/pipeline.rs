//! One answer without a connection: chunks to events to the client's bytes.
//!
//! This is what a stream does with an upstream's bytes, and nothing else: no I/O, no clock, no metrics.
//! So the same input always gives the same output. Goldens, property tests and tools use it; the code
//! behind it is the code that serves.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use crate::dialect::{AnswerInfo, Dialect};
use crate::model::{
    Error, Event, MemberPlace, ReasoningSigner, Request, Sink, StreamId, ToolCallDelta, Usage,
};
use crate::route::{AnsweringTarget, HeldAnswer, Receiver};
use crate::stream::AnswerEncoder;
use crate::upstream::Trace;
use crate::upstream::ingest::Ingest;
use crate::wire::Wire;

/// The default bound on one frame, in bytes.
pub const FRAME_CAP: usize = 16 << 20;

/// The upstream and its model, as the client reads them.
pub const UPSTREAM: (&str, &str) = ("replay", "replayed");

/// Reads a whole answer from `chunks` and hands its events to `sink`. Returns how many lines had invalid
/// UTF-8 that became U+FFFD.
///
/// # Errors
/// What broke the answer; the events before it have been handed over.
pub fn read<'a>(
    wire: &dyn Wire,
    frame_cap: usize,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    sink: &mut dyn Sink,
) -> (u64, Result<(), Error>) {
    read_all(Ingest::new(wire, frame_cap), chunks, sink)
}

/// The result of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineOutput {
    /// The events, one a line, texts as JSON strings; then the error, if the answer broke, and the number of
    /// repaired lines, if there were any.
    pub events: String,
    /// See [`bytes`].
    pub bytes: Bytes,
}

/// The events of the answer in `chunks` and, from the same reading, the client's bytes.
pub fn run<'a>(
    wire: &dyn Wire,
    dialect: &dyn Dialect,
    request: &Request,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> PipelineOutput {
    let mut events = String::new();
    let mut client = Client::new(dialect, request);
    let signer =
        ReasoningSigner::new(wire.name(), UPSTREAM.0).with_members(wire.signature_members());
    let mut held = HeldAnswer::new(FRAME_CAP, Trace::default());
    let mut commit = held.sink(answering(&signer, false), &mut client);
    let ingest = ingest(wire, request);
    let (repaired, outcome) = read_all(ingest, chunks, &mut |event: Event<'_>| {
        events.push_str(&line(&event));
        events.push('\n');
        commit.event(event);
    });
    // Writing to a string cannot fail.
    if let Err(error) = &outcome {
        let (code, message) = (error.code().as_str(), quoted(error.message()));
        let _ = writeln!(events, "error {code} {message}");
    }
    if repaired > 0 {
        let _ = writeln!(events, "repaired lines={repaired}");
    }
    PipelineOutput {
        events,
        bytes: client.close(outcome),
    }
}

/// The bytes for the client of `dialect` that sent `request`. The stream's id, its time and its durations
/// are zero, and the response had begun before the upstream answered.
pub fn bytes<'a>(
    wire: &dyn Wire,
    dialect: &dyn Dialect,
    request: &Request,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Bytes {
    client_bytes(wire, dialect, request, chunks, false)
}

/// The bytes for a client of `dialect` that speaks the wire's own protocol, so that the answer is
/// passed on verbatim.
pub fn verbatim_bytes<'a>(
    wire: &dyn Wire,
    dialect: &dyn Dialect,
    request: &Request,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Bytes {
    client_bytes(wire, dialect, request, chunks, true)
}

/// One event as a line, without a line end.
pub fn line(event: &Event<'_>) -> String {
    match *event {
        Event::Identity {
            id,
            model,
            fingerprint,
        } => {
            let mut out = format!("identity id={} model={}", quoted(id), quoted(model));
            let fingerprint = Some(fingerprint).filter(|name| !name.is_empty());
            add(&mut out, "fingerprint", fingerprint.map(quoted));
            out
        }
        Event::Logprobs(json) => format!("logprobs {json}"),
        Event::NativeMembers { place, json } => match place {
            MemberPlace::Message => format!("members {json}"),
            MemberPlace::Call(call) => format!("members call={call} {json}"),
            MemberPlace::ChoicePiece => format!("members choice_piece {json}"),
            MemberPlace::AnswerPiece => format!("members answer_piece {json}"),
            MemberPlace::Choice => format!("members choice {json}"),
            MemberPlace::Answer => format!("members answer {json}"),
            MemberPlace::Usage => format!("members usage {json}"),
        },
        Event::Text(text) => format!("text {}", quoted(text)),
        Event::Refusal(text) => format!("refusal {}", quoted(text)),
        Event::Reasoning(text) => format!("reasoning {}", quoted(text)),
        Event::Signature(text) => format!("signature {}", quoted(text)),
        Event::EncryptedReasoning(text) => format!("sealed_reasoning {}", quoted(text)),
        Event::ToolCall(call) => tool_call(&call),
        Event::Citation(citation) => {
            let mut out = String::from("citation");
            add(&mut out, "url", citation.url.map(quoted));
            add(&mut out, "title", citation.title.map(quoted));
            add(&mut out, "text", citation.text.map(quoted));
            add(&mut out, "start", citation.start);
            add(&mut out, "end", citation.end);
            out
        }
        Event::Image(url) => format!("image {}", quoted(url)),
        Event::Alternative { index, event } => format!("alternative {index} {}", line(event)),
        Event::Usage(usage) => counts(&usage),
        Event::Finish(reason) => format!("finish {}", reason.as_str()),
    }
}

fn client_bytes<'a>(
    wire: &dyn Wire,
    dialect: &dyn Dialect,
    request: &Request,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    verbatim: bool,
) -> Bytes {
    let mut client = Client::new(dialect, request);
    let signer =
        ReasoningSigner::new(wire.name(), UPSTREAM.0).with_members(wire.signature_members());
    let mut held = HeldAnswer::new(FRAME_CAP, Trace::default());
    let mut commit = held.sink(answering(&signer, verbatim), &mut client);
    let mut ingest = ingest(wire, request);
    if verbatim {
        ingest.pass_frames();
    }
    let (_, outcome) = read_all(ingest, chunks, &mut commit);
    client.close(outcome)
}

fn answering(signer: &ReasoningSigner, verbatim: bool) -> AnsweringTarget<'_> {
    AnsweringTarget {
        upstream: UPSTREAM.0,
        model: UPSTREAM.1,
        signer,
        verbatim,
        changes: &[],
    }
}

/// The reader of the answer to `request`.
fn ingest(wire: &dyn Wire, request: &Request) -> Ingest {
    let mut ingest = Ingest::new(wire, FRAME_CAP);
    if request.answers.is_some() {
        ingest.expect_alternatives();
    }
    let native = request.native_fields.as_ref();
    if native.is_some_and(|native| native.wire == wire.name()) {
        ingest.keep_members();
    }
    ingest
}

fn read_all<'a>(
    mut ingest: Ingest,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    sink: &mut dyn Sink,
) -> (u64, Result<(), Error>) {
    let outcome = feed(&mut ingest, chunks, sink);
    (ingest.repaired_lines(), outcome)
}

fn feed<'a>(
    ingest: &mut Ingest,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    for chunk in chunks {
        ingest.push(chunk, sink)?;
        if ingest.is_finished() {
            return Ok(());
        }
    }
    ingest.end(sink)
}

/// The client of a stream that took no time.
struct Client(AnswerEncoder);

impl Client {
    fn new(dialect: &dyn Dialect, request: &Request) -> Self {
        let info = AnswerInfo {
            stream: StreamId::fixed(0),
            model: request.model.clone(),
            created: 0,
        };
        let stream = info.stream;
        Self(AnswerEncoder::new(stream, dialect.encoder(request, info)))
    }

    fn close(mut self, outcome: Result<(), Error>) -> Bytes {
        if let Err(error) = outcome {
            self.0.fail(&error);
        }
        self.0.take_ready().unwrap_or_default()
    }
}

impl Sink for Client {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Finish(finish) => self.0.complete(finish, Duration::ZERO, Duration::ZERO),
            event => self.0.event(&event),
        }
    }

    fn frame(&mut self, name: &str, data: &str) {
        self.0.frame(name, data);
    }

    fn error_frame(&mut self, name: &str, data: &str) {
        self.0.error_frame(name, data);
    }

    fn whole_document(&mut self, document: &str) {
        self.0.set_document(document);
    }
}

impl Receiver for Client {
    fn begin_answer(&mut self, target: &AnsweringTarget<'_>) {
        self.0.start(target);
    }
}

fn tool_call(call: &ToolCallDelta<'_>) -> String {
    let mut out = format!("tool_call {}", call.index);
    add(&mut out, "id", call.id.map(quoted));
    add(&mut out, "name", call.name.map(quoted));
    add(&mut out, "arguments", Some(quoted(call.arguments)));
    out
}

fn counts(usage: &Usage) -> String {
    let mut out = String::from("usage");
    add(&mut out, "input", usage.input);
    add(&mut out, "output", usage.output);
    add(&mut out, "cached_input", usage.cached_input);
    add(&mut out, "cache_write", usage.cache_write);
    add(&mut out, "reasoning", usage.reasoning);
    out
}

fn add(out: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        // Writing to a string cannot fail.
        let _ = write!(out, " {name}={value}");
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
