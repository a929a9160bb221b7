//! Reads settings off the tree, and notes every problem with its line and path instead of
//! stopping at the first.

use std::collections::HashSet;

use secrecy::SecretString;

use super::problem::Problem;
use super::tree::{Node, ScalarKind, Value, join};

/// Collects what is wrong while the file is read.
pub struct Reader {
    source: String,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// A value and where it is.
#[derive(Clone)]
pub struct Field<'a> {
    pub path: String,
    /// The line to look at: a scalar's own, a section's name's.
    pub line: u64,
    node: &'a Node,
}

/// A map with known keys.
pub struct Section<'a> {
    /// Where the section itself is, for what it lacks.
    pub field: Field<'a>,
    fields: Vec<(&'a str, Field<'a>)>,
}

impl<'a> Field<'a> {
    pub fn root(node: &'a Node) -> Self {
        Self {
            path: String::new(),
            line: node.line.max(1),
            node,
        }
    }

    fn new(path: String, key_line: u64, node: &'a Node) -> Self {
        let line = match node.value {
            Value::Scalar(_) => node.line,
            Value::Null | Value::List(_) | Value::Map(_) => key_line,
        };
        Self { path, line, node }
    }

    /// The place of a key that this section does not have.
    pub fn missing(&self, key: &str) -> Self {
        Self {
            path: join(&self.path, key),
            ..self.clone()
        }
    }

    /// Whether the file has nothing here, or a string that is or became empty.
    pub fn is_blank(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(scalar) => scalar.text.as_deref() == Some(""),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// The text as the file has it, if this is one.
    fn source(&self) -> &'a str {
        match &self.node.value {
            Value::Scalar(scalar) => &scalar.source,
            Value::Null | Value::List(_) | Value::Map(_) => "",
        }
    }
}

impl<'a> Section<'a> {
    pub fn get(&self, key: &str) -> Option<&Field<'a>> {
        self.fields
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, field)| field)
    }
}

impl Reader {
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub fn add_problem(&mut self, at: &Field<'_>, message: impl Into<String>) {
        let problem = self.note(at, message.into());
        self.problems.push(problem);
    }

    pub fn add_warning(&mut self, at: &Field<'_>, message: impl Into<String>) {
        let warning = self.note(at, message.into());
        self.warnings.push(warning);
    }

    fn note(&self, at: &Field<'_>, message: String) -> Problem {
        Problem {
            source: self.source.clone(),
            line: Some(at.line),
            path: at.path.clone(),
            message,
        }
    }

    /// A map that may have no keys but these. Nothing at all is an empty map.
    pub fn section<'a>(&mut self, field: &Field<'a>, known: &[&str]) -> Section<'a> {
        let mut fields = self.entries(field);
        fields.retain(|(key, field)| {
            let is_known = known.contains(key);
            if !is_known {
                let message = match closest_name(key, known.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key; keys here: {}", known.join(", ")),
                };
                self.add_problem(field, message);
            }
            is_known
        });
        Section {
            field: field.clone(),
            fields,
        }
    }

    /// A map whose keys are names. Nothing at all is an empty map.
    pub fn entries<'a>(&mut self, field: &Field<'a>) -> Vec<(&'a str, Field<'a>)> {
        let entries = match &field.node.value {
            Value::Null => return Vec::new(),
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => {
                self.add_problem(field, format!("must be a map, not {}", field.node.kind()));
                return Vec::new();
            }
        };
        let mut seen = HashSet::new();
        let mut fields = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = join(&field.path, &entry.key);
            if seen.insert(entry.key.as_str()) {
                let inner = Field::new(path, entry.line, &entry.node);
                fields.push((entry.key.as_str(), inner));
            } else {
                let again = Field {
                    path,
                    line: entry.line,
                    node: &entry.node,
                };
                self.add_problem(&again, "is there twice");
            }
        }
        fields
    }

    /// A list. Nothing at all is not an empty list: an empty one has to be written as `[]`.
    pub fn items<'a>(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = &field.node.value else {
            self.add_problem(field, format!("must be a list, not {}", field.node.kind()));
            return None;
        };
        let fields = items
            .iter()
            .enumerate()
            .map(|(index, node)| Field::new(format!("{}[{index}]", field.path), node.line, node));
        Some(fields.collect())
    }

    /// A string that is not empty and has no control characters.
    pub fn text<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        if let Value::Scalar(scalar) = &field.node.value
            && scalar.kind != ScalarKind::String
        {
            let kind = field.node.kind();
            self.add_problem(
                field,
                format!("must be a string, not {kind}: put it in quotes"),
            );
            return None;
        }
        let text = self.scalar(field)?;
        if text.is_empty() {
            self.add_problem(field, "is empty");
            return None;
        }
        if text.contains(char::is_control) {
            self.add_problem(field, "has a control character in it");
            return None;
        }
        Some(text)
    }

    /// A string that must never be printed. An empty one is as good as none.
    pub fn secret(&mut self, field: &Field<'_>) -> Option<SecretString> {
        if field.is_blank() {
            return None;
        }
        self.text(field).map(SecretString::from)
    }

    /// A scalar in a notation of its own. `parse` says what it takes in its error:
    /// "a duration such as `5s`".
    pub fn parse<T>(
        &mut self,
        field: &Field<'_>,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        match parse(self.scalar(field)?) {
            Ok(value) => Some(value),
            Err(expected) => {
                let source = field.source();
                self.add_problem(field, format!("`{source}` is not {expected}"));
                None
            }
        }
    }

    /// The setting `key` of a section, or `default` where it is absent or bad.
    pub fn setting<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> T {
        section
            .get(key)
            .and_then(|field| self.parse(field, parse))
            .unwrap_or(default)
    }

    /// Reports a name that is none of `known`.
    pub fn add_unknown_name<'k>(
        &mut self,
        field: &Field<'_>,
        what: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        let source = field.source();
        let all = known.clone().collect::<Vec<_>>().join(", ");
        let all = if all.is_empty() { "none" } else { &all };
        let hint = closest_name(source, known)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        self.add_problem(field, format!("no {what} `{source}`; {what}s: {all}{hint}"));
    }

    fn scalar<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        match &field.node.value {
            Value::Scalar(scalar) => scalar.text.as_deref(),
            Value::Null => {
                self.add_problem(field, "has no value");
                None
            }
            Value::List(_) | Value::Map(_) => {
                let kind = field.node.kind();
                self.add_problem(field, format!("must be a single value, not {kind}"));
                None
            }
        }
    }
}

/// The name that was probably meant.
pub fn closest_name<'k>(typed: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}
