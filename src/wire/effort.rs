//! Reasoning efforts as token budgets, and the reverse, for vendors that accept only one of them.

use crate::model::Reasoning;

/// The token budget of an effort, `None` for a vendor's own word. At least half of `max_tokens` is left
/// for the answer.
pub(super) fn budget(effort: &str, max_tokens: Option<u64>) -> Option<u64> {
    let budget: u64 = match effort {
        "minimal" => 1024,
        "low" => 2048,
        "medium" => 8192,
        "high" => 16384,
        _ => return None,
    };
    Some(budget.min(max_tokens.map_or(u64::MAX, |most| most / 2)))
}

/// The effort of a token budget.
pub(super) fn word(budget: u64) -> &'static str {
    match budget {
        0..=2048 => "low",
        2049..=8192 => "medium",
        _ => "high",
    }
}

/// The setting as an effort in OpenAI's words: `max` is Anthropic's. A budget is given to models only
/// that are known to take efforts.
pub(super) fn openai(reasoning: &Reasoning) -> Option<&str> {
    match (reasoning.effort.as_deref(), reasoning.max_tokens) {
        (Some("max"), _) => Some("high"),
        // Not all of the models that take efforts take this one.
        (Some("xhigh"), _) if reasoning.is_default => Some("high"),
        (Some(word), _) => Some(word),
        (None, Some(budget)) if reasoning.style.is_some() => Some(word(budget)),
        (None, _) => None,
    }
}
