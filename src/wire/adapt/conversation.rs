//! Messages that fit an API.

use serde_json::{Map, Value, json};

use super::names::fit;
use super::{Changes, Pass};
use crate::model::{Media, Message, Part, Role};
use crate::wire::limits::Limits;

/// Stands before a conversation that begins with the assistant, where the API requires the user's turn
/// first.
const OPENING: &str = "(The conversation begins with a message of the assistant.)";

/// The member that holds the arguments of a call whose JSON is broken: an answer that was cut in the
/// middle of the call, mostly.
const BROKEN_ARGUMENTS: &str = "incomplete_arguments";

impl Pass<'_> {
    pub(super) fn adapt_conversation(&mut self) {
        if self
            .request
            .messages
            .iter()
            .any(|message| self.must_change(message))
        {
            self.change_messages();
        }
        let first = self
            .request
            .messages
            .iter()
            .position(|message| message.role != Role::System);
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
                self.change_part(part, &message.field, &mut moved);
            }
            changed.push(message);
        }
        changed.extend(moved);
        self.request.to_mut().messages = changed;
    }

    fn change_part(&mut self, part: &mut Part, field: &str, moved: &mut Option<Message>) {
        match part {
            Part::ToolCall {
                id,
                name,
                arguments,
            } => {
                // The client's own names and ids come back to it, so these are no changes for it.
                self.names.change(name, self.limits.tool_name);
                *id = fit(id, self.limits.call_id).into_owned();
                if !is_object(arguments) {
                    repair_arguments(arguments, field, &mut self.changes);
                }
            }
            Part::ToolResult { id, content, .. } => {
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

/// Whether the arguments of a call are a JSON object, as all APIs that parse them require.
fn is_object(arguments: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(arguments).is_ok()
}

fn repair_arguments(arguments: &mut String, field: &str, changes: &mut Changes) {
    if arguments.trim().is_empty() {
        "{}".clone_into(arguments);
        return;
    }
    changes.add(field);
    *arguments = json!({ BROKEN_ARGUMENTS: arguments }).to_string();
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
    use crate::model::MediaSource::Inline;
    matches!(&media.source, Inline { media_type, .. } if media_type.starts_with("image/"))
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
