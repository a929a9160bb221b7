//! Reads settings from the tree and collects every problem with its line and path instead of
//! stopping at the first.

use std::collections::HashSet;

use secrecy::SecretString;

use super::problem::Problem;
use super::schema::Setting;
use super::tree::{Node, ScalarKind, Value, join};

/// Collects problems and warnings while the file is read.
pub struct Reader {
    source: String,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// A value and its place in the file.
#[derive(Clone)]
pub struct Field<'a> {
    pub path: String,
    /// A scalar's own line; for a section, the line of its key.
    pub line: u64,
    node: &'a Node,
}

/// A map with known keys.
pub struct Section<'a> {
    /// The section's own place, for problems about missing keys.
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

    /// The place of a key that this section lacks.
    pub fn missing(&self, key: &str) -> Self {
        Self {
            path: join(&self.path, key),
            ..self.clone()
        }
    }

    /// Whether the file has no value here, or a string that is empty after expansion.
    pub fn is_blank(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(scalar) => scalar.text.as_deref() == Some(""),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// Whether the value is this word.
    pub fn is_word(&self, word: &str) -> bool {
        match &self.node.value {
            Value::Scalar(scalar) => scalar.text.as_deref() == Some(word),
            Value::Null | Value::List(_) | Value::Map(_) => false,
        }
    }

    /// Whether the value is a string or a number, and neither a list nor a map.
    pub fn is_scalar(&self) -> bool {
        matches!(self.node.value, Value::Scalar(_))
    }

    /// The text as written in the file, if this is a scalar.
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

    /// Reads a map with only these settings. An absent value is an empty map.
    pub fn section<'a>(&mut self, field: &Field<'a>, settings: &[Setting]) -> Section<'a> {
        let known: Vec<&str> = settings.iter().map(|setting| setting.name).collect();
        let mut fields = self.entries(field);
        fields.retain(|(key, field)| {
            let is_known = known.contains(key);
            if !is_known {
                let message = match closest_name(key, known.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key; known keys here: {}", known.join(", ")),
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

    /// Reads a map whose keys are names. An absent value is an empty map.
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
                self.add_problem(&again, "is defined twice; remove one of the two");
            }
        }
        fields
    }

    /// Reads a list. An absent value is not an empty list; that must be written as `[]`.
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

    /// Reads a string that is not empty and has no control characters.
    pub fn text<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        if let Value::Scalar(scalar) = &field.node.value
            && scalar.kind != ScalarKind::String
        {
            let kind = field.node.kind();
            self.add_problem(
                field,
                format!("must be a string, not {kind}; put it in quotes"),
            );
            return None;
        }
        let text = self.scalar(field)?;
        if text.is_empty() {
            self.add_problem(field, "must not be empty");
            return None;
        }
        if text.contains(char::is_control) {
            self.add_problem(field, "must not contain control characters");
            return None;
        }
        Some(text)
    }

    /// Reads a string that must never be printed. An empty one counts as absent.
    pub fn secret(&mut self, field: &Field<'_>) -> Option<SecretString> {
        if field.is_blank() {
            return None;
        }
        self.text(field).map(SecretString::from)
    }

    /// Parses a scalar. The error of `parse` is the expected notation: "a duration such as `5s`".
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

    /// Parses the setting `key` of a section; `default` if it is absent or bad.
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

    /// Reports a name that is not in `known`.
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
        self.add_problem(
            field,
            format!("there is no {what} `{source}`; known: {all}{hint}"),
        );
    }

    fn scalar<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        match &field.node.value {
            Value::Scalar(scalar) => scalar.text.as_deref(),
            Value::Null => {
                self.add_problem(field, "has no value; set one or remove the key");
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

/// The known name that was probably meant.
pub fn closest_name<'k>(typed: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}
