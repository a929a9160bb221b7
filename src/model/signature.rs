//! Signatures of reasoning, and which upstream accepts them.
//!
//! A vendor accepts its own reasoning only with its own signature, and refuses the signature of another
//! vendor. Clients keep signatures and send them back with the next turn, which may go to another
//! upstream. So the gateway puts a tag of the signer before each signature on its way to the client, and
//! sends a signature only to that signer. A signature without a tag is from before the client used the
//! gateway: it belongs to the protocol that the client speaks.
//!
//! Some vendors serve the same models and accept each other's signatures: they are a family. Where all
//! targets of a model are of one family, and the client speaks the protocol of one of them, signatures
//! get no tag.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::Value;

use super::{Message, Part, Request};

/// The beginning of every origin tag. No vendor's signature begins so, because signatures are base64.
const TAG_PREFIX: &str = "sluicegate:";

/// Where requests and answers of a protocol hold signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignatureMembers {
    /// The members whose string is a signature.
    pub names: &'static [&'static str],
    /// The members that exist only to hold signatures. Where a signature cannot stay, the nearest of them
    /// is removed; without one, the part of the message, or the message.
    pub carriers: &'static [&'static str],
}

impl SignatureMembers {
    /// Whether there is a signature somewhere in `value`.
    pub fn are_in(self, value: &Value) -> bool {
        match value {
            Value::Array(list) => list.iter().any(|element| self.are_in(element)),
            Value::Object(members) => members.iter().any(|(name, value)| match value {
                Value::String(text) => self.names.contains(&name.as_str()) && !text.is_empty(),
                value => self.are_in(value),
            }),
            _ => false,
        }
    }

    /// Puts `tag` before every signature.
    fn tag(self, value: &mut Value, tag: &str) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|element| self.tag(element, tag)),
            Value::Object(members) => {
                let members = members.iter_mut();
                members.for_each(|(name, value)| self.tag_member(name, value, tag));
            }
            _ => {}
        }
    }

    fn tag_member(self, name: &str, value: &mut Value, tag: &str) {
        match value {
            Value::String(text) => {
                if self.names.contains(&name) && !text.is_empty() {
                    text.insert_str(0, tag);
                }
            }
            value => self.tag(value, tag),
        }
    }
}

/// A vendor at one of its protocols, which signs reasoning and accepts only its own signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasoningSigner {
    wire: &'static str,
    members: SignatureMembers,
    origin_tag: String,
    /// The origin tags of the family, its own included, and their wires. Empty without a family.
    family: Vec<(String, &'static str)>,
}

impl ReasoningSigner {
    pub fn new(wire: &'static str, vendor: &str) -> Self {
        Self {
            wire,
            members: SignatureMembers::default(),
            origin_tag: origin_tag(wire, vendor),
            family: Vec::new(),
        }
    }

    /// A signer that puts no tag before signatures.
    pub fn without_tag() -> Self {
        Self {
            wire: "",
            members: SignatureMembers::default(),
            origin_tag: String::new(),
            family: Vec::new(),
        }
    }

    /// Signatures of these vendors, at their wires, are accepted too.
    #[must_use]
    pub fn with_family(mut self, vendors: &[(&'static str, &str)]) -> Self {
        let tags = vendors
            .iter()
            .map(|(wire, vendor)| (origin_tag(wire, vendor), *wire));
        self.family = tags.collect();
        self
    }

    /// The signer for a model that does not share the signatures of the family.
    #[must_use]
    pub fn without_family(&self) -> Self {
        Self {
            family: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether `other` accepts the same signatures.
    pub fn is_like(&self, other: &Self) -> bool {
        let mut family = self.family.iter();
        self.origin_tag == other.origin_tag || family.any(|(tag, _)| *tag == other.origin_tag)
    }

    /// Whether a signature without a tag is accepted from a client that speaks the protocol of `wire`.
    pub fn accepts_untagged(&self, wire: &str) -> bool {
        self.wire == wire || self.family.iter().any(|(_, known)| *known == wire)
    }

    /// Requests in the wire's own protocol hold signatures in these members.
    #[must_use]
    pub fn with_members(mut self, members: SignatureMembers) -> Self {
        self.members = members;
        self
    }

    /// Whether a tagged signature may be in a text.
    pub fn occurs_in(text: &[u8]) -> bool {
        memmem::find(text, TAG_PREFIX.as_bytes()).is_some()
    }

    /// The tag before each piece of this signer's signatures on the client's side. Clients join pieces,
    /// so the tag may occur several times in one signature.
    pub fn origin_tag(&self) -> &str {
        &self.origin_tag
    }

    /// A vendor's own members, a JSON object, with the tag before each signature in a carrier.
    pub fn tag_members<'a>(&self, json: &'a str) -> Cow<'a, str> {
        let carriers = self.members.carriers;
        if !carriers.iter().any(|name| json.contains(name)) {
            return Cow::Borrowed(json);
        }
        let Ok(Value::Object(members)) = serde_json::from_str(json) else {
            return Cow::Borrowed(json);
        };
        let tagged = members.into_iter().map(|(name, mut value)| {
            if carriers.contains(&name.as_str()) {
                self.members.tag_member(&name, &mut value, &self.origin_tag);
            }
            (name, value)
        });
        Cow::Owned(tagged.collect::<Value>().to_string())
    }

    /// The request with this signer's signatures as it wrote them, and without the signatures of others,
    /// which the upstream would refuse.
    pub fn verify<'a>(&self, mut request: Cow<'a, Request>) -> Cow<'a, Request> {
        let native = request.native_fields.as_ref();
        let own = native.is_some_and(|native| self.accepts_untagged(native.wire));
        let sealed = |part: &Part| self.replacement(part, own).is_some();
        let parts = |message: &Message| message.content.iter().any(sealed);
        if request.messages.iter().any(parts) {
            for message in &mut request.to_mut().messages {
                message.content = std::mem::take(&mut message.content)
                    .into_iter()
                    .filter_map(|part| match self.replacement(&part, own) {
                        Some(changed) => changed,
                        None => Some(part),
                    })
                    .collect();
            }
            let messages = &mut request.to_mut().messages;
            messages.retain(|message| !message.content.is_empty());
        }
        if request.extra.values().any(|value| self.is_tagged(value)) {
            for value in request.to_mut().extra.values_mut() {
                self.verify_members(value);
            }
        }
        request
    }

    /// What becomes of a part that cannot stay as it is.
    fn replacement(&self, part: &Part, own: bool) -> Option<Option<Part>> {
        match part {
            Part::Reasoning {
                text,
                signature: Some(signature),
            } => match self.verified(signature, own) {
                Some(Cow::Borrowed(_)) => None,
                Some(Cow::Owned(signature)) => Some(Some(Part::Reasoning {
                    text: text.clone(),
                    signature: Some(signature),
                })),
                // Some upstreams take reasoning without a signature.
                None if text.is_empty() => Some(None),
                None => Some(Some(Part::Reasoning {
                    text: text.clone(),
                    signature: None,
                })),
            },
            Part::EncryptedReasoning(signature) => match self.verified(signature, own) {
                Some(Cow::Borrowed(_)) => None,
                signature => Some(
                    signature.map(|signature| Part::EncryptedReasoning(signature.into_owned())),
                ),
            },
            _ => None,
        }
    }

    /// The signature as its maker wrote it, if that is this one.
    fn verified<'a>(&self, signature: &'a str, own: bool) -> Option<Cow<'a, str>> {
        if !signature.contains(TAG_PREFIX) {
            return own.then_some(Cow::Borrowed(signature));
        }
        let mut read = signature.replace(&self.origin_tag, "");
        for (tag, _) in &self.family {
            read = read.replace(tag, "");
        }
        (!read.contains(TAG_PREFIX)).then_some(Cow::Owned(read))
    }

    /// Does the same in a client's own words. Whether `value` can stay.
    fn verify_members(&self, value: &mut Value) -> bool {
        match value {
            Value::Array(list) => {
                let before = list.len();
                list.retain_mut(|element| self.verify_members(element));
                // A turn of nothing else is no turn.
                before == 0 || !list.is_empty()
            }
            Value::Object(members) => {
                let mut can_stay = true;
                members.retain(|name, value| {
                    let verified = self.verify_member(name, value);
                    can_stay &= verified || self.members.carriers.contains(&name.as_str());
                    verified
                });
                can_stay
            }
            _ => true,
        }
    }

    /// Does the same for one member of an object.
    fn verify_member(&self, name: &str, value: &mut Value) -> bool {
        match value {
            Value::String(signature) if self.members.names.contains(&name) => {
                match self.verified(signature, true).map(Cow::into_owned) {
                    Some(read) => *signature = read,
                    None => return false,
                }
                true
            }
            value => self.verify_members(value),
        }
    }

    /// Whether there is a tagged signature somewhere in a client's own words.
    fn is_tagged(&self, value: &Value) -> bool {
        match value {
            Value::Array(list) => list.iter().any(|element| self.is_tagged(element)),
            Value::Object(members) => members.iter().any(|(name, value)| match value {
                Value::String(signature) => {
                    self.members.names.contains(&name.as_str()) && signature.contains(TAG_PREFIX)
                }
                value => self.is_tagged(value),
            }),
            _ => false,
        }
    }
}

fn origin_tag(wire: &str, vendor: &str) -> String {
    // A `:` ends the vendor.
    let vendor = vendor.replace('%', "%25").replace(':', "%3A");
    format!("{TAG_PREFIX}{wire}:{vendor}:")
}
