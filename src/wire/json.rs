//! JSON as vendors send it: borrowed where it can be, and forgiving about types that do not matter.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use super::parse::parse;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A string that is borrowed from its frame unless it contains an escape. A number is the text that it
/// is written as; anything else is read as an empty string. (`Option<Cow<str>>` would always copy: serde
/// borrows only in a field of that very type.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a field; `None` for one that is absent, null or empty.
pub(super) fn non_empty<'a>(field: &'a Option<Text<'_>>) -> Option<&'a str> {
    field
        .as_ref()
        .map(Text::as_str)
        .filter(|text| !text.is_empty())
}

/// The items of a list in a rare field; a value that is no such list has no items.
pub(super) fn list<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Vec<T> {
    parse(raw.get()).unwrap_or_default()
}

/// A list of objects that mostly has one item: that one needs no memory of its own, which counts
/// where every token comes in such a list. One object alone is a list of it; what is no object is
/// left out.
#[derive(Debug)]
pub(super) struct ShortList<T> {
    first: Option<T>,
    others: Vec<T>,
}

impl<T> ShortList<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.others)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<T> Default for ShortList<T> {
    fn default() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ShortList<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShortListVisitor(PhantomData))
    }
}

/// An object; nothing where the value is none.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// The members of an object in their order, duplicates included.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            members.push((name.0, value));
        }
        Ok(Members(members))
    }
}

/// A position: a whole number, which some vendors write as a text. Nothing where it is neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Index(pub(super) Option<i64>);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(from)?;
        let number = text.as_str().trim_ascii();
        let number = number.strip_suffix(".0").unwrap_or(number);
        Ok(Self(number.parse().ok()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor)
    }
}

/// A token count: a whole number, which some vendors write as a float. Anything else is no count:
/// what is negative, has a fraction, or is beyond what every JSON reader counts exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count(pub(super) Option<u64>);

/// 2^53 - 1 (RFC 8259, section 6).
const MAX_COUNT: u64 = (1 << 53) - 1;

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CountVisitor)
    }
}

/// A tool call's arguments: a string that is JSON, or, at some servers, the JSON itself.
pub(super) enum Arguments<'a> {
    Text(Text<'a>),
    Json(String),
}

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?;
        if raw.get().starts_with('"') {
            return parse(raw.get())
                .map(Self::Text)
                .map_err(serde::de::Error::custom);
        }
        Ok(Self::Json(raw.get().to_owned()))
    }
}

impl Arguments<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text.as_str(),
            Self::Json(json) => json,
        }
    }
}

/// The valid count of two cumulative ones: the newer, unless it is missing or a zero. Some vendors send
/// zeros in later messages.
pub(super) fn newest_count(older: Option<Count>, newer: Option<Count>) -> Option<Count> {
    match newer {
        Some(Count(Some(1..))) => newer,
        _ if older.is_some_and(|older| older.0.is_some()) => older,
        _ => newer,
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(Value::from(number).to_string())))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::default())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::default())
    }
}

struct ShortListVisitor<T>(PhantomData<T>);
struct ObjectVisitor<T>(PhantomData<T>);

/// The methods of a visitor that reads nothing from a scalar.
macro_rules! ignore_scalars {
    ($nothing:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

pub(super) use ignore_scalars;

impl<'de, T: Deserialize<'de>> Visitor<'de> for ShortListVisitor<T> {
    type Value = ShortList<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = ShortList::default();
        while let Some(Object(item)) = seq.next_element()? {
            match item {
                Some(item) if list.first.is_none() => list.first = Some(item),
                item => list.others.extend(item),
            }
        }
        Ok(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(ShortList {
            first: Some(T::deserialize(MapAccessDeserializer::new(map))?),
            others: Vec::new(),
        })
    }
    ignore_scalars!(ShortList::default());
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    ignore_scalars!(None);
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Count((count <= MAX_COUNT).then_some(count)))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        // A JSON reader gives only what is negative so.
        Ok(Count(None))
    }
    fn visit_f64<E>(self, count: f64) -> Result<Self::Value, E> {
        let whole = count.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&count);
        Ok(Count(whole.then_some(count as u64)))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Count(None))
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Count(None))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Count(None))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Item {
        n: Option<Index>,
    }

    #[test]
    fn a_zero_replaces_no_count() {
        let count = |count| Some(Count(Some(count)));
        assert_eq!(newest_count(count(3), count(5)), count(5));
        assert_eq!(newest_count(count(3), count(0)), count(3));
        assert_eq!(newest_count(count(3), Some(Count(None))), count(3));
        assert_eq!(newest_count(count(3), None), count(3));
        assert_eq!(newest_count(None, count(0)), count(0));
        assert_eq!(newest_count(Some(Count(None)), count(0)), count(0));
    }

    #[test]
    fn a_short_list_holds_the_objects_of_any_value() {
        for (json, numbers) in [
            ("[]", &[][..]),
            (r#"[{"n":1}]"#, &[Some(1)]),
            (
                r#"[{"n":1},{"n":"2"},{"n":3.0}]"#,
                &[Some(1), Some(2), Some(3)],
            ),
            (r#"[null,{"n":1},"x",[{}],{"n":"x"}]"#, &[Some(1), None]),
            (r#"{"n":1}"#, &[Some(1)]),
            ("null", &[]),
            ("7", &[]),
            (r#""x""#, &[]),
        ] {
            let list: ShortList<Item> = parse(json).unwrap();
            let read: Vec<_> = list.iter().map(|item| item.n.and_then(|n| n.0)).collect();
            assert_eq!(read, numbers, "{json}");
            assert_eq!(list.is_empty(), numbers.is_empty(), "{json}");
        }
        assert!(parse::<ShortList<Item>>("[1").is_err());
    }

    #[test]
    fn a_number_is_the_text_that_it_is_written_as() {
        for (json, text) in [
            ("6", "6"),
            ("-1", "-1"),
            ("6.5", "6.5"),
            ("true", ""),
            ("null", ""),
        ] {
            assert_eq!(parse::<Text<'_>>(json).unwrap().as_str(), text);
        }
    }

    #[test]
    fn only_a_count_is_a_count() {
        for (json, count) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1.2e1", Some(12)),
            ("9007199254740991", Some(9_007_199_254_740_991)),
            ("9007199254740992", None),
            ("18446744073709551615", None),
            ("18446744073709551616", None),
            ("1e30", None),
            ("-1", None),
            ("-0.5", None),
            ("1.5", None),
            ("true", None),
            (r#""12""#, None),
            ("null", None),
            ("[12]", None),
            (r#"{"count":12}"#, None),
        ] {
            assert_eq!(parse::<Count>(json).ok(), Some(Count(count)), "{json}");
        }
    }
}
