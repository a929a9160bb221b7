//! Messages that fit an API.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::de::IgnoredAny;
use serde_json::json;

use super::Pass;
use super::names::fit;
use crate::model::{Media, MediaSource, Message, Part, Role};
use crate::wire::limits::Limits;

/// Stands before a conversation that begins with the assistant, where the API requires the user's turn
/// first.
const OPENING: &str = "(The conversation begins with a message of the assistant.)";

/// The member that holds the arguments of a call whose JSON is broken: an answer that was cut in the
/// middle of the call, mostly.
const BROKEN_ARGUMENTS: &str = "incomplete_arguments";

impl Pass<'_> {
    pub(super) fn adapt_conversation(&mut self) {
        self.name_changes_of_wires();
        let messages = &self.request.messages;
        if messages.iter().any(|message| self.must_change(message)) || self.repeats_ids() {
            self.change_messages();
        }
        let messages = self.request.messages.iter();
        let first = messages
            .clone()
            .position(|message| message.role != Role::System && has_content(message));
        if let (true, Some(first)) = (self.limits.begins_with_user, first)
            && self.request.messages[first].role == Role::Assistant
        {
            let field = self.request.messages[first].field.clone();
            self.changes.add(&field);
            let opening = Message {
                field,
                role: Role::User,
                content: vec![Part::Text(OPENING.to_owned())],
            };
            self.request.to_mut().messages.insert(first, opening);
        }
        // These vendors also refuse white space at the end of an answer that has begun.
        if let (true, Some(last)) = (self.limits.begins_with_user, self.request.messages.last())
            && last.role == Role::Assistant
            && let Some(Part::Text(text)) = last.content.last()
            && text.ends_with(char::is_whitespace)
            && let Some(last) = self.request.to_mut().messages.last_mut()
            && let Some(Part::Text(text)) = last.content.last_mut()
        {
            text.truncate(text.trim_end().len());
            self.changes.add(&last.field);
        }
    }

    /// Names what the wire itself leaves out or makes up.
    fn name_changes_of_wires(&mut self) {
        let mut has_calls = false;
        for message in &self.request.messages {
            for part in &message.content {
                has_calls |= matches!(part, Part::ToolCall { .. });
                if changed_by_wire(part, &self.limits) {
                    self.changes.add(&message.field);
                }
            }
        }
        if has_calls && self.limits.requires_called_tools && self.request.tools.is_empty() {
            self.changes.add("tools");
        }
    }

    /// Whether two calls have the same id, which some vendors give in each turn and others refuse.
    fn repeats_ids(&self) -> bool {
        if self.own_protocol {
            return false;
        }
        let parts = self
            .request
            .messages
            .iter()
            .flat_map(|message| &message.content);
        let mut known = HashSet::new();
        parts
            .filter_map(|part| match part {
                Part::ToolCall { id, .. } => Some(id),
                _ => None,
            })
            .any(|id| id.is_empty() || !known.insert(id))
    }

    fn must_change(&self, message: &Message) -> bool {
        message.content.iter().any(|part| match part {
            Part::CachePoint => !self.limits.cache_points,
            Part::ToolCall {
                id,
                name,
                arguments,
            } => {
                !self.limits.call_id.accepts(id)
                    || !self.limits.tool_name.accepts(name)
                    || !is_object(arguments)
            }
            Part::ToolResult { id, content, .. } => {
                !self.limits.call_id.accepts(id)
                    || content.iter().any(|part| !fits_result(part, &self.limits))
            }
            _ => false,
        })
    }

    fn change_messages(&mut self) {
        let messages = std::mem::take(&mut self.request.to_mut().messages);
        let mut changed = Vec::with_capacity(messages.len() + 1);
        // Media of results, which follow the last result in a turn of the user.
        let mut moved: Option<Message> = None;
        let mut ids = CallIds::default();
        for mut message in messages {
            if message.role != Role::Tool {
                changed.extend(moved.take());
            }
            if !self.limits.cache_points {
                let parts = message.content.len();
                message
                    .content
                    .retain(|part| !matches!(part, Part::CachePoint));
                if message.content.len() < parts {
                    self.changes.add("cache_control");
                }
            }
            for part in &mut message.content {
                self.change_part(part, &message.field, &mut ids, &mut moved);
            }
            changed.push(message);
        }
        changed.extend(moved);
        self.request.to_mut().messages = changed;
    }

    fn change_part(
        &mut self,
        part: &mut Part,
        field: &str,
        ids: &mut CallIds,
        moved: &mut Option<Message>,
    ) {
        match part {
            Part::ToolCall {
                id,
                name,
                arguments,
            } => {
                // The client's own names and ids come back to it, so these are no changes for it.
                self.names.change(name, self.limits.tool_name);
                if !self.own_protocol {
                    *id = ids.call(id);
                }
                *id = fit(id, self.limits.call_id).into_owned();
                if let Some(repaired) = repaired(arguments) {
                    if !arguments.trim().is_empty() {
                        self.changes.add(field);
                    }
                    *arguments = repaired;
                }
            }
            Part::ToolResult { id, content, .. } => {
                if !self.own_protocol {
                    *id = ids.result(id);
                }
                if leave_out_files(content, &self.limits) {
                    self.changes.add(field);
                }
                let media = take_media(content, &self.limits);
                if !media.is_empty() {
                    self.changes.add(field);
                    let message = moved.get_or_insert_with(|| Message {
                        field: field.to_owned(),
                        role: Role::User,
                        content: Vec::new(),
                    });
                    let words = format!("The content of the result of the tool call {id}:");
                    message.content.push(Part::Text(words));
                    message.content.extend(media);
                }
                *id = fit(id, self.limits.call_id).into_owned();
            }
            _ => {}
        }
    }
}

/// Makes the ids of calls unique, and gives results the id of their call.
#[derive(Default)]
struct CallIds {
    /// By the client's id: the last number that was added to it, and the new ids of those without a result.
    seen: HashMap<String, (usize, VecDeque<String>)>,
    /// All new ids.
    used: HashSet<String>,
}

impl CallIds {
    fn call(&mut self, id: &str) -> String {
        let (count, open) = self.seen.entry(id.to_owned()).or_default();
        let mut unique = id.to_owned();
        while unique.is_empty() || !self.used.insert(unique.clone()) {
            *count += 1;
            unique = format!("{id}_{count}");
        }
        open.push_back(unique.clone());
        unique
    }

    fn result(&mut self, id: &str) -> String {
        let open = self.seen.get_mut(id).map(|(_, open)| open);
        let call = open.and_then(VecDeque::pop_front);
        call.unwrap_or_else(|| id.to_owned())
    }
}

/// Whether a message has something that vendors accept.
fn has_content(message: &Message) -> bool {
    message.content.iter().any(|part| match part {
        Part::Text(text) => !text.trim().is_empty(),
        Part::CachePoint => false,
        _ => true,
    })
}

/// Whether the wire leaves the part out or adds a name to it.
fn changed_by_wire(part: &Part, limits: &Limits) -> bool {
    match part {
        Part::Text(text) => !limits.blank_texts && text.trim().is_empty(),
        Part::File(media) => {
            let is_inline = matches!(media.source, MediaSource::Inline { .. });
            limits.requires_file_names && is_inline && media.name.is_none()
        }
        Part::ToolResult { content, .. } => {
            content.iter().any(|part| changed_by_wire(part, limits))
        }
        _ => false,
    }
}

/// A file in a result stays in the conversation for good, so a model that accepts none gets a text.
fn leave_out_files(content: &mut [Part], limits: &Limits) -> bool {
    let mut any = false;
    for part in content {
        if let Part::File(media) = part
            && !limits.files
            && !is_image(media)
        {
            *part = Part::Text("[A file was left out: this model accepts none.]".to_owned());
            any = true;
        }
    }
    any
}

/// Whether the arguments of a call are a JSON object, as all APIs that parse them require.
fn is_object(arguments: &str) -> bool {
    serde_json::from_str::<HashMap<String, IgnoredAny>>(arguments).is_ok()
}

/// An object in place of arguments that are none; `None` for an object.
pub(super) fn repaired(arguments: &str) -> Option<String> {
    if arguments.trim().is_empty() {
        return Some("{}".to_owned());
    }
    let broken = || json!({ BROKEN_ARGUMENTS: arguments }).to_string();
    (!is_object(arguments)).then(broken)
}

/// Whether a tool's result may hold the part.
fn fits_result(part: &Part, limits: &Limits) -> bool {
    match part {
        Part::Image(_) => limits.images_in_results,
        Part::File(media) if is_image(media) => limits.images_in_results,
        Part::File(_) => limits.files_in_results,
        _ => true,
    }
}

fn is_image(media: &Media) -> bool {
    matches!(&media.source, MediaSource::Inline { media_type, .. } if media_type.starts_with("image/"))
}

/// Takes the media that must not stand in the result, and leaves a text that says where they are.
fn take_media(content: &mut [Part], limits: &Limits) -> Vec<Part> {
    let mut media = Vec::new();
    for part in content.iter_mut().filter(|part| !fits_result(part, limits)) {
        let words = match part {
            Part::Image(_) => "[The image is in the next message of the user.]",
            _ => "[The file is in the next message of the user.]",
        };
        media.push(std::mem::replace(part, Part::Text(words.to_owned())));
    }
    media
}
