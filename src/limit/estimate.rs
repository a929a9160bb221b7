//! What an answer will cost, before anybody knows it.

use crate::model::{Part, Request, ResponseFormat, Usage};

/// What a request may cost in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Of its own words.
    pub prompt: u64,
    /// Of the answer, as far as the client bounds it.
    pub output: Option<u64>,
    /// Of the answer where the client does not.
    pub default_output: u64,
}

/// English text has some four bytes a token; others have fewer characters and more bytes.
const BYTES: u64 = 4;
/// What the vendors' chat forms put around a message.
const MESSAGE: u64 = 4;
/// An image or a file, which a vendor counts by its pixels or pages.
const MEDIA: u64 = 1_000;

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
                .saturating_add(media * MEDIA)
                .saturating_add(request.messages.len() as u64 * MESSAGE),
            output: request
                .max_tokens
                .map(|bound| bound.saturating_mul(answers)),
            default_output: default_output.saturating_mul(answers),
        }
    }

    /// What to reserve under a limit of so many tokens: what the client asks for, or of the
    /// default as much as the limit can ever give. `None` if it never can.
    pub(super) fn reserved(&self, limit: u64) -> Option<u64> {
        let reserved = match self.output {
            Some(output) => self.prompt.saturating_add(output),
            None => self
                .prompt
                .saturating_add(self.default_output)
                .min(limit.max(self.prompt)),
        };
        (reserved <= limit).then_some(reserved)
    }

    /// What was used, as the upstream says it; what it does not say is estimated, the answer from
    /// the bytes of what came of it.
    pub(super) fn used(&self, usage: Option<Usage>, produced: u64) -> u64 {
        let usage = usage.unwrap_or_default();
        let input = usage.input.unwrap_or(self.prompt);
        let output = usage.output.unwrap_or_else(|| tokens(produced));
        input.saturating_add(output)
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
        Part::ToolResult { content, .. } => {
            for part in content {
                count(part, bytes, media);
            }
        }
    }
}

/// The length of a JSON text for it, escapes left out.
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
        assert_eq!(ESTIMATE.reserved(5_000), Some(1_100));
        assert_eq!(ESTIMATE.reserved(500), Some(500));
        assert_eq!(ESTIMATE.reserved(100), Some(100));
        assert_eq!(ESTIMATE.reserved(99), None);
        let bounded = Estimate {
            output: Some(400),
            ..ESTIMATE
        };
        assert_eq!(bounded.reserved(500), Some(500));
        assert_eq!(bounded.reserved(499), None);
    }

    #[test]
    fn what_nobody_counted_is_estimated() {
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
}
