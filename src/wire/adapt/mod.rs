//! Adapts a request to what an API accepts, so that what is legal at the client's API does not fail at
//! another one. What would change the meaning is left to the wire, which refuses it.
//!
//! | file | does |
//! |---|---|
//! | `names` | names of tools and ids of calls |
//! | `conversation` | messages: calls, results, media |
//! | `own_words` | the same for messages and tools that go upstream in the client's own JSON |
//! | `settings` | sampling, bounds, formats, forced calls |
//! | `reasoning` | how much a model may think |

mod conversation;
mod names;
mod own_words;
mod reasoning;
mod settings;

use std::borrow::Cow;
use std::collections::HashSet;

pub use names::ToolNames;

use super::Wire;
use super::limits::Limits;
use super::model_rules::{ModelRule, rule};
use crate::model::{Message, Part, ReasoningStyle, Request, Role, Vendor};

/// What the config says about a target, beside its model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetSettings {
    /// How the model takes a setting of its reasoning; otherwise its name decides.
    pub reasoning: Option<ReasoningStyle>,
    /// The bound on the output where the client gives none and the API requires one, in tokens.
    pub max_tokens: Option<u64>,
}

/// A request that fits an API.
#[derive(Debug, Clone)]
pub struct Adapted<'a> {
    pub request: Cow<'a, Request>,
    /// The client's fields that were changed or left out, such as `tools[3]`.
    pub changes: Vec<String>,
    /// For the calls of the answer.
    pub names: ToolNames,
}

impl Adapted<'_> {
    /// The request for `model` at an upstream of `wire`. `client` is the request as the client sent it,
    /// `request` the part of it that the wire gets.
    pub fn new<'a>(
        client: &Request,
        request: Cow<'a, Request>,
        wire: &dyn Wire,
        model: &str,
        vendor: &Vendor,
        settings: TargetSettings,
    ) -> Adapted<'a> {
        let mut pass = Pass {
            limits: wire.limits(model, vendor),
            rule: rule(model),
            settings,
            request,
            own_protocol: false,
            other_protocol: false,
            changes: Changes::default(),
            names: ToolNames::default(),
        };
        match &client.native_fields {
            // The client's own words, which mean the same to the upstream.
            Some(native) if native.wire == wire.name() && native.complete => {}
            Some(native) if native.wire == wire.name() => {
                // They are in the client's own words, which go upstream as they are.
                pass.limits.cache_points = true;
                pass.limits.metadata = true;
                pass.own_protocol = true;
                // The client knows its model.
                pass.rule = ModelRule::UNKNOWN;
                pass.run();
            }
            native => {
                pass.other_protocol = native.is_some();
                for field in native.iter().flat_map(|native| &native.optional) {
                    pass.changes.add(field);
                }
                pass.run();
            }
        }
        Adapted {
            request: pass.request,
            changes: pass.changes.fields,
            names: pass.names,
        }
    }
}

/// The fields that were changed, each once, in the order of the changes.
#[derive(Debug, Default)]
struct Changes {
    fields: Vec<String>,
    known: HashSet<String>,
}

/// More changed fields are not named: nobody reads them.
const MAX_CHANGES: usize = 256;

impl Changes {
    fn add(&mut self, field: &str) {
        if self.fields.len() < MAX_CHANGES && self.known.insert(field.to_owned()) {
            self.fields.push(field.to_owned());
        }
    }
}

/// The state of the adaptation of one request.
struct Pass<'a> {
    limits: Limits,
    rule: ModelRule,
    settings: TargetSettings,
    request: Cow<'a, Request>,
    /// Whether the client speaks the protocol of the wire.
    own_protocol: bool,
    /// Whether the client speaks the protocol of another wire, by which its request is legal.
    other_protocol: bool,
    changes: Changes,
    names: ToolNames,
}

impl Pass<'_> {
    fn run(&mut self) {
        self.adapt_tools();
        self.adapt_conversation();
        self.adapt_settings();
        // Last, because thinking excludes other settings.
        self.adapt_reasoning();
        if self.own_protocol {
            self.adapt_own_words();
        }
    }

    /// Adds an instruction behind the system prompt.
    fn instruct(&mut self, instruction: String) {
        let messages = &mut self.request.to_mut().messages;
        let is_system = |message: &Message| message.role == Role::System;
        let at = messages.iter().position(|message| !is_system(message));
        let message = Message {
            field: "system".to_owned(),
            role: Role::System,
            content: vec![Part::Text(instruction)],
        };
        messages.insert(at.unwrap_or(messages.len()), message);
    }
}
