//! Fields whose type does not matter: vendors send numbers as text, lists as objects, and empty values of
//! any type in unused fields. Only what an answer depends on is typed strictly.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// For `deserialize_with`: an object. A value of another type is read as absent, so that a field of the
/// wrong type does not break an answer. The field needs `default` too.
pub(super) fn lenient_object<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_any(LenientVisitor(PhantomData::<One<T>>))
}

/// As [`lenient_object`], for a list of objects. Items of other types are left out; an object in place
/// of a list is its only item.
pub(super) fn lenient_list<'de, T, D>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_any(LenientVisitor(PhantomData::<Many<T>>))
}

/// As [`lenient_object`], for an index: a whole number, or one in a string.
pub(super) fn lenient_index<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    from.deserialize_any(LenientVisitor(PhantomData::<Index>))
}

/// As [`lenient_object`], for a flag: `true` or `"true"`.
pub(super) fn lenient_flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let flag = from.deserialize_any(LenientVisitor(PhantomData::<Flag>))?;
    Ok(flag.unwrap_or_default())
}

/// Whether a field has content: vendors send `null`, `false`, `""`, `{}` and `[]` in unused fields.
pub(super) fn has_content(field: Option<&RawValue>) -> bool {
    field.is_some_and(|raw| {
        let is_blank = |c: char| c.is_ascii_whitespace();
        let compact: String = raw
            .get()
            .chars()
            .filter(|c| !is_blank(*c))
            .take(6)
            .collect();
        !matches!(compact.as_str(), "null" | "false" | "\"\"" | "{}" | "[]")
    })
}

/// How one kind of lenient field reads the types that it accepts.
trait Lenient<'de> {
    type Value;
    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self::Value>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn list<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self::Value>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn text(_: &str) -> Option<Self::Value> {
        None
    }
    fn number(_: u64) -> Option<Self::Value> {
        None
    }
    fn boolean(_: bool) -> Option<Self::Value> {
        None
    }
}

struct One<T>(PhantomData<T>);
struct Many<T>(PhantomData<T>);
struct Index;
struct Flag;

impl<'de, T: Deserialize<'de>> Lenient<'de> for One<T> {
    type Value = T;
    fn object<A: MapAccess<'de>>(map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

impl<'de, T: Deserialize<'de>> Lenient<'de> for Many<T> {
    type Value = Vec<T>;
    fn object<A: MapAccess<'de>>(map: A) -> Result<Option<Vec<T>>, A::Error> {
        Ok(One::<T>::object(map)?.map(|item| vec![item]))
    }
    fn list<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Vec<T>>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Item<T>>()? {
            items.extend(item.0);
        }
        Ok(Some(items))
    }
}

impl Lenient<'_> for Index {
    type Value = u64;
    fn text(text: &str) -> Option<u64> {
        text.trim_ascii().parse().ok()
    }
    fn number(number: u64) -> Option<u64> {
        Some(number)
    }
}

impl Lenient<'_> for Flag {
    type Value = bool;
    fn text(text: &str) -> Option<bool> {
        text.trim_ascii().parse().ok()
    }
    fn boolean(flag: bool) -> Option<bool> {
        Some(flag)
    }
}

/// An item of a lenient list.
struct Item<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        lenient_object(from).map(Self)
    }
}

struct LenientVisitor<L>(PhantomData<L>);

impl<'de, L: Lenient<'de>> Visitor<'de> for LenientVisitor<L> {
    type Value = Option<L::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        L::object(map)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        L::list(seq)
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(L::text(text))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(L::number(number))
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(L::boolean(flag))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{Text, non_empty};
    use crate::wire::parse::parse;

    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Fields<'a> {
        #[serde(borrow, deserialize_with = "lenient_object")]
        object: Option<Inner<'a>>,
        #[serde(borrow, deserialize_with = "lenient_list")]
        list: Option<Vec<Inner<'a>>>,
        #[serde(deserialize_with = "lenient_index")]
        index: Option<u64>,
        #[serde(deserialize_with = "lenient_flag")]
        flag: bool,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
    }

    #[derive(serde::Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        text: Option<Text<'a>>,
    }

    #[test]
    fn lenient_fields_read_other_types_as_absent() {
        for value in [
            "null",
            "true",
            "7",
            "-7",
            "1.5",
            r#""x""#,
            "[]",
            "[[]]",
            "{}",
            r#"{"text":[]}"#,
        ] {
            let json = format!(
                r#"{{"object":{value},"list":{value},"index":{value},"flag":{value},"raw":{value}}}"#
            );
            let fields: Fields<'_> = parse(&json).unwrap();
            assert_eq!(fields.object.is_some(), value.starts_with('{'), "{value}");
            let items = fields.list.map_or(0, |list| list.len());
            assert_eq!(items, usize::from(value.starts_with('{')), "{value}");
            assert_eq!(fields.index, (value == "7").then_some(7), "{value}");
            assert_eq!(fields.flag, value == "true", "{value}");
            assert_eq!(
                has_content(fields.raw),
                !matches!(value, "null" | "[]" | "{}"),
                "{value}"
            );
        }
        let json =
            r#"{"object":{"text":"a"},"list":[null,{"text":"b"},7,{}],"index":"12","flag":"true"}"#;
        let fields: Fields<'_> = parse(json).unwrap();
        let text = fields
            .object
            .as_ref()
            .and_then(|inner| non_empty(&inner.text));
        assert_eq!(text, Some("a"));
        assert_eq!(fields.list.map_or(0, |list| list.len()), 2);
        assert_eq!((fields.index, fields.flag), (Some(12), true));
    }
}
