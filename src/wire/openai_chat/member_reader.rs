//! Reads the members of a chunk that no event expresses.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::json::{Index, Object, Text, ignore_scalars};

/// The members of a chunk, read in one pass. Of two with the same name the first counts.
#[derive(Default)]
pub(super) struct ChunkMembers<'a> {
    /// Those with names that are not known, as JSON on one line, without the braces.
    pub(super) unknown: String,
    pub(super) usage: Option<&'a RawValue>,
    pub(super) choices: Option<ChoiceList<'a>>,
}

#[derive(Default)]
pub(super) struct ChoiceMembers<'a> {
    pub(super) unknown: String,
    pub(super) index: Option<Index>,
    pub(super) delta: Option<Object<DeltaMembers<'a>>>,
    pub(super) message: Option<Object<DeltaMembers<'a>>>,
}

#[derive(Default)]
pub(super) struct DeltaMembers<'a> {
    pub(super) unknown: String,
    pub(super) calls: Option<&'a RawValue>,
}

#[derive(Default)]
pub(super) struct CallMembers<'a> {
    pub(super) unknown: String,
    pub(super) id: Option<Text<'a>>,
}

/// The choices of a chunk; none for a value that is not a list.
#[derive(Default)]
pub(super) struct ChoiceList<'a>(pub(super) Vec<ChoiceMembers<'a>>);

/// JSON has line ends only between its tokens.
pub(super) fn one_line(json: &str) -> Cow<'_, str> {
    match json.contains(['\n', '\r']) {
        true => Cow::Owned(json.replace(['\n', '\r'], " ")),
        false => Cow::Borrowed(json),
    }
}

/// An object whose members are read one after another.
trait ReadMembers<'de>: Default {
    fn is_known(name: &str) -> bool;

    fn unknown(&mut self) -> &mut String;

    /// Reads the value of a known member. `false` if it is not needed; it was not read then.
    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads a value into a field that is still empty.
fn fill<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut Option<T>,
    map: &mut A,
) -> Result<bool, A::Error> {
    if field.is_some() {
        return Ok(false);
    }
    *field = Some(map.next_value()?);
    Ok(true)
}

impl<'de> ReadMembers<'de> for ChunkMembers<'de> {
    fn is_known(name: &str) -> bool {
        is_known_in_chunk(name)
    }

    fn unknown(&mut self) -> &mut String {
        &mut self.unknown
    }

    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "usage" => fill(&mut self.usage, map),
            "choices" => fill(&mut self.choices, map),
            _ => Ok(false),
        }
    }
}

impl<'de> ReadMembers<'de> for ChoiceMembers<'de> {
    fn is_known(name: &str) -> bool {
        is_known_in_choice(name)
    }

    fn unknown(&mut self) -> &mut String {
        &mut self.unknown
    }

    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "index" => fill(&mut self.index, map),
            "delta" => fill(&mut self.delta, map),
            "message" => fill(&mut self.message, map),
            _ => Ok(false),
        }
    }
}

impl<'de> ReadMembers<'de> for DeltaMembers<'de> {
    fn is_known(name: &str) -> bool {
        is_known_in_delta(name)
    }

    fn unknown(&mut self) -> &mut String {
        &mut self.unknown
    }

    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "tool_calls" => fill(&mut self.calls, map),
            _ => Ok(false),
        }
    }
}

impl<'de> ReadMembers<'de> for CallMembers<'de> {
    fn is_known(name: &str) -> bool {
        is_known_in_call(name)
    }

    fn unknown(&mut self) -> &mut String {
        &mut self.unknown
    }

    fn read<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "id" => fill(&mut self.id, map),
            _ => Ok(false),
        }
    }
}

struct MembersVisitor<T>(PhantomData<T>);

impl<'de, T: ReadMembers<'de>> Visitor<'de> for MembersVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut members = T::default();
        while let Some(Text(name)) = map.next_key()? {
            if !T::is_known(&name) {
                add_member(members.unknown(), &name, map.next_value()?);
            } else if !members.read(&name, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

macro_rules! deserialize_members {
    ($($members:ident)*) => {$(
        impl<'de: 'a, 'a> Deserialize<'de> for $members<'a> {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_map(MembersVisitor::<$members<'de>>(PhantomData))
            }
        }
    )*};
}

deserialize_members!(ChunkMembers ChoiceMembers DeltaMembers CallMembers);

impl<'de: 'a, 'a> Deserialize<'de> for ChoiceList<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ChoiceListVisitor)
    }
}

pub(super) struct ChoiceListVisitor;

impl<'de> Visitor<'de> for ChoiceListVisitor {
    type Value = ChoiceList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Object(choice)) = seq.next_element()? {
            list.push(choice.unwrap_or_default());
        }
        Ok(ChoiceList(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ChoiceList::default())
    }

    ignore_scalars!(ChoiceList::default());
}

fn add_member(json: &mut String, name: &str, value: &RawValue) {
    if !json.is_empty() {
        json.push(',');
    }
    json.push_str(&Value::from(name).to_string());
    json.push(':');
    json.push_str(&one_line(value.get()));
}

/// Whether the decoder reads a member of a chunk, or the gateway writes it itself.
fn is_known_in_chunk(name: &str) -> bool {
    matches!(
        name,
        "choices"
            | "created"
            | "error"
            | "id"
            | "model"
            | "obfuscation"
            | "object"
            | "system_fingerprint"
            | "usage"
    )
}

fn is_known_in_choice(name: &str) -> bool {
    matches!(
        name,
        "delta" | "finish_reason" | "index" | "logprobs" | "message" | "messages" | "usage"
    )
}

fn is_known_in_delta(name: &str) -> bool {
    matches!(
        name,
        "annotations"
            | "content"
            | "extra_content"
            | "function_call"
            | "images"
            | "provider_specific_fields"
            | "reasoning"
            | "reasoning_content"
            | "reasoning_details"
            | "reasoning_opaque"
            | "refusal"
            | "role"
            | "thinking_blocks"
            | "thought_signature"
            | "tool_calls"
    )
}

fn is_known_in_call(name: &str) -> bool {
    matches!(
        name,
        "extra_content"
            | "function"
            | "id"
            | "index"
            | "provider_specific_fields"
            | "thought_signature"
            | "type"
    )
}
