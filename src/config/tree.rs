//! YAML parsed into a tree whose every value knows its line.
//!
//! Serde's derived structs stop at the first unknown key or bad value; a tree that is read by hand
//! (see `read`) can report them all. Nothing here implements `Debug`: scalars may be secrets.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::mask;

/// The largest config, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The most parser events that all aliases together may add: enough for shared blocks, too few for
/// a file that grows exponentially through aliases of aliases.
const MAX_ALIAS_EVENTS: usize = 20_000;

/// The deepest nesting of values. The deepest setting is at six.
const MAX_DEPTH: usize = 32;

pub struct Node {
    /// The line where the value begins, counted from 1. For an alias, the line where it was
    /// defined, because that is the line to correct.
    pub line: u64,
    pub value: Value,
}

pub enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the file's order, including repeated keys.
    Map(Vec<MapEntry>),
}

pub struct Scalar {
    pub kind: ScalarKind,
    /// As written in the file. Messages may quote this, not [`Self::text`].
    pub source: String,
    /// With every `${…}` expanded; `None` if that failed, which was reported.
    pub text: Option<String>,
}

/// The type of a scalar in YAML.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    String,
    Number,
    Bool,
}

pub struct MapEntry {
    pub key: String,
    pub line: u64,
    pub node: Node,
}

/// Parses one YAML document; an empty one is null.
///
/// # Errors
/// The line, if known, and what does not parse. The text itself is not in the message.
pub fn parse(text: &str) -> Result<Node, (Option<u64>, String)> {
    if text.len() > MAX_BYTES {
        return Err((None, format!("is larger than {MAX_BYTES} bytes")));
    }
    if mask::is_masked(text) {
        return Err((
            None,
            "contains a Unicode noncharacter, which is not allowed".to_owned(),
        ));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_documents: 1 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIAS_EVENTS },
        // Repeated keys are kept in the tree, so that they are reported with all other problems.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `on`, `off`, `yes`, `0123` and the like are strings.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // A snippet would print the lines around the error, including secrets.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(&mask::mask(text), options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        (line, format!("is not valid YAML: {message}"))
    })
}

/// The path of `key` in the map at `path`.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

impl Node {
    /// The type of the value, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::String => "a string",
                ScalarKind::Number => "a number",
                ScalarKind::Bool => "a boolean",
            },
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Scalar {
    fn new(kind: ScalarKind, source: String) -> Self {
        Self {
            kind,
            text: Some(source.clone()),
            source,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.defined.line(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(Scalar::new(
            ScalarKind::Bool,
            value.to_string(),
        )))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(Scalar::new(
            ScalarKind::String,
            mask::unmask(value),
        )))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, node)) = entries.next_entry::<Spanned<String>, Node>()? {
            map.push(MapEntry {
                line: key.defined.line(),
                key: mask::unmask(&key.value),
                node,
            });
        }
        Ok(Value::Map(map))
    }
}

fn number(value: impl fmt::Display) -> Value {
    Value::Scalar(Scalar::new(ScalarKind::Number, value.to_string()))
}
