//! JSON as vendors send it: borrowed where it can be, and forgiving about types that do not matter.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use super::parse::parse;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A string that is borrowed from its frame unless it holds an escape. Anything that is no string
/// is read as an empty one. (`Option<Cow<str>>` would always copy: serde borrows only in a field of
/// that very type.)
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

/// The items of a list in a rare field; one that is no such list holds nothing that is needed.
pub(super) fn list<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Vec<T> {
    parse(raw.get()).unwrap_or_default()
}

/// A list that mostly has one item: that one needs no memory of its own, which counts where every
/// token comes in such a list.
#[derive(Debug)]
pub(super) struct ShortList<T> {
    first: Option<T>,
    others: Vec<T>,
}

impl<T> ShortList<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.others)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ShortList<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(ShortListVisitor(PhantomData))
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
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Text::default())
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

impl<'de, T: Deserialize<'de>> Visitor<'de> for ShortListVisitor<T> {
    type Value = ShortList<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut few = ShortList {
            first: seq.next_element()?,
            others: Vec::new(),
        };
        while let Some(item) = seq.next_element()? {
            few.others.push(item);
        }
        Ok(few)
    }
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

    #[test]
    fn a_list_of_few_is_a_list() {
        for json in ["[]", "[1]", "[1,2]", "[1,2,3,4,5]"] {
            let few: ShortList<u8> = parse(json).unwrap();
            let all: Vec<u8> = parse(json).unwrap();
            assert_eq!(Vec::from_iter(few.iter().copied()), all, "{json}");
        }
        for json in ["[1,\"a\"]", "[1,null]", "1", "{}", "null", "[1"] {
            assert!(parse::<ShortList<u8>>(json).is_err(), "{json}");
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
