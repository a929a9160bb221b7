//! The events of an answer, independent of the upstream's protocol.

/// One normalized event of an answer. Texts are borrowed from the upstream's frame, so that a
/// token costs no allocation on its way through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// The upstream's own name for this answer and for the model that gives it. It is no content:
    /// it commits nothing, and may come late or never.
    Identity {
        id: &'a str,
        model: &'a str,
        /// The upstream's fingerprint of its configuration, for clients that compare it; mostly empty.
        fingerprint: &'a str,
    },
    /// How probable the tokens of the text after it were: the vendor's own JSON, on one line, for
    /// clients of its protocol.
    Logprobs(&'a str),
    /// Members of the vendor's own answer that no other event expresses, such as signatures that belong
    /// to a call: a JSON object on one line, for clients of its protocol.
    NativeMembers { place: MemberPlace, json: &'a str },
    /// The next piece of the answer's text.
    Text(&'a str),
    /// The next words of a refusal. They are the answer's text, and the finish says what they are.
    Refusal(&'a str),
    /// The next piece of the model's reasoning; never part of the text.
    Reasoning(&'a str),
    /// The vendor's signature of the reasoning before it, which is needed to send the reasoning back.
    Signature(&'a str),
    /// Reasoning that only the vendor can read, to be sent back as it is.
    EncryptedReasoning(&'a str),
    /// The next piece of a call that the client must answer.
    ToolCall(ToolCallDelta<'a>),
    /// A source of the answer.
    Citation(Citation<'a>),
    /// A generated image: an address, or the bytes in a `data:` URL.
    Image(&'a str),
    /// An event of another answer to the same request, its finish included: some APIs give several
    /// answers. `index` counts from 1. All other events belong to answer 0.
    Alternative { index: u32, event: &'a Event<'a> },
    /// Token counts so far. They are cumulative: the last one is valid.
    Usage(Usage),
    /// The upstream's own end of the answer. Exactly one, and nothing follows it.
    Finish(FinishReason),
}

impl Event<'_> {
    /// Roughly the bytes that are needed to store the event.
    pub fn size(&self) -> usize {
        /// The overhead of a call or a citation.
        const ENTRY: usize = 64;
        let said = |words: Option<&str>| words.map_or(0, str::len);
        match self {
            Self::Logprobs(text)
            | Self::Text(text)
            | Self::Refusal(text)
            | Self::Reasoning(text)
            | Self::Signature(text)
            | Self::EncryptedReasoning(text)
            | Self::Image(text)
            | Self::NativeMembers { json: text, .. } => text.len(),
            Self::ToolCall(call) if call.id.is_none() && call.name.is_none() => {
                call.arguments.len()
            }
            Self::ToolCall(call) => ENTRY + said(call.id) + said(call.name) + call.arguments.len(),
            Self::Citation(citation) => {
                ENTRY + said(citation.url) + said(citation.title) + said(citation.text)
            }
            Self::Alternative { event, .. } => event.size(),
            Self::Identity { .. } | Self::Usage(_) | Self::Finish(_) => 0,
        }
    }
}

/// Which object of an answer has [`Event::NativeMembers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberPlace {
    /// The message, or the next piece of it.
    Message,
    /// The tool call of that index.
    Call(u32),
    /// The next piece of the choice, in place of what stays the same.
    ChoicePiece,
    /// The next piece of the whole answer, in place of what stays the same.
    AnswerPiece,
    /// The choice. These members stay the same until the next ones replace them, `{}` for none.
    Choice,
    /// The whole answer. These members stay the same until the next ones replace them, `{}` for none.
    Answer,
    /// The token counts.
    Usage,
}

/// A piece of one tool call. The first piece of an `index` names it; the `arguments` of all its
/// pieces, joined, are one JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolCallDelta<'a> {
    /// Position among the answer's tool calls, from 0, in order of appearance.
    pub index: u32,
    /// Set on the first piece only. A decoder leaves it out where the upstream names no calls; a
    /// client's encoder always gets one.
    pub id: Option<&'a str>,
    /// Set on the first piece only, and always on that.
    pub name: Option<&'a str>,
    /// The next piece of the arguments; may be empty on the first piece.
    pub arguments: &'a str,
}

/// A source of the answer. Every field is as the vendor gave it; at least one is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Citation<'a> {
    pub url: Option<&'a str>,
    pub title: Option<&'a str>,
    /// The cited words of the source.
    pub text: Option<&'a str>,
    /// Where in the answer's text the cited claim begins and ends, in the vendor's own units.
    pub start: Option<u64>,
    pub end: Option<u64>,
}

/// Token counts in the gateway's meaning: `input` counts all input, cached included; `output`
/// counts all output, reasoning included. `None` is a count that the upstream did not report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: Option<u64>,
    pub output: Option<u64>,
    /// Part of `input` that was read from the vendor's prompt cache.
    pub cached_input: Option<u64>,
    /// Part of `input` that was written to the vendor's prompt cache.
    pub cache_write: Option<u64>,
    /// Part of `output` that was reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Takes over every count that `later` states: counts are cumulative, so the last one holds. A
    /// zero never replaces a count: some vendors repeat what they do not count as 0.
    pub fn update(&mut self, later: Self) {
        let take = |count: &mut Option<u64>, later: Option<u64>| match later {
            None => {}
            Some(0) if count.is_some() => {}
            later => *count = later,
        };
        take(&mut self.input, later.input);
        take(&mut self.output, later.output);
        take(&mut self.cached_input, later.cached_input);
        take(&mut self.cache_write, later.cache_write);
        take(&mut self.reasoning, later.reasoning);
    }
}

/// Why an answer ended. [`FinishReason::Cancelled`] is the gateway's own; the rest is reported
/// by the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Refusal,
    Pause,
    Cancelled,
    Other,
}

impl FinishReason {
    /// Its name in the public contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Pause => "pause",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

/// Takes events one at a time, as soon as they are known.
pub trait Sink {
    fn event(&mut self, event: Event<'_>);

    /// The arguments of the tool call of that index are free text, not JSON. Comes before its events.
    fn free_text_call(&mut self, _index: u32) {}

    /// A message of the upstream as it came: its name, which may be empty, and its data. It comes
    /// after the events that were decoded from it, except for the finish. Only verbatim answers have
    /// frames.
    fn frame(&mut self, _name: &str, _data: &str) {}

    /// As [`Sink::frame`], for a message in which the upstream states that it failed. The error
    /// follows.
    fn error_frame(&mut self, _name: &str, _data: &str) {}

    /// The answer is this JSON document, so it has no frames. Comes before its events.
    fn whole_document(&mut self, _document: &str) {}
}

impl<F: FnMut(Event<'_>)> Sink for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}
