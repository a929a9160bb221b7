//! Settings of reasoning that fit a model.

use super::Pass;
use crate::model::{Reasoning, ReasoningStyle};

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
        self.request.to_mut().reasoning = Some(styled);
    }
}
