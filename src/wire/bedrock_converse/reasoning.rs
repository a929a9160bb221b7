//! Reasoning settings. The API has no common field for them: each model provider has its own, in
//! `additionalModelRequestFields`.

use serde_json::{Map, Value, json};

use crate::model::{Reasoning, Request};
use crate::wire::claude_thinking::Thinking;
use crate::wire::effort;

/// The output tokens that are left for the answer if the client gave no bound, as on Claude's own API.
const CLAUDE_DEFAULT_MAX_TOKENS: u64 = 4096;

/// The reasoning fields of a request, and the bound on its output that they require.
#[derive(Default)]
pub(super) struct ReasoningFields {
    pub(super) fields: Map<String, Value>,
    pub(super) max_tokens: Option<u64>,
    pub(super) excludes_temperature: bool,
}

/// The id of a model or of an inference profile contains the provider's name. For an ARN without one,
/// and for providers without such a field, reasoning is left out: it is a hint.
pub(super) fn reasoning_fields(request: &Request, model: &str) -> ReasoningFields {
    let max_tokens = request.max_tokens;
    let without_fields = ReasoningFields {
        max_tokens,
        ..ReasoningFields::default()
    };
    let Some(reasoning) = &request.reasoning else {
        return without_fields;
    };
    if model.contains("anthropic.") {
        let thinking = Thinking::new(request);
        return ReasoningFields {
            max_tokens: if thinking.budget > 0 {
                Some(thinking.max_tokens(max_tokens, CLAUDE_DEFAULT_MAX_TOKENS))
            } else {
                max_tokens
            },
            excludes_temperature: thinking.is_on(),
            fields: thinking.fields,
        };
    }
    let field = if model.contains("amazon.nova-2") {
        nova(reasoning).map(|config| ("reasoningConfig", config))
    } else if model.contains("openai.") {
        let effort = effort::openai(reasoning);
        effort.map(|effort| ("reasoning_effort", json!(effort)))
    } else {
        None
    };
    ReasoningFields {
        fields: field
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        ..without_fields
    }
}

/// <https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html>
fn nova(reasoning: &Reasoning) -> Option<Value> {
    let effort = match reasoning.effort.as_deref()? {
        "none" => return Some(json!({ "type": "disabled" })),
        "minimal" => "low",
        "xhigh" | "max" => "high",
        effort => effort,
    };
    Some(json!({ "type": "enabled", "maxReasoningEffort": effort }))
}
