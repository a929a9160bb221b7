//! Settings of reasoning that fit a model.

use super::Pass;
use crate::model::{Reasoning, ReasoningStyle};
use crate::wire::claude_thinking::Thinking;

impl Pass<'_> {
    /// A setting that the client's protocol sends by default does not reach a model that is not known to
    /// accept it.
    pub(super) fn adapt_reasoning(&mut self) {
        let Some(reasoning) = &self.request.reasoning else {
            return;
        };
        let style = self.settings.reasoning.or(self.rule.reasoning);
        let refuses = match style {
            Some(ReasoningStyle::None) => true,
            // Only these models take an effort that is not for thinking.
            Some(ReasoningStyle::Adaptive) => false,
            Some(_) => reasoning.without_thinking,
            None => reasoning.is_default || reasoning.without_thinking,
        };
        if refuses {
            self.request.to_mut().reasoning = None;
            self.changes.add("reasoning");
            return;
        }
        let styled = Reasoning {
            style,
            ..reasoning.clone()
        };
        let asks_to_think = styled.effort.as_deref() != Some("none") && !styled.without_thinking;
        self.request.to_mut().reasoning = Some(styled);
        if self.limits.claude_thinking && asks_to_think {
            self.adapt_claude_thinking();
        }
    }

    /// Claude's thinking excludes a `temperature` and most values of `top_p`, and is excluded by a forced
    /// call.
    fn adapt_claude_thinking(&mut self) {
        let thinking = Thinking::new(&self.request);
        let style = self
            .request
            .reasoning
            .as_ref()
            .and_then(|asked| asked.style);
        if !thinking.is_on() {
            if style != Some(ReasoningStyle::Effort) {
                self.changes.add("reasoning");
            }
            return;
        }
        if self.request.temperature.is_some() {
            self.request.to_mut().temperature = None;
            self.changes.add("temperature");
        }
        if self.request.top_p.is_some() {
            self.request.to_mut().top_p = None;
            self.changes.add("top_p");
        }
    }
}
