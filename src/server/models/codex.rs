//! The form that Codex reads from `GET …/models?client_version=…`, where its `model_catalog_url` names
//! that address: `ModelsResponse` of <https://github.com/openai/codex>.

use serde_json::{Value, json};

/// Codex takes a model's instructions from the list and has no others for it.
const INSTRUCTIONS: &str = include_str!("codex.md");

/// The list. Every member is required: Codex ignores a list in which a model lacks one. It does not know
/// the models' context windows, and then does not compact a conversation by itself.
pub(super) fn list(names: &[&str]) -> Value {
    let models = names.iter().enumerate();
    let models: Vec<Value> = models.map(|(place, name)| model(name, place)).collect();
    json!({"models": models})
}

fn model(name: &str, place: usize) -> Value {
    let effort =
        |effort: &str, description: &str| json!({"effort": effort, "description": description});
    json!({
        "slug": name,
        "display_name": name,
        "description": "A model of this gateway",
        "base_instructions": INSTRUCTIONS,
        "supported_reasoning_levels": [
            effort("low", "Less reasoning, faster answers"),
            effort("medium", "Balances reasoning and speed"),
            effort("high", "More reasoning for hard problems"),
        ],
        "shell_type": "unified_exec",
        "apply_patch_tool_type": "freeform",
        "visibility": "list",
        "supported_in_api": true,
        "priority": place,
        "support_verbosity": false,
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "experimental_supported_tools": [],
        "supports_parallel_tool_calls": true,
    })
}
