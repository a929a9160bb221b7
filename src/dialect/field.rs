//! Access to the fields of a request's JSON, so that every error names the field as the client
//! wrote it: `messages[2].content[0].source.type`.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::reserved;
use crate::model::{Error, ErrorCode, NativeFields, ReasoningSigner};

/// A value and its path in the body.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) value: &'a Value,
    place: Place<'a>,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Body,
    Member(&'a Field<'a>, &'a str),
    Element(&'a Field<'a>, usize),
}

/// Parses a request's body, which must be an object.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`] for anything else.
pub(super) fn parse_body(body: &[u8]) -> Result<Value, Error> {
    let invalid = |words: String| Error::new(ErrorCode::InvalidRequest, words);
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(invalid("the body must be a JSON object".to_owned())),
        Err(error) => Err(invalid(format!("the body is not JSON: {error}"))),
    }
}

/// The parts of a request that only its own protocol can express.
#[derive(Debug, Default)]
pub(super) struct NativeOnly {
    /// The names of the parts whose loss would change what the client gets, in the client's own words.
    pub(super) fields: Vec<String>,
    /// The names of those that a request to another protocol can do without.
    pub(super) optional: Vec<String>,
    /// How many bytes of text are in all of them.
    pub(super) bytes: usize,
}

impl NativeOnly {
    pub(super) fn add(&mut self, field: &Field<'_>) {
        self.fields.push(field.to_string());
        self.bytes += text_length(field.value);
    }

    pub(super) fn add_optional(&mut self, field: &Field<'_>) {
        self.optional.push(field.to_string());
        self.bytes += text_length(field.value);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.fields.append(&mut other.fields);
        self.optional.append(&mut other.optional);
        self.bytes += other.bytes;
    }
}

/// The client's whole body, for an upstream of its protocol. `body` is its text, unless `value` differs
/// from it. `own` are the members whose words are in the rest of the request, `settings` the others that
/// the dialect parses, `native_only` what it could not parse.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`], naming a member that only the gateway may set.
pub(super) fn native_fields(
    wire: &'static str,
    body: Option<&Bytes>,
    value: Value,
    own: &[&str],
    settings: &[&str],
    native_only: NativeOnly,
) -> Result<NativeFields, Error> {
    let mut fields = match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    reserved::check_members(&fields, own)?;
    // The gateway sets these two.
    fields.remove("model");
    fields.remove("stream");
    let others = fields
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()));
    let NativeOnly {
        fields: indispensable,
        mut optional,
        mut bytes,
    } = native_only;
    let refused: HashSet<&str> = indispensable.iter().map(String::as_str).collect();
    for (name, value) in others {
        bytes += text_length(value);
        let is_known = settings.contains(&name.as_str()) || refused.contains(name.as_str());
        if !is_known && !value.is_null() {
            optional.push(name.clone());
        }
    }
    Ok(NativeFields {
        wire,
        body: verbatim_body(body),
        fields,
        complete: true,
        verbatim: true,
        uncounted: bytes,
        indispensable,
        optional,
        ..NativeFields::default()
    })
}

/// The body for a verbatim request. None if it contains signatures that the gateway tagged, because
/// the tags must be removed from it.
pub(super) fn verbatim_body(body: Option<&Bytes>) -> Option<Bytes> {
    body.filter(|body| !ReasoningSigner::occurs_in(body))
        .cloned()
}

/// The length of a JSON text that a model reads, without the bytes of images and files, which
/// vendors count otherwise.
pub(super) fn text_length(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
        Value::String(text) => inline_media_length(text).unwrap_or(text.len() + 2),
        Value::Array(items) => items.iter().map(|item| text_length(item) + 1).sum(),
        Value::Object(members) => {
            let members = members.iter();
            let lengths = members.map(|(name, value)| name.len() + 4 + text_length(value));
            lengths.sum()
        }
    }
}

/// What an image or a file counts for in place of its base64, in bytes of text.
fn inline_media_length(text: &str) -> Option<usize> {
    const SHORTEST: usize = 1024;
    const COUNTED: usize = 4000;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    let is_media =
        text.starts_with("data:") || (text.len() >= SHORTEST && text.bytes().all(is_base64));
    is_media.then_some(text.len().min(COUNTED))
}

/// Parses a whole object into a type.
///
/// # Errors
/// [`ErrorCode::InvalidRequest`], naming the wrong member.
pub(super) fn parse_object<T: DeserializeOwned>(object: &Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let path = error.path().to_string();
        Error::invalid(&path, error.into_inner())
    })
}

impl<'a> Field<'a> {
    pub(super) fn body(value: &'a Value) -> Self {
        Self {
            value,
            place: Place::Body,
        }
    }

    /// A member of an object; none if it is null, or if the value is not an object.
    pub(super) fn get(&'a self, name: &'a str) -> Option<Field<'a>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        let place = Place::Member(self, name);
        Some(Field { value, place })
    }

    pub(super) fn require(&'a self, name: &'a str) -> Result<Field<'a>, Error> {
        self.get(name).ok_or_else(|| {
            let place = Place::Member(self, name);
            Error::invalid(&place.to_string(), "required")
        })
    }

    pub(super) fn text(&self) -> Result<&'a str, Error> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    pub(super) fn count(&self) -> Result<u64, Error> {
        let count = self.value.as_u64().filter(|count| *count > 0);
        count.ok_or_else(|| self.expected("a whole number of at least 1"))
    }

    /// The number of that name, where there is one.
    pub(super) fn number_of(&'a self, name: &'a str) -> Result<Option<f64>, Error> {
        let number = |member: Field<'_>| {
            let number = member.value.as_f64();
            number.ok_or_else(|| member.expected("a number"))
        };
        self.get(name).map(number).transpose()
    }

    pub(super) fn members(&self) -> Result<&'a Map<String, Value>, Error> {
        let members = self.value.as_object();
        members.ok_or_else(|| self.expected("an object"))
    }

    /// The elements of a list.
    pub(super) fn elements(&'a self) -> Result<impl Iterator<Item = Field<'a>>, Error> {
        let Value::Array(list) = self.value else {
            return Err(self.expected("a list"));
        };
        Ok(list.iter().enumerate().map(move |(at, value)| Field {
            value,
            place: Place::Element(self, at),
        }))
    }

    /// Checks that the member of that name is a list of objects, where there is one, and each of
    /// them with `check`.
    pub(super) fn each_object(
        &'a self,
        name: &'a str,
        check: impl Fn(&Field<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(list) = self.get(name) else {
            return Ok(());
        };
        for element in list.elements()? {
            element.members()?;
            check(&element)?;
        }
        Ok(())
    }

    /// Checks that the members of those names are objects, where there are any.
    pub(super) fn objects(&'a self, names: &[&'a str]) -> Result<(), Error> {
        for name in names {
            if let Some(member) = self.get(name) {
                member.members()?;
            }
        }
        Ok(())
    }

    /// The object's `type`.
    pub(super) fn kind(&'a self) -> Result<&'a str, Error> {
        self.require("type")?.text()
    }

    /// The boolean member of that name, where there is one.
    pub(super) fn bool_of(&'a self, name: &'a str) -> Result<Option<bool>, Error> {
        let flag = |member: Field<'_>| {
            let flag = member.value.as_bool();
            flag.ok_or_else(|| member.expected("true or false"))
        };
        self.get(name).map(flag).transpose()
    }

    /// The string of that name, where there is one.
    pub(super) fn text_of(&'a self, name: &'a str) -> Result<Option<String>, Error> {
        let text = self.get(name).map(|member| member.text()).transpose()?;
        Ok(text.map(str::to_owned))
    }

    /// The member of that name, which must be a string.
    pub(super) fn required_text(&'a self, name: &'a str) -> Result<String, Error> {
        Ok(self.require(name)?.text()?.to_owned())
    }

    /// The member of that name, which must be a string that is not empty.
    pub(super) fn required_name(&'a self, name: &'a str) -> Result<String, Error> {
        let member = self.require(name)?;
        match member.text()? {
            "" => Err(member.invalid("must not be empty")),
            text => Ok(text.to_owned()),
        }
    }

    pub(super) fn invalid(&self, problem: impl fmt::Display) -> Error {
        Error::invalid(&self.to_string(), problem)
    }

    fn expected(&self, what: &str) -> Error {
        self.invalid(format_args!("must be {what}"))
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => Ok(()),
            Self::Element(list, at) => write!(f, "{list}[{at}]"),
            Self::Member(object, name) => match object.place {
                Self::Body => f.write_str(name),
                _ => write!(f, "{object}.{name}"),
            },
        }
    }
}
