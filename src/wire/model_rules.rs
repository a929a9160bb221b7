//! What is known about models by their names: how they take a setting of their reasoning, how long their
//! answers may be, and which sampling settings they accept. Data, from the vendors' pages:
//! <https://platform.claude.com/docs/en/about-claude/models/overview>,
//! <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>,
//! <https://platform.openai.com/docs/guides/reasoning>, <https://ai.google.dev/gemini-api/docs/thinking>,
//! <https://docs.x.ai/docs/guides/reasoning>, <https://docs.cohere.com/docs/reasoning>.

use crate::model::ReasoningStyle;

/// What is known about the models whose name contains `name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ModelRule {
    /// In lower case, with `-` in place of points. It matches at the beginning of a name and behind anything but a letter or digit,
    /// because clouds put their own words before a model's name.
    name: &'static str,
    /// `None` if it is not known.
    pub(super) reasoning: Option<ReasoningStyle>,
    /// The longest answer, in tokens, if it is known.
    pub(super) max_tokens: Option<u64>,
    pub(super) sampling: Sampling,
    /// Whether the model can be held to a JSON Schema.
    pub(super) schemas: bool,
}

/// Which of `temperature` and `top_p` a model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampling {
    Both,
    /// Not both in one request.
    One,
    Neither,
}

/// The rule for `model`: the first one that matches.
pub(super) fn rule(model: &str) -> ModelRule {
    // Some clouds write versions with a point.
    let model = model.to_ascii_lowercase().replace('.', "-");
    find(RULES, &model).copied().unwrap_or(ModelRule::UNKNOWN)
}

/// The first of `rules` that matches. Only where a word of `model` begins can a rule's name stand.
fn find<'a>(rules: &'a [ModelRule], model: &str) -> Option<&'a ModelRule> {
    let begins = |at: &usize| {
        let before = model[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_ascii_alphanumeric())
    };
    let places = model.char_indices().map(|(at, _)| at).filter(begins);
    let words: Vec<&str> = places.map(|at| &model[at..]).collect();
    let mut rules = rules.iter();
    rules.find(|rule| words.iter().any(|word| word.starts_with(rule.name)))
}

impl ModelRule {
    pub(super) const UNKNOWN: Self = Self {
        name: "",
        reasoning: None,
        max_tokens: None,
        sampling: Sampling::Both,
        schemas: true,
    };

    /// The longest answer that the model is known to give. For models that are not listed one by one the
    /// number is only a default.
    pub(super) fn longest(&self) -> Option<u64> {
        self.max_tokens.filter(|_| self.name != LATER_CLAUDE)
    }
}

/// All Claude models that are not listed one by one.
const LATER_CLAUDE: &str = "claude";

const fn rule_of(name: &'static str, reasoning: ReasoningStyle) -> ModelRule {
    ModelRule {
        name,
        reasoning: Some(reasoning),
        ..ModelRule::UNKNOWN
    }
}

/// OpenAI's reasoning models accept no `temperature` and no `top_p`.
const fn openai_reasoning(name: &'static str) -> ModelRule {
    ModelRule {
        sampling: Sampling::Neither,
        ..rule_of(name, Effort)
    }
}

const fn claude(
    name: &'static str,
    reasoning: ReasoningStyle,
    max_tokens: u64,
    sampling: Sampling,
) -> ModelRule {
    ModelRule {
        name,
        reasoning: Some(reasoning),
        max_tokens: Some(max_tokens),
        sampling,
        schemas: true,
    }
}

/// Models before Opus 4.1 and Sonnet 4.5 have no structured outputs:
/// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>.
const fn without_schemas(rule: ModelRule) -> ModelRule {
    ModelRule {
        schemas: false,
        ..rule
    }
}

use ReasoningStyle::{Adaptive, Budget, Effort, None as NoReasoning};
use Sampling::{Both, Neither, One};

/// More special names come before more general ones.
const RULES: &[ModelRule] = &[
    without_schemas(claude("claude-2", NoReasoning, 4_096, Both)),
    without_schemas(claude("claude-instant", NoReasoning, 4_096, Both)),
    without_schemas(claude("claude-3-7", Budget, 64_000, Both)),
    without_schemas(claude("claude-3-5", NoReasoning, 8_192, Both)),
    without_schemas(claude("claude-3", NoReasoning, 4_096, Both)),
    claude("claude-opus-4-8", Adaptive, 128_000, Neither),
    claude("claude-opus-4-7", Adaptive, 128_000, Neither),
    claude("claude-opus-4-6", Adaptive, 128_000, One),
    claude("claude-opus-4-5", Budget, 64_000, One),
    claude("claude-opus-4-1", Budget, 32_000, One),
    without_schemas(claude("claude-opus-4", Budget, 32_000, Both)),
    claude("claude-sonnet-4-6", Adaptive, 64_000, One),
    claude("claude-sonnet-4-5", Budget, 64_000, One),
    without_schemas(claude("claude-sonnet-4", Budget, 64_000, Both)),
    without_schemas(claude("claude-4-sonnet", Budget, 64_000, Both)),
    without_schemas(claude("claude-4-opus", Budget, 32_000, Both)),
    claude("claude-haiku-4-5", Budget, 64_000, One),
    // Later models.
    claude(LATER_CLAUDE, Adaptive, 64_000, Neither),
    rule_of("gpt-5-chat", NoReasoning),
    rule_of("gpt-5-1-chat", NoReasoning),
    openai_reasoning("gpt-5"),
    openai_reasoning("gpt-6"),
    rule_of("gpt-oss", Effort),
    rule_of("gpt-4", NoReasoning),
    rule_of("gpt-3", NoReasoning),
    rule_of("chatgpt-4o", NoReasoning),
    rule_of("codex", Effort),
    openai_reasoning("o1"),
    openai_reasoning("o3"),
    openai_reasoning("o4"),
    rule_of("grok-3-mini", Effort),
    rule_of("grok-3", NoReasoning),
    rule_of("grok-4", NoReasoning),
    rule_of("gemini-1", NoReasoning),
    rule_of("gemini-2-0", NoReasoning),
    rule_of("gemma", NoReasoning),
    rule_of("gemini-2-5", Budget),
    rule_of("gemini-3", Budget),
    rule_of("command-a-reasoning", Budget),
    rule_of("command", NoReasoning),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_under_the_names_of_clouds() {
        for (model, reasoning) in [
            ("claude-opus-4-8", Some(Adaptive)),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Some(Budget)),
            (
                "anthropic.claude-3-5-haiku-20241022-v1:0",
                Some(NoReasoning),
            ),
            ("claude-sonnet-4@20250514", Some(Budget)),
            ("claude-opus-6", Some(Adaptive)),
            ("anthropic/claude-3.7-sonnet", Some(Budget)),
            ("anthropic/claude-opus-4.8", Some(Adaptive)),
            ("anthropic/claude-3.5-haiku", Some(NoReasoning)),
            ("openai/o3-mini", Some(Effort)),
            ("gpt-4o-mini", Some(NoReasoning)),
            ("GPT-5.5", Some(Effort)),
            ("gpt-oss:20b", Some(Effort)),
            ("models/gemini-2.5-pro", Some(Budget)),
            ("foo1-chat", None),
            ("llama-3.3-70b", None),
        ] {
            assert_eq!(rule(model).reasoning, reasoning, "{model}");
        }
    }

    #[test]
    fn no_rule_hides_a_later_one() {
        for (at, later) in RULES.iter().enumerate() {
            assert_eq!(find(&RULES[..at], later.name), None, "{}", later.name);
        }
    }
}
