//! What an answer will cost, before its usage is known.

use crate::model::{Part, Request, ResponseFormat, Usage};

/// What a request may cost in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// For the prompt.
    pub prompt: u64,
    /// For the answer, if the client bounds it.
    pub output: Option<u64>,
    /// For the answer if the client does not.
    pub default_output: u64,
}

/// English text has about four bytes a token; other languages have fewer characters and more bytes.
const BYTES: u64 = 4;
/// What the vendors' chat templates put around a message.
const MESSAGE: u64 = 4;
/// An image or a file. Vendors count pixels or pages.
const MEDIA: u64 = 1_000;
/// More tokens than any model reads or writes in one answer. An upstream that reports more is
/// wrong, and its count must not put a key into debt for years.
const MAX_REPORTED: u64 = 100_000_000;

impl Estimate {
    /// Counts a request's texts by their length. `default_output` is the model's.
    pub fn of(request: &Request, default_output: u64) -> Self {
        let mut bytes = 0;
        let mut media = 0;
        for part in request.messages.iter().flat_map(|message| &message.content) {
            count(part, &mut bytes, &mut media);
        }
        for tool in &request.tools {
            bytes += tool.name.len() + tool.description.as_ref().map_or(0, String::len);
            bytes += tool.parameters.as_ref().map_or(0, json_length);
        }
        if let Some(ResponseFormat::Schema { schema, .. }) = &request.response_format {
            bytes += json_length(schema);
        }
        let members = request.extra.iter();
        bytes += members.map(|(_, value)| json_length(value)).sum::<usize>();
        let native = request.native_fields.as_ref();
        bytes += native.map_or(0, |native| native.uncounted);
        let answers = u64::from(request.answers.unwrap_or(1).max(1));
        Self {
            prompt: tokens(bytes as u64)
                .saturating_add(media.saturating_mul(MEDIA))
                .saturating_add((request.messages.len() as u64).saturating_mul(MESSAGE)),
            output: request
                .max_tokens
                .map(|bound| bound.saturating_mul(answers)),
            default_output: default_output.saturating_mul(answers),
        }
    }

    /// For a body that goes to the upstream as it is, by its length.
    pub fn of_body(bytes: usize, output: Option<u64>, default_output: u64) -> Self {
        Self {
            prompt: tokens(bytes as u64),
            output,
            default_output,
        }
    }

    /// What to reserve under a limit of so many tokens: what the client asks for, or the default,
    /// cut to what the limit allows. If it is more than the limit, waiting does not help.
    pub(super) fn needed(&self, limit: u64) -> u64 {
        match self.output {
            Some(output) => self.prompt.saturating_add(output),
            None => self
                .prompt
                .saturating_add(self.default_output)
                .min(limit.max(self.prompt)),
        }
    }

    /// What was used, as the upstream reports it. What it does not report is estimated, the answer
    /// from the bytes that arrived.
    pub(super) fn used(&self, usage: Option<Usage>, produced: u64) -> u64 {
        let usage = usage.unwrap_or_default();
        let input = usage.input.unwrap_or(self.prompt);
        let output = usage.output.unwrap_or_else(|| tokens(produced));
        input.min(MAX_REPORTED) + output.min(MAX_REPORTED)
    }
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES)
}

fn count(part: &Part, bytes: &mut usize, media: &mut u64) {
    match part {
        Part::Text(text) | Part::Reasoning { text, .. } | Part::EncryptedReasoning(text) => {
            *bytes += text.len();
        }
        Part::Image(_) | Part::File(_) => *media += 1,
        Part::ToolCall {
            name, arguments, ..
        } => *bytes += name.len() + arguments.len(),
        Part::CachePoint => {}
        Part::ToolResult { content, .. } => {
            for part in content {
                count(part, bytes, media);
            }
        }
    }
}

/// The approximate length of its JSON text, without escapes.
fn json_length(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| json_length(item) + 1).sum(),
        Value::Object(entries) => {
            let entries = entries.iter();
            entries
                .map(|(name, value)| name.len() + 4 + json_length(value))
                .sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTIMATE: Estimate = Estimate {
        prompt: 100,
        output: None,
        default_output: 1_000,
    };

    #[test]
    fn a_default_is_cut_to_the_limit_and_a_clients_bound_is_not() {
        assert_eq!(ESTIMATE.needed(5_000), 1_100);
        assert_eq!(ESTIMATE.needed(500), 500);
        assert_eq!(ESTIMATE.needed(100), 100);
        assert_eq!(ESTIMATE.needed(99), 100);
        let bounded = Estimate {
            output: Some(400),
            ..ESTIMATE
        };
        assert_eq!(bounded.needed(500), 500);
        assert_eq!(bounded.needed(499), 500);
        let absurd = Estimate {
            output: Some(u64::MAX),
            ..ESTIMATE
        };
        assert_eq!(absurd.needed(500), u64::MAX);
    }

    #[test]
    fn usage_that_the_upstream_does_not_report_is_estimated() {
        let usage = |input, output| {
            Some(Usage {
                input,
                output,
                ..Usage::default()
            })
        };
        assert_eq!(ESTIMATE.used(usage(Some(7), Some(5)), 4_000), 12);
        assert_eq!(ESTIMATE.used(usage(Some(7), None), 4_001), 1_008);
        assert_eq!(ESTIMATE.used(None, 0), 100);
    }

    #[test]
    fn an_absurd_report_is_bounded() {
        for count in [MAX_REPORTED, (1 << 53) - 1, u64::MAX] {
            let usage = Usage {
                input: Some(count),
                output: Some(count),
                ..Usage::default()
            };
            assert_eq!(ESTIMATE.used(Some(usage), u64::MAX), 2 * MAX_REPORTED);
        }
    }
}
