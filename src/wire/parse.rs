//! JSON as a type, where only an object is read as a struct.
//!
//! Serde's derive also reads a list as a struct, its items as the fields in the order of their
//! declaration, so that nonsense could become an answer. [`parse`] requires an object for every struct
//! at every depth.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor,
};

/// Reads one whole JSON text.
///
/// # Errors
/// For JSON that does not parse, or is something else than `T`.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<T> {
    let mut from = serde_json::Deserializer::from_str(json);
    let value = T::deserialize(StrictObjects(&mut from))?;
    from.end()?;
    Ok(value)
}

/// Passes everything on, and asks for a map where a struct is wanted.
struct StrictObjects<T>(T);

/// The methods that need no more than to be passed on.
macro_rules! forward {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.0.$method(StrictObjects(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for StrictObjects<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_map(StrictObjects(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        // Also how raw JSON is asked for.
        self.0
            .deserialize_newtype_struct(name, StrictObjects(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_unit_struct(name, StrictObjects(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_tuple(length, StrictObjects(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0
            .deserialize_tuple_struct(name, length, StrictObjects(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0
            .deserialize_enum(name, variants, StrictObjects(visitor))
    }

    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq
        deserialize_map deserialize_identifier deserialize_ignored_any
    }
}

/// The methods that take a value as it is.
macro_rules! forward_value {
    ($($method:ident: $value:ty),* $(,)?) => {$(
        fn $method<E: Error>(self, value: $value) -> Result<Self::Value, E> {
            self.0.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for StrictObjects<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    forward_value! {
        visit_bool: bool,
        visit_i64: i64,
        visit_u64: u64,
        visit_f64: f64,
        visit_str: &str,
        visit_borrowed_str: &'de str,
        visit_string: String,
        visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8],
        visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.visit_some(StrictObjects(from))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.visit_newtype_struct(StrictObjects(from))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        self.0.visit_seq(StrictObjects(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(StrictObjects(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<Self::Value, A::Error> {
        self.0.visit_enum(variant)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for StrictObjects<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        self.0.next_element_seed(StrictObjects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for StrictObjects<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, Self::Error> {
        self.0.next_value_seed(StrictObjects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for StrictObjects<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(StrictObjects(from))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::parse;
    use crate::wire::json::{Count, Text};

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Outer<'a> {
        #[serde(borrow)]
        text: Option<Text<'a>>,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
        any: Option<Value>,
        count: Option<Count>,
        #[serde(borrow)]
        inner: Option<Vec<Inner<'a>>>,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Inner<'a> {
        #[serde(borrow)]
        text: Option<Text<'a>>,
        number: u64,
    }

    #[test]
    fn objects_are_read_as_ever() {
        let json = r#" {"new":[1,{}],"text":"a","raw":[1, {"b":[]}],"any":{"c":[1,"x",null]},
            "count":3.0,"inner":[{"number":7,"text":"\n"},{"text":null}]} "#;
        let outer: Outer<'_> = parse(json).unwrap();
        assert!(matches!(
            outer.text,
            Some(Text(std::borrow::Cow::Borrowed("a")))
        ));
        assert_eq!(outer.raw.map(RawValue::get), Some(r#"[1, {"b":[]}]"#));
        assert_eq!(
            outer.any,
            serde_json::from_str(r#"{"c":[1,"x",null]}"#).ok()
        );
        assert_eq!(outer.count, Some(Count(Some(3))));
        let inner = outer.inner.unwrap();
        assert_eq!(inner[0].number, 7);
        assert_eq!(inner[0].text.as_ref().map(Text::as_str), Some("\n"));
        assert!(inner[1].text.is_none());
        assert!(parse::<Option<Outer<'_>>>("null").unwrap().is_none());
    }

    #[test]
    fn a_list_is_no_object() {
        for json in [
            "[]",
            r#"["a"]"#,
            r#"{"inner":[[]]}"#,
            r#"{"inner":[["a",7]]}"#,
            r#"{"inner":[{},["a",7]]}"#,
            "7",
            r#""a""#,
            "null",
            "{} {}",
            r#"{"text":"a""#,
        ] {
            assert!(parse::<Outer<'_>>(json).is_err(), "{json}");
        }
    }
}
