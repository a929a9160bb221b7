//! Thinking settings of Claude models, in the fields that Anthropic's API and Bedrock share:
//! <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>.

use serde_json::{Map, Value, json};

use super::effort;
use crate::model::{Reasoning, Request, ToolChoice};

/// The smallest thinking budget that the API accepts.
const MIN_BUDGET: u64 = 1024;

/// The thinking settings of a request.
#[derive(Default)]
pub(super) struct Thinking {
    /// `thinking`, and `output_config` if the model sets its own budget.
    pub(super) fields: Map<String, Value>,
    /// The output tokens reserved for thinking.
    pub(super) budget: u64,
}

impl Thinking {
    /// No settings if the request has none, or forces a tool call, which the API refuses with thinking.
    pub(super) fn new(request: &Request) -> Self {
        let Some(reasoning) = &request.reasoning else {
            return Self::default();
        };
        let thinking = Self::of_reasoning(reasoning, request.max_tokens);
        let forces_a_call = matches!(
            request.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Function(_))
        );
        if thinking.is_on() && forces_a_call {
            Self::default()
        } else {
            thinking
        }
    }

    /// Whether the model thinks. The API then refuses a `temperature`.
    pub(super) fn is_on(&self) -> bool {
        let kind = self
            .fields
            .get("thinking")
            .map(|thinking| &thinking["type"]);
        kind.is_some_and(|kind| kind != "disabled")
    }

    fn of_reasoning(reasoning: &Reasoning, max_tokens: Option<u64>) -> Self {
        let requested = match (reasoning.max_tokens, reasoning.effort.as_deref()) {
            (_, Some("none")) => return Self::of(json!({ "type": "disabled" }), 0),
            (Some(budget), _) => budget,
            (None, Some(word)) => match effort::budget(word, max_tokens) {
                Some(budget) => budget,
                // A vendor's own word is for the models that set their own budget.
                None => {
                    let mut adaptive = Self::of(json!({ "type": "adaptive" }), 0);
                    let config = json!({ "effort": word });
                    adaptive.fields.insert("output_config".to_owned(), config);
                    return adaptive;
                }
            },
            (None, None) => return Self::default(),
        };
        let budget = requested.max(MIN_BUDGET);
        Self::of(
            json!({ "type": "enabled", "budget_tokens": budget }),
            budget,
        )
    }

    fn of(thinking: Value, budget: u64) -> Self {
        Self {
            fields: Map::from_iter([("thinking".to_owned(), thinking)]),
            budget,
        }
    }

    /// The bound on the output that leaves room for the answer: the API counts thinking as output and
    /// requires the budget to be below the bound. `default` is used if the client gave no bound.
    pub(super) fn max_tokens(&self, max_tokens: Option<u64>, default: u64) -> u64 {
        match max_tokens {
            Some(bound) if bound > self.budget => bound,
            Some(bound) => self.budget.saturating_add(bound),
            None => self.budget.saturating_add(default),
        }
    }
}
