//! Settings that fit an API.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Pass;
use super::names::hash;
use crate::model::{ResponseFormat, ToolChoice};
use crate::wire::model_rules::Sampling;

impl Pass<'_> {
    pub(super) fn adapt_tools(&mut self) {
        let limit = self.limits.tool_name;
        let any_long = self
            .request
            .tools
            .iter()
            .any(|tool| !limit.accepts(&tool.name));
        let caches = self.request.tools.iter().any(|tool| tool.cache_point);
        if any_long || (caches && !self.limits.cache_points) {
            for (at, tool) in self.request.to_mut().tools.iter_mut().enumerate() {
                if self.names.change(&mut tool.name, limit) {
                    self.changes.add(&format!("tools[{at}]"));
                }
                if tool.cache_point && !self.limits.cache_points {
                    tool.cache_point = false;
                    self.changes.add("cache_control");
                }
            }
        }
        if let Some(ToolChoice::Function(name)) = &self.request.tool_choice
            && !limit.accepts(name)
        {
            let mut name = name.clone();
            self.names.change(&mut name, limit);
            self.request.to_mut().tool_choice = Some(ToolChoice::Function(name));
        }
        self.complete_schemas();
        if self.limits.strict_schemas && self.other_protocol {
            self.relax_strict_schemas();
        }
        let says_nothing = matches!(
            self.request.tool_choice,
            Some(ToolChoice::Auto | ToolChoice::None)
        );
        if self.request.tools.is_empty() && says_nothing {
            self.request.to_mut().tool_choice = None;
            self.changes.add("tool_choice");
        }
        if !self.limits.forced_calls {
            self.force_call_by_instruction();
        }
    }

    /// Vendors require `type` and `properties` in the schema of a tool's parameters, OpenAI among them. A
    /// schema that lacks them means the same with them.
    fn complete_schemas(&mut self) {
        let is_complete = |schema: &Value| {
            let is_object = schema["type"] == "object";
            schema.as_object().is_none_or(|_| {
                if is_object {
                    schema.get("properties").is_some()
                } else {
                    schema.get("type").is_some_and(|kind| !kind.is_null())
                }
            })
        };
        let mut schemas = self
            .request
            .tools
            .iter()
            .filter_map(|tool| tool.parameters.as_ref());
        if self.own_protocol || schemas.all(is_complete) {
            return;
        }
        for tool in &mut self.request.to_mut().tools {
            if let Some(Value::Object(schema)) = &mut tool.parameters {
                if schema.get("type").is_none_or(Value::is_null) {
                    schema.insert("type".to_owned(), "object".into());
                }
                if schema["type"] == "object" && !schema.contains_key("properties") {
                    schema.insert("properties".to_owned(), Map::new().into());
                }
            }
        }
    }

    /// A schema that cannot be enforced strictly is sent without that wish.
    fn relax_strict_schemas(&mut self) {
        let tools = self.request.tools.iter().enumerate();
        let relaxed: Vec<usize> = tools
            .filter(|(_, tool)| {
                let schema = tool.parameters.as_ref();
                tool.strict == Some(true) && !schema.is_none_or(is_strict)
            })
            .map(|(at, _)| at)
            .collect();
        for at in relaxed {
            self.request.to_mut().tools[at].strict = None;
            self.changes.add(&format!("tools[{at}]"));
        }
        if let Some(ResponseFormat::Schema {
            schema,
            strict: Some(true),
            ..
        }) = &self.request.response_format
            && !is_strict(schema)
            && let Some(ResponseFormat::Schema { strict, .. }) =
                &mut self.request.to_mut().response_format
        {
            *strict = None;
            self.changes.add("response_format");
        }
    }

    /// Replaces a forced call by an instruction to the model. If the client names a tool, only that tool is
    /// offered.
    fn force_call_by_instruction(&mut self) {
        let words = match &self.request.tool_choice {
            Some(ToolChoice::Required) if !self.request.tools.is_empty() => {
                "Answer with a call of one of the tools.".to_owned()
            }
            Some(ToolChoice::Function(name)) => {
                let name = name.clone();
                if !self.request.tools.iter().any(|tool| tool.name == name) {
                    // The wire refuses it.
                    return;
                }
                self.request.to_mut().tools.retain(|tool| tool.name == name);
                format!("Answer with a call of the tool `{name}`.")
            }
            _ => return,
        };
        self.request.to_mut().tool_choice = Some(ToolChoice::Auto);
        self.changes.add("tool_choice");
        self.instruct(words);
    }

    pub(super) fn adapt_settings(&mut self) {
        self.adapt_sampling();
        self.adapt_bounds();
        self.adapt_format();
        self.adapt_hints();
    }

    fn adapt_sampling(&mut self) {
        if let Some(temperature) = self.request.temperature
            && !(0.0..=self.limits.temperature).contains(&temperature)
        {
            let fitted = temperature.clamp(0.0, self.limits.temperature);
            self.request.to_mut().temperature = Some(fitted);
            self.changes.add("temperature");
        }
        let (low, high) = self.limits.top_p;
        if let Some(top_p) = self.request.top_p
            && !(low..=high).contains(&top_p)
        {
            self.request.to_mut().top_p = Some(top_p.clamp(low, high));
            self.changes.add("top_p");
        }
        let (temperature, top_p) = (self.request.temperature, self.request.top_p);
        let sampling = self.rule.sampling;
        if temperature.is_some() && sampling == Sampling::Neither {
            self.request.to_mut().temperature = None;
            self.changes.add("temperature");
        }
        let excludes_top_p = match sampling {
            Sampling::Both => false,
            Sampling::One => temperature.is_some(),
            Sampling::Neither => true,
        };
        if top_p.is_some() && excludes_top_p {
            self.request.to_mut().top_p = None;
            self.changes.add("top_p");
        }
    }

    fn adapt_bounds(&mut self) {
        // The config knows a model better than its name says.
        let longest = self.rule.longest().map_or(u64::MAX, |known| {
            known.max(self.settings.max_tokens.unwrap_or(0))
        });
        match self.request.max_tokens {
            Some(bound) => {
                let fitted = bound.min(longest).max(self.limits.min_max_tokens);
                if fitted != bound {
                    self.request.to_mut().max_tokens = Some(fitted);
                    self.changes.add("max_tokens");
                }
            }
            // If nothing is known, the wire has a default.
            None if self.limits.requires_max_tokens => {
                let bound = self.settings.max_tokens.or(self.rule.max_tokens);
                if bound.is_some() {
                    self.request.to_mut().max_tokens = bound;
                }
            }
            None => {}
        }
        let is_blank = |stop: &String| stop.trim().is_empty();
        if !self.limits.blank_stops && self.request.stop.iter().any(is_blank) {
            self.request.to_mut().stop.retain(|stop| !is_blank(stop));
            self.changes.add("stop");
        }
    }

    /// A format that the API lacks becomes an instruction.
    fn adapt_format(&mut self) {
        let words = match &self.request.response_format {
            None | Some(ResponseFormat::Text) => return,
            Some(ResponseFormat::Json) if !self.limits.json_object => {
                "Answer with one JSON object only, without any other text and without a code fence."
                    .to_owned()
            }
            Some(ResponseFormat::Json) if self.excludes_format() => {
                "When you answer with text, answer with one JSON object only, without any other text and without a code fence."
                    .to_owned()
            }
            Some(ResponseFormat::Schema { schema, .. })
                if self.excludes_format() || !self.rule.schemas =>
            {
                format!(
                "When you answer with text, answer with one JSON value only, without any other text and without a code fence. It must be valid against this JSON Schema: {schema}"
                )
            }
            Some(_) => return,
        };
        self.request.to_mut().response_format = None;
        self.changes.add("response_format");
        self.instruct(words);
    }

    fn excludes_format(&self) -> bool {
        !self.limits.format_with_tools && !self.request.tools.is_empty()
    }

    /// Hints that the API lacks. The wires leave them out, so only their names are needed.
    fn adapt_hints(&mut self) {
        let length = |user: &String| user.chars().count();
        let too_long = self
            .request
            .user
            .as_ref()
            .is_some_and(|user| length(user) > self.limits.user);
        if too_long {
            let user = self.request.to_mut().user.take();
            // The same user gets the same name.
            let user = user.filter(|_| self.limits.user > 0);
            self.request.to_mut().user = user.map(|user| hash(&user));
            self.changes.add("user");
        }
        let hints = [
            ("seed", self.request.seed.is_some(), self.limits.seed),
            (
                "metadata",
                self.request.metadata.is_some(),
                self.limits.metadata,
            ),
            (
                "parallel_tool_calls",
                self.request.parallel_tool_calls == Some(false),
                self.limits.parallel_calls,
            ),
        ];
        for (name, is_set, is_known) in hints {
            if is_set && !is_known {
                self.changes.add(name);
            }
        }
    }
}

/// Whether all objects of a schema require all of their properties and allow no others, as OpenAI demands
/// of a strict schema: <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Array(list) => list.iter().all(is_strict),
        Value::Object(members) => {
            let properties = members.get("properties").and_then(Value::as_object);
            let is_object = properties.is_some() || schema["type"] == "object";
            let required = members.get("required").and_then(Value::as_array);
            let required = required.into_iter().flatten().filter_map(Value::as_str);
            let required: HashSet<&str> = required.collect();
            let requires = |name: &String| required.contains(name.as_str());
            let is_closed = !is_object
                || (schema["additionalProperties"] == false
                    && properties.is_none_or(|properties| properties.keys().all(requires)));
            is_closed && members.values().all(is_strict)
        }
        _ => true,
    }
}
