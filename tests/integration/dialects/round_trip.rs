//! What an encoder writes, the wire of the same protocol reads back: whatever an upstream of any
//! other protocol said, and in whatever order. What a protocol has no place for is in its
//! [`Protocol::keeps`].

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;
use sluicegate::dialect::AnswerInfo;
use sluicegate::model::{
    Citation, Event, FinishReason, Grammar, ReasoningSigner, Request, StreamId, ToolCallDelta,
    Usage, Vendor,
};
use sluicegate::pipeline;
use sluicegate::route::AnsweringTarget;
use sluicegate::stream::AnswerEncoder;
use sluicegate::wire;

use super::dialect;

/// A protocol that is both a dialect and a wire.
struct Protocol {
    path: &'static str,
    wire: &'static str,
    /// What is left of an answer when it went through.
    keeps: fn(Gist) -> Gist,
    /// What is left of the order in a whole answer.
    orders: fn(&mut Gist),
}

const ANTHROPIC: Protocol = Protocol {
    path: "/v1/messages",
    wire: "anthropic-messages",
    keeps: |mut gist| {
        for said in &mut gist.said {
            // The words of a refusal are text; the finish tells what they are.
            if let Said::Refusal(text) = said {
                *said = Said::Text(std::mem::take(text));
            }
        }
        gist.finish = gist.finish.map(|finish| match finish {
            FinishReason::Stop | FinishReason::Other if !gist.calls.is_empty() => {
                FinishReason::ToolCalls
            }
            FinishReason::ContentFilter => FinishReason::Refusal,
            finish => finish,
        });
        gist
    },
    // A whole text has its citations behind it.
    orders: Gist::citations_last,
};

const OPENAI_CHAT: Protocol = Protocol {
    path: "/v1/chat/completions",
    wire: "openai-chat",
    keeps: |mut gist| {
        // Seals have no place in it, nor have sources without an address.
        gist.said.retain(|said| match said {
            Said::Signature(_) | Said::Sealed(_) => false,
            Said::Cited { url, .. } => url.is_some(),
            _ => true,
        });
        let refused = gist.said.iter().any(|s| matches!(s, Said::Refusal(_)));
        gist.finish = gist.finish.map(|finish| match finish {
            // There is a place for the words of a refusal, and no finish for one without.
            FinishReason::Refusal if !refused => FinishReason::ContentFilter,
            FinishReason::Stop | FinishReason::Refusal => match refused {
                true => FinishReason::Refusal,
                false => FinishReason::Stop,
            },
            FinishReason::Other if !gist.calls.is_empty() => FinishReason::ToolCalls,
            FinishReason::Pause => FinishReason::Other,
            finish => finish,
        });
        // Counts that nobody said are 0 in it.
        gist.usage.cached_input.get_or_insert(0);
        gist.usage.reasoning.get_or_insert(0);
        gist
    },
    // A message has one of each.
    orders: Gist::by_kind,
};

const RESPONSES: Protocol = Protocol {
    path: "/v1/responses",
    wire: "openai-responses",
    keeps: |mut gist| {
        // An annotation names its source, and the source's own words have no place in it.
        gist.said.retain(|said| match said {
            Said::Cited { url, title, .. } => url.is_some() || title.is_some(),
            _ => true,
        });
        for said in &mut gist.said {
            if let Said::Cited { text, .. } = said {
                *text = None;
            }
        }
        let refused = gist
            .said
            .iter()
            .any(|said| matches!(said, Said::Refusal(_)));
        gist.finish = gist.finish.map(|finish| match finish {
            FinishReason::Length | FinishReason::ContentFilter => finish,
            _ if refused => FinishReason::Refusal,
            _ if !gist.calls.is_empty() => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        });
        let usage = &mut gist.usage;
        for count in [
            &mut usage.cached_input,
            &mut usage.cache_write,
            &mut usage.reasoning,
        ] {
            *count = Some(count.unwrap_or(0));
        }
        gist
    },
    // A whole text has its citations behind it.
    orders: Gist::citations_last,
};

/// An event that is no tool call's, kept.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(String),
    Refusal(String),
    Reasoning(String),
    Signature(String),
    Sealed(String),
    Cited {
        url: Option<String>,
        title: Option<String>,
        text: Option<String>,
    },
}

/// An answer: what is said, the pieces of each call's arguments, and whose piece comes when.
#[derive(Debug, Clone)]
struct Answer {
    said: Vec<Said>,
    calls: Vec<Vec<String>>,
    turns: Vec<usize>,
    usage: Usage,
    finish: FinishReason,
}

/// An answer without what an encoder may change: where a text is cut, and what stands between the
/// pieces of a call.
#[derive(Debug, Clone, Default, PartialEq)]
struct Gist {
    said: Vec<Said>,
    /// Ids, names and arguments.
    calls: Vec<[String; 3]>,
    usage: Usage,
    finish: Option<FinishReason>,
}

proptest! {
    #[test]
    fn a_stream_of_messages_reads_back(answer in answer()) {
        reads_back(&ANTHROPIC, &answer, true)?;
    }

    #[test]
    fn a_whole_message_reads_back(answer in answer()) {
        reads_back(&ANTHROPIC, &answer, false)?;
    }

    #[test]
    fn chunks_read_back(answer in answer()) {
        reads_back(&OPENAI_CHAT, &answer, true)?;
    }

    #[test]
    fn a_whole_chat_completion_reads_back(answer in answer()) {
        reads_back(&OPENAI_CHAT, &answer, false)?;
    }

    #[test]
    fn a_stream_of_a_response_reads_back(answer in answer()) {
        reads_back(&RESPONSES, &answer, true)?;
    }

    #[test]
    fn a_whole_response_reads_back(answer in answer()) {
        reads_back(&RESPONSES, &answer, false)?;
    }
}

fn reads_back(protocol: &Protocol, answer: &Answer, streamed: bool) -> Result<(), TestCaseError> {
    let wire = wire::by_name(protocol.wire).expect("a wire of that name");
    let bytes = encoded(protocol, answer, streamed);
    let text = std::str::from_utf8(&bytes).expect("text");
    let mut read = Gist::default();
    let outcome = if streamed {
        let sink = &mut |event: Event<'_>| read.add(&event);
        pipeline::read(wire, pipeline::FRAME_CAP, [&bytes[..]], sink).1
    } else {
        let mut sink = |event: Event<'_>| read.add(&event);
        let mut grammar = Grammar::default();
        let mut checked = grammar.check(&mut sink);
        wire.decoder(&Vendor::PLAIN).document(text, &mut checked)
    };
    prop_assert!(outcome.is_ok(), "{outcome:?}: {text}");
    for said in &mut read.said {
        if let Said::Signature(seal) | Said::Sealed(seal) = said {
            prop_assert!(seal.starts_with(signer().origin_tag()), "{}", text);
            *seal = seal.replace(signer().origin_tag(), "");
        }
    }
    let mut sent = Gist::default();
    for_each(answer, &mut |event| sent.add(&event));
    let mut expected = (protocol.keeps)(sent).joined();
    expected.correct_finish();
    let mut read = read.joined();
    if !streamed {
        (protocol.orders)(&mut expected);
        (protocol.orders)(&mut read);
    }
    prop_assert_eq!(read, expected, "{}", text);
    Ok(())
}

fn encoded(protocol: &Protocol, answer: &Answer, streamed: bool) -> Vec<u8> {
    let request = Request {
        model: "m".to_owned(),
        stream: streamed,
        usage_wanted: true,
        ..Request::default()
    };
    let info = AnswerInfo {
        stream: StreamId::fixed(0),
        model: "m".to_owned(),
        created: 0,
    };
    let mut encoder = AnswerEncoder::new(
        StreamId::fixed(0),
        dialect(protocol.path).encoder(&request, info),
    );
    encoder.start(&AnsweringTarget {
        upstream: "upstream",
        model: "model",
        signer: &signer(),
        verbatim: false,
        changes: &[],
    });
    for_each(answer, &mut |event| match event {
        Event::Finish(finish) => encoder.complete(finish, Duration::ZERO, Duration::ZERO),
        event => encoder.event(&event),
    });
    encoder.take_ready().expect("an answer").to_vec()
}

fn signer() -> ReasoningSigner {
    ReasoningSigner::new("wire", "vendor")
}

/// The answer's events: what is said and the calls take turns, each in its own order.
fn for_each(answer: &Answer, sink: &mut dyn FnMut(Event<'_>)) {
    let mut said = answer.said.iter();
    let mut calls: Vec<_> = answer.calls.iter().map(|pieces| pieces.iter()).collect();
    let mut indexes: Vec<Option<u32>> = vec![None; calls.len()];
    let mut begun = 0;
    let mut turns = answer.turns.iter().copied();
    loop {
        let lefts: Vec<usize> = (0..=calls.len())
            .filter(|track| match track.checked_sub(1) {
                None => said.len() > 0,
                Some(call) => calls[call].len() > 0,
            })
            .collect();
        if lefts.is_empty() {
            break;
        }
        let track = lefts[turns.next().unwrap_or(0) % lefts.len()];
        let Some(at) = track.checked_sub(1) else {
            sink(said.next().expect("something left").event());
            continue;
        };
        let arguments = calls[at].next().expect("a piece left");
        let first = indexes[at].is_none();
        let index = *indexes[at].get_or_insert_with(|| {
            begun += 1;
            begun - 1
        });
        let (id, name) = (format!("call_{at}"), format!("tool_{at}"));
        sink(Event::ToolCall(ToolCallDelta {
            index,
            id: first.then_some(&id),
            name: first.then_some(&name),
            arguments,
        }));
    }
    sink(Event::Usage(answer.usage));
    sink(Event::Finish(answer.finish));
}

impl Said {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Text(text) => Event::Text(text),
            Self::Refusal(text) => Event::Refusal(text),
            Self::Reasoning(text) => Event::Reasoning(text),
            Self::Signature(text) => Event::Signature(text),
            Self::Sealed(text) => Event::EncryptedReasoning(text),
            Self::Cited { url, title, text } => Event::Citation(Citation {
                url: url.as_deref(),
                title: title.as_deref(),
                text: text.as_deref(),
                ..Citation::default()
            }),
        }
    }
}

impl Gist {
    /// The grammar of events tells these two finishes apart by whether there are calls.
    fn correct_finish(&mut self) {
        self.finish = match self.finish {
            Some(FinishReason::Stop) if !self.calls.is_empty() => Some(FinishReason::ToolCalls),
            Some(FinishReason::ToolCalls) if self.calls.is_empty() => Some(FinishReason::Stop),
            finish => finish,
        };
    }

    fn add(&mut self, event: &Event<'_>) {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        match *event {
            Event::Identity { .. } => {}
            Event::Text(text) => self.said.push(Said::Text(text.to_owned())),
            Event::Refusal(text) => self.said.push(Said::Refusal(text.to_owned())),
            Event::Reasoning(text) => self.said.push(Said::Reasoning(text.to_owned())),
            Event::Signature(text) => self.said.push(Said::Signature(text.to_owned())),
            Event::EncryptedReasoning(text) => self.said.push(Said::Sealed(text.to_owned())),
            Event::Citation(citation) => self.said.push(Said::Cited {
                url: owned(citation.url),
                title: owned(citation.title),
                text: owned(citation.text),
            }),
            Event::ToolCall(call) => {
                let at = call.index as usize;
                if at == self.calls.len() {
                    self.calls.push(Default::default());
                }
                let [id, name, arguments] = &mut self.calls[at];
                id.push_str(call.id.unwrap_or_default());
                name.push_str(call.name.unwrap_or_default());
                arguments.push_str(call.arguments);
            }
            Event::Logprobs(_)
            | Event::NativeMembers { .. }
            | Event::Image(_)
            | Event::Alternative { .. } => {}
            Event::Usage(usage) => self.usage.update(usage),
            Event::Finish(finish) => self.finish = Some(finish),
        }
    }

    /// The same, with pieces of one kind that follow each other in one.
    fn joined(mut self) -> Self {
        let mut joined: Vec<Said> = Vec::new();
        for said in self.said {
            match (joined.last_mut(), said) {
                (Some(Said::Text(text)), Said::Text(more))
                | (Some(Said::Refusal(text)), Said::Refusal(more))
                | (Some(Said::Reasoning(text)), Said::Reasoning(more))
                | (Some(Said::Signature(text)), Said::Signature(more)) => text.push_str(&more),
                (_, said) => joined.push(said),
            }
        }
        self.said = joined;
        self
    }

    /// The same, with all that is of one kind together.
    fn by_kind(&mut self) {
        self.said.sort_by_key(|said| match said {
            Said::Reasoning(_) => 0,
            Said::Signature(_) | Said::Sealed(_) => 1,
            Said::Text(_) => 2,
            Said::Refusal(_) => 3,
            Said::Cited { .. } => 4,
        });
        *self = std::mem::take(self).joined();
    }

    /// The same, with the citations apart from all else. What stood before and behind a citation is
    /// joined, unless it is reasoning, which may be two items.
    fn citations_last(&mut self) {
        let said = std::mem::take(&mut self.said);
        let (cited, said): (Vec<_>, Vec<_>) = said
            .into_iter()
            .partition(|said| matches!(said, Said::Cited { .. }));
        self.said = said;
        *self = std::mem::take(self).joined();
        self.said.extend(cited);
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-z\"\\\\{}\n é😀]{1,6}"
}

fn said() -> impl Strategy<Value = Said> {
    let cited = (option::of(text()), option::of(text()), option::of(text()))
        .prop_filter("says something", |(url, title, text)| {
            url.is_some() || title.is_some() || text.is_some()
        })
        .prop_map(|(url, title, text)| Said::Cited { url, title, text });
    prop_oneof![
        4 => text().prop_map(Said::Text),
        1 => text().prop_map(Said::Refusal),
        2 => text().prop_map(Said::Reasoning),
        1 => text().prop_map(Said::Signature),
        1 => text().prop_map(Said::Sealed),
        1 => cited,
    ]
}

/// A JSON object in pieces, the first of which may be empty.
fn arguments() -> impl Strategy<Value = Vec<String>> {
    (
        vec((text(), text()), 0..3),
        vec(any::<prop::sample::Index>(), 0..4),
    )
        .prop_map(|(members, cuts)| {
            let object: serde_json::Map<_, _> = members
                .into_iter()
                .map(|(name, value)| (name, json!({"v": value})))
                .collect();
            let text = json!(object).to_string();
            let mut cuts: Vec<usize> = cuts
                .iter()
                .map(|cut| text.floor_char_boundary(cut.index(text.len())))
                .collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for to in cuts {
                pieces.push(text[from..to].to_owned());
                from = to;
            }
            pieces.push(text[from..].to_owned());
            pieces
        })
}

fn usage() -> impl Strategy<Value = Usage> {
    let count = || 0..1000_u64;
    (
        count(),
        option::of(count()),
        option::of(count()),
        count(),
        option::of(count()),
    )
        .prop_map(
            |(fresh, cached_input, cache_write, output, reasoning)| Usage {
                input: Some(fresh + cached_input.unwrap_or(0) + cache_write.unwrap_or(0)),
                output: Some(output),
                cached_input,
                cache_write,
                reasoning,
            },
        )
}

fn answer() -> impl Strategy<Value = Answer> {
    let finish = prop::sample::select(vec![
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::ToolCalls,
        FinishReason::ContentFilter,
        FinishReason::Refusal,
        FinishReason::Pause,
        FinishReason::Other,
    ]);
    let turns = vec(0_usize..8, 0..24);
    (
        vec(said(), 0..10),
        vec(arguments(), 0..4),
        turns,
        usage(),
        finish,
    )
        .prop_map(|(said, calls, turns, usage, finish)| Answer {
            said,
            calls,
            turns,
            usage,
            finish,
        })
}
