//! For `deserialize_with`: fields whose type does not matter. A value of another type is read as absent,
//! so that it does not break an answer. Only what an answer depends on is typed strictly. The fields need
//! `default` too.

use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::{Index, Object, ShortList};
use super::parse::parse;

/// An object.
pub(super) fn lenient_object<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Object::deserialize(from).map(|object| object.0)
}

/// A list of objects, or one object.
pub(super) fn lenient_list<'de, T, D>(from: D) -> Result<Option<ShortList<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let raw = <&RawValue>::deserialize(from)?;
    let is_list = raw.get().starts_with(['[', '{']);
    Ok(parse(raw.get()).ok().filter(|_| is_list))
}

/// A position: a whole number, or one in a string.
pub(super) fn lenient_index<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let index = Index::deserialize(from)?;
    Ok(index.0.and_then(|index| u64::try_from(index).ok()))
}

/// A flag: `true` or `"true"`.
pub(super) fn lenient_flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(raw.get().trim_matches('"') == "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{Text, non_empty};

    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Fields<'a> {
        #[serde(borrow, deserialize_with = "lenient_object")]
        object: Option<Inner<'a>>,
        #[serde(borrow, deserialize_with = "lenient_list")]
        list: Option<ShortList<Inner<'a>>>,
        #[serde(deserialize_with = "lenient_index")]
        index: Option<u64>,
        #[serde(deserialize_with = "lenient_flag")]
        flag: bool,
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
            let json =
                format!(r#"{{"object":{value},"list":{value},"index":{value},"flag":{value}}}"#);
            let fields: Fields<'_> = parse(&json).unwrap();
            let is_object = value.starts_with('{');
            assert_eq!(fields.object.is_some(), is_object, "{value}");
            let is_list = is_object || value.starts_with('[');
            assert_eq!(fields.list.is_some(), is_list, "{value}");
            let items = fields.list.iter().flat_map(ShortList::iter).count();
            assert_eq!(items, usize::from(is_object), "{value}");
            assert_eq!(fields.index, (value == "7").then_some(7), "{value}");
            assert_eq!(fields.flag, value == "true", "{value}");
        }
        let json =
            r#"{"object":{"text":"a"},"list":[null,{"text":"b"},7,{}],"index":"12","flag":"true"}"#;
        let fields: Fields<'_> = parse(json).unwrap();
        let text = fields
            .object
            .as_ref()
            .and_then(|inner| non_empty(&inner.text));
        assert_eq!(text, Some("a"));
        assert_eq!(fields.list.iter().flat_map(ShortList::iter).count(), 2);
        assert_eq!((fields.index, fields.flag), (Some(12), true));
    }
}
