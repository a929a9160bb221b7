//! Thinking settings of Claude models, in the fields that Anthropic's API and Bedrock share:
//! <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>,
//! <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>,
//! <https://platform.claude.com/docs/en/build-with-claude/effort>.

use serde_json::{Map, Value, json};

use super::effort;
use crate::model::{Message, Part, Reasoning, ReasoningStyle, Request, Role, ToolChoice};

/// The smallest thinking budget that the API accepts.
const MIN_BUDGET: u64 = 1024;

/// The budget for efforts above `high`.
const LARGE_BUDGET: u64 = 32768;

/// The thinking settings of a request.
#[derive(Default)]
pub(super) struct Thinking {
    /// `thinking`, and `output_config` if the model takes an effort.
    pub(super) fields: Map<String, Value>,
    /// The output tokens reserved for thinking.
    pub(super) budget: u64,
}

impl Thinking {
    pub(super) fn new(request: &Request) -> Self {
        let Some(reasoning) = &request.reasoning else {
            return Self::default();
        };
        let mut thinking = match reasoning.style {
            Some(ReasoningStyle::None) => Self::default(),
            Some(ReasoningStyle::Adaptive) => Self::adaptive(reasoning),
            Some(ReasoningStyle::Effort) => Self::of_effort(reasoning),
            Some(ReasoningStyle::Budget) | None => Self::of_budget(reasoning, request.max_tokens),
        };
        // The API refuses thinking together with a forced call. With a budget it also refuses a turn that
        // called tools without thinking first, which most protocols cannot give back.
        let forces_a_call = matches!(
            request.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Function(_))
        );
        if thinking.is_on()
            && (forces_a_call || (thinking.budget > 0 && lacks_thinking(&request.messages)))
        {
            thinking.fields.remove("thinking");
            thinking.budget = 0;
        }
        thinking
    }

    /// Whether the model thinks. The API then refuses a `temperature`, and most values of `top_p`.
    pub(super) fn is_on(&self) -> bool {
        let kind = self
            .fields
            .get("thinking")
            .map(|thinking| &thinking["type"]);
        kind.is_some_and(|kind| kind != "disabled")
    }

    fn adaptive(reasoning: &Reasoning) -> Self {
        if reasoning.effort.as_deref() == Some("none") {
            return Self::of(json!({ "type": "disabled" }), 0);
        }
        let mut thinking = Self::of_effort(reasoning);
        if !reasoning.without_thinking {
            let kind = json!({ "type": "adaptive" });
            thinking.fields.insert("thinking".to_owned(), kind);
        }
        thinking
    }

    fn of_effort(reasoning: &Reasoning) -> Self {
        let word = match (reasoning.effort.as_deref(), reasoning.max_tokens) {
            (Some("minimal"), _) => Some("low"),
            (Some("none"), _) | (None, None) => None,
            (Some(word), _) => Some(word),
            (None, Some(budget)) => Some(effort::word(budget)),
        };
        let config = word.map(|word| ("output_config".to_owned(), json!({ "effort": word })));
        Self {
            fields: config.into_iter().collect(),
            budget: 0,
        }
    }

    fn of_budget(reasoning: &Reasoning, max_tokens: Option<u64>) -> Self {
        if reasoning.without_thinking {
            return Self::default();
        }
        let requested = match (reasoning.max_tokens, reasoning.effort.as_deref()) {
            (_, Some("none")) => return Self::of(json!({ "type": "disabled" }), 0),
            (Some(budget), _) => budget,
            (None, Some(word)) => match effort::budget(word, max_tokens) {
                Some(budget) => budget,
                None if reasoning.style.is_some() => {
                    LARGE_BUDGET.min(max_tokens.map_or(u64::MAX, |bound| bound / 2))
                }
                // A vendor's own word is for the models that set their own budget.
                None => return Self::adaptive(reasoning),
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

/// Whether the last turn of the assistant calls tools and does not begin with thinking that the API
/// accepts.
fn lacks_thinking(messages: &[Message]) -> bool {
    let is_assistant = |message: &Message| message.role == Role::Assistant;
    let Some(end) = messages.iter().rposition(is_assistant) else {
        return false;
    };
    // Consecutive messages of the assistant are one turn.
    let begin = messages[..end]
        .iter()
        .rposition(|message| !is_assistant(message));
    let turn = &messages[begin.map_or(0, |at| at + 1)..=end];
    let mut parts = turn.iter().flat_map(|message| &message.content);
    let begins_with_thinking = parts.clone().next().is_some_and(|part| {
        matches!(
            part,
            Part::Reasoning {
                signature: Some(_),
                ..
            } | Part::EncryptedReasoning(_)
        )
    });
    !begins_with_thinking && parts.any(|part| matches!(part, Part::ToolCall { .. }))
}
