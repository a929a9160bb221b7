//! Seals on reasoning, and who reads them.
//!
//! A vendor takes its own reasoning back only with the seal that it put on it, and refuses
//! another's. Clients keep seals and send them back with the next turn, which may go to somebody
//! else: so a seal leaves the gateway with a mark of its sealer, and comes in only for that one. A
//! seal without a mark is the client's own, from before it came here: it is for the protocol that
//! the client speaks.

use std::borrow::Cow;

use serde_json::Value;

use super::{Message, Part, Request};

/// What every mark begins with. No vendor's seal does: those are base64.
const GATEWAY: &str = "sluicegate:";

/// The members in which the protocols that are dialect and wire carry a seal: a `thinking` block,
/// a `redacted_thinking` block, a `reasoning` item.
const SEALED: [&str; 3] = ["signature", "data", "encrypted_content"];

/// Somebody who seals reasoning and reads only those seals: a vendor, at one of its protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealer {
    wire: &'static str,
    mark: String,
}

impl Sealer {
    pub fn new(wire: &'static str, vendor: &str) -> Self {
        // A `:` ends the vendor.
        let vendor = vendor.replace('%', "%25").replace(':', "%3A");
        Self {
            wire,
            mark: format!("{GATEWAY}{wire}:{vendor}:"),
        }
    }

    /// What stands before each piece of this sealer's seals in the hands of clients, who join
    /// pieces.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The request with this sealer's seals as it made them, and without what others sealed: it
    /// would be refused.
    pub fn open<'a>(&self, mut request: Cow<'a, Request>) -> Cow<'a, Request> {
        let native = request.native_fields.as_ref();
        let own = native.is_some_and(|native| native.wire == self.wire);
        let sealed = |part: &Part| self.changed(part, own).is_some();
        let parts = |message: &Message| message.content.iter().any(sealed);
        if request.messages.iter().any(parts) {
            for message in &mut request.to_mut().messages {
                message.content = std::mem::take(&mut message.content)
                    .into_iter()
                    .filter_map(|part| match self.changed(&part, own) {
                        Some(changed) => changed,
                        None => Some(part),
                    })
                    .collect();
            }
            let messages = &mut request.to_mut().messages;
            messages.retain(|message| !message.content.is_empty());
        }
        if request.extra.values().any(is_marked) {
            for value in request.to_mut().extra.values_mut() {
                self.keep(value);
            }
        }
        request
    }

    /// What becomes of a part that cannot stay as it is.
    fn changed(&self, part: &Part, own: bool) -> Option<Option<Part>> {
        match part {
            Part::Reasoning {
                text,
                signature: Some(seal),
            } => match self.read(seal, own) {
                Some(Cow::Borrowed(_)) => None,
                Some(Cow::Owned(seal)) => Some(Some(Part::Reasoning {
                    text: text.clone(),
                    signature: Some(seal),
                })),
                // Some upstreams take reasoning without a seal.
                None if text.is_empty() => Some(None),
                None => Some(Some(Part::Reasoning {
                    text: text.clone(),
                    signature: None,
                })),
            },
            Part::SealedReasoning(seal) => match self.read(seal, own) {
                Some(Cow::Borrowed(_)) => None,
                seal => Some(seal.map(|seal| Part::SealedReasoning(seal.into_owned()))),
            },
            _ => None,
        }
    }

    /// The seal as its maker wrote it, if that is this one.
    fn read<'a>(&self, seal: &'a str, own: bool) -> Option<Cow<'a, str>> {
        if !seal.contains(GATEWAY) {
            return own.then_some(Cow::Borrowed(seal));
        }
        let read = seal.replace(&self.mark, "");
        (!read.contains(GATEWAY)).then_some(Cow::Owned(read))
    }

    /// Does the same in a client's own words. Whether `value` can stay.
    fn keep(&self, value: &mut Value) -> bool {
        match value {
            Value::Array(list) => {
                let before = list.len();
                list.retain_mut(|element| self.keep(element));
                // A turn of nothing else is no turn.
                before == 0 || !list.is_empty()
            }
            Value::Object(members) => members.iter_mut().all(|(name, value)| match value {
                Value::String(seal) if SEALED.contains(&name.as_str()) => {
                    match self.read(seal, true).map(Cow::into_owned) {
                        Some(read) => *seal = read,
                        None => return false,
                    }
                    true
                }
                value => self.keep(value),
            }),
            _ => true,
        }
    }
}

/// Whether there is a marked seal somewhere in it.
fn is_marked(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(is_marked),
        Value::Object(members) => members.iter().any(|(name, value)| match value {
            Value::String(seal) => SEALED.contains(&name.as_str()) && seal.contains(GATEWAY),
            value => is_marked(value),
        }),
        _ => false,
    }
}
