//! The names of span attributes: OpenTelemetry's conventions for generative AI, in their newest form
//! (open-telemetry/semantic-conventions-genai 0.1.0) and in the one that most tools read.

use crate::config::SpanNames;

/// An attribute with its newest name and its earlier one. `None` where that generation has no such
/// attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute {
    latest: Option<&'static str>,
    legacy: Option<&'static str>,
}

const fn same(name: &'static str) -> Attribute {
    renamed(name, name)
}

const fn renamed(latest: &'static str, legacy: &'static str) -> Attribute {
    Attribute {
        latest: Some(latest),
        legacy: Some(legacy),
    }
}

const fn new(latest: &'static str) -> Attribute {
    Attribute {
        latest: Some(latest),
        legacy: None,
    }
}

pub(super) const OPERATION: Attribute = same("gen_ai.operation.name");
pub(super) const PROVIDER: Attribute = renamed("gen_ai.provider.name", "gen_ai.system");
pub(super) const REQUEST_MODEL: Attribute = same("gen_ai.request.model");
pub(super) const FINISH_REASONS: Attribute = same("gen_ai.response.finish_reasons");
pub(super) const FIRST_CHUNK: Attribute = new("gen_ai.response.time_to_first_chunk");
pub(super) const INPUT: Attribute = same("gen_ai.usage.input_tokens");
pub(super) const OUTPUT: Attribute = same("gen_ai.usage.output_tokens");
pub(super) const CACHE_READ: Attribute = same("gen_ai.usage.cache_read.input_tokens");
pub(super) const CACHE_WRITE: Attribute = renamed(
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
);
pub(super) const INPUT_MESSAGES: Attribute = same("gen_ai.input.messages");
pub(super) const OUTPUT_MESSAGES: Attribute = same("gen_ai.output.messages");
pub(super) const REASONING: Attribute = new("gen_ai.usage.reasoning.output_tokens");

impl Attribute {
    /// The names that the attribute has, each once.
    pub(super) fn names(self, names: SpanNames) -> impl Iterator<Item = &'static str> {
        let latest = self.latest.filter(|_| names != SpanNames::Legacy);
        let legacy = self.legacy.filter(|_| names != SpanNames::Latest);
        let legacy = legacy.filter(|name| latest != Some(*name));
        latest.into_iter().chain(legacy)
    }
}

/// The value of `gen_ai.provider.name`: of the vendor, else of the protocol that it speaks.
pub fn provider_name(preset: Option<&str>, wire: &str) -> &'static str {
    match preset {
        Some("azure") => return "azure.ai.openai",
        Some("mistral") => return "mistral_ai",
        Some("xai") => return "x_ai",
        Some("deepseek") => return "deepseek",
        Some("groq") => return "groq",
        Some("perplexity") => return "perplexity",
        Some("vertex") => return "gcp.vertex_ai",
        _ => {}
    }
    match wire {
        "anthropic-messages" => "anthropic",
        "bedrock-converse" => "aws.bedrock",
        "cohere-chat" => "cohere",
        "gemini" => "gcp.gemini",
        "ollama-chat" => "ollama",
        _ => "openai",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(attribute: Attribute, names: SpanNames) -> Vec<&'static str> {
        attribute.names(names).collect()
    }

    #[test]
    fn each_generation_has_its_names() {
        assert_eq!(names(PROVIDER, SpanNames::Latest), ["gen_ai.provider.name"]);
        assert_eq!(names(PROVIDER, SpanNames::Legacy), ["gen_ai.system"]);
        assert_eq!(
            names(PROVIDER, SpanNames::Both),
            ["gen_ai.provider.name", "gen_ai.system"]
        );
        assert_eq!(names(INPUT, SpanNames::Both), ["gen_ai.usage.input_tokens"]);
        assert!(names(FIRST_CHUNK, SpanNames::Legacy).is_empty());
    }
}
