//! Streamed arguments: values with JSON paths, joined to one JSON text.
//!
//! Vertex AI sends the arguments of a call as `partialArgs` if `streamFunctionCallArguments` is set.
//! The model writes the arguments from start to end, so each value can be appended to the text so
//! far. A value for a place that is already complete cannot, and is an error.

use std::collections::HashSet;

/// Writes the arguments of one call.
#[derive(Debug, Default)]
pub(super) struct ArgumentsWriter {
    /// The path of the last value.
    path: Vec<Step>,
    /// The open containers. `containers[n]` holds the step `path[n]`.
    containers: Vec<Container>,
    leaf: Leaf,
}

/// A value to write.
#[derive(Debug, Clone, Copy)]
pub(super) enum PartialValue<'a> {
    /// The next piece of a string.
    String(&'a str),
    /// A number, `true`, `false` or `null`.
    Literal(&'a str),
}

/// The value has a path that is not a JSON path, or cannot be appended to the text so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidPath;

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(u64),
}

#[derive(Debug)]
enum Container {
    /// The keys written so far.
    Object(HashSet<String>),
    /// The last index.
    Array(Option<u64>),
}

/// The last value.
#[derive(Debug, Default)]
enum Leaf {
    #[default]
    None,
    /// A string without its closing quote, since more pieces may follow.
    String,
    Literal(String),
}

/// Bounds the work per value.
const MAX_DEPTH: usize = 64;

impl ArgumentsWriter {
    /// Whether no value has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// Appends a value to `out`. Pieces of a string have the same path. A part without a value only
    /// marks the end of a string.
    pub(super) fn write(
        &mut self,
        path: &str,
        value: Option<PartialValue<'_>>,
        out: &mut String,
    ) -> Result<(), InvalidPath> {
        let path = parse_path(path).ok_or(InvalidPath)?;
        let Some(value) = value else {
            return Ok(());
        };
        if path == self.path {
            return self.continue_leaf(value, out);
        }
        self.enter(path, out)?;
        self.leaf = match value {
            PartialValue::String(text) => {
                out.push('"');
                push_escaped(text, out);
                Leaf::String
            }
            PartialValue::Literal(text) => {
                out.push_str(text);
                Leaf::Literal(text.to_owned())
            }
        };
        Ok(())
    }

    /// Completes the text.
    pub(super) fn finish(&mut self, out: &mut String) {
        if self.is_empty() {
            out.push_str("{}");
        }
        self.close_containers(0, out);
    }

    fn continue_leaf(&self, value: PartialValue<'_>, out: &mut String) -> Result<(), InvalidPath> {
        match (&self.leaf, value) {
            (Leaf::String, PartialValue::String(text)) => push_escaped(text, out),
            (Leaf::Literal(last), PartialValue::Literal(text)) if last == text => {}
            // An empty string ends a value of any type.
            (Leaf::Literal(_), PartialValue::String("")) => {}
            _ => return Err(InvalidPath),
        }
        Ok(())
    }

    /// Closes the containers that do not hold `path` and opens those that do.
    fn enter(&mut self, path: Vec<Step>, out: &mut String) -> Result<(), InvalidPath> {
        let pairs = self.path.iter().zip(&path);
        let common = pairs.take_while(|(last, next)| last == next).count();
        let is_inside_the_last_value = common == self.path.len() && !self.is_empty();
        if common == path.len() || is_inside_the_last_value {
            return Err(InvalidPath);
        }
        if self.is_empty() {
            out.push('{');
            self.containers.push(Container::Object(HashSet::new()));
        }
        self.close_containers(common + 1, out);
        for (depth, step) in path.iter().enumerate().skip(common) {
            if depth > common {
                self.containers.push(match step {
                    Step::Key(_) => {
                        out.push('{');
                        Container::Object(HashSet::new())
                    }
                    Step::Index(_) => {
                        out.push('[');
                        Container::Array(None)
                    }
                });
            }
            let container = self.containers.last_mut().ok_or(InvalidPath)?;
            container.add(step, out)?;
        }
        self.path = path;
        Ok(())
    }

    /// Closes the last value and all containers but the outer `count`.
    fn close_containers(&mut self, count: usize, out: &mut String) {
        if matches!(std::mem::take(&mut self.leaf), Leaf::String) {
            out.push('"');
        }
        for container in self
            .containers
            .drain(count.min(self.containers.len())..)
            .rev()
        {
            out.push(match container {
                Container::Object(_) => '}',
                Container::Array(_) => ']',
            });
        }
    }
}

impl Container {
    /// Writes what precedes the value of a new member or item.
    fn add(&mut self, step: &Step, out: &mut String) -> Result<(), InvalidPath> {
        match (self, step) {
            (Self::Object(keys), Step::Key(key)) => {
                if !keys.insert(key.clone()) {
                    return Err(InvalidPath);
                }
                if keys.len() > 1 {
                    out.push(',');
                }
                out.push('"');
                push_escaped(key, out);
                out.push_str("\":");
            }
            (Self::Array(last), Step::Index(index)) => {
                if last.is_some_and(|last| last >= *index) {
                    return Err(InvalidPath);
                }
                if last.replace(*index).is_some() {
                    out.push(',');
                }
            }
            _ => return Err(InvalidPath),
        }
        Ok(())
    }
}

/// The steps of a path such as `$.a['b'][0]` (RFC 9535, singular queries). The first one is a key,
/// since arguments are an object.
fn parse_path(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.trim_ascii().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let step;
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (key, behind) = name.split_at(end);
            step = Step::Key(key.to_owned());
            rest = behind;
            if key.is_empty() {
                return None;
            }
        } else {
            (step, rest) = parse_bracket(rest.strip_prefix('[')?)?;
        }
        steps.push(step);
        if steps.len() > MAX_DEPTH {
            return None;
        }
    }
    matches!(steps.first(), Some(Step::Key(_))).then_some(steps)
}

/// The step in brackets at the start of `inside`, and the rest after the closing bracket.
fn parse_bracket(inside: &str) -> Option<(Step, &str)> {
    let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let Some(quote) = quote else {
        let (index, rest) = inside.split_once(']')?;
        return Some((Step::Index(index.trim_ascii().parse().ok()?), rest));
    };
    let mut key = String::new();
    let mut chars = inside[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => key.push('\n'),
                't' => key.push('\t'),
                'r' => key.push('\r'),
                'b' => key.push('\u{8}'),
                'f' => key.push('\u{c}'),
                'u' => {
                    let mut code = 0;
                    for _ in 0..4 {
                        code = code * 16 + chars.next()?.1.to_digit(16)?;
                    }
                    key.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                other => key.push(other),
            },
            c if c == quote => {
                let rest = inside[1 + at + c.len_utf8()..].strip_prefix(']')?;
                return Some((Step::Key(key), rest));
            }
            c => key.push(c),
        }
    }
    None
}

/// Appends `text` as the inside of a JSON string.
fn push_escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && c.is_ascii() => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The text of some values; every prefix of it is checked to be final.
    fn write(values: &[(&str, PartialValue<'_>)]) -> Result<String, InvalidPath> {
        let mut writer = ArgumentsWriter::default();
        let mut out = String::new();
        for (path, value) in values {
            writer.write(path, Some(*value), &mut out)?;
        }
        writer.finish(&mut out);
        assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
        Ok(out)
    }

    use PartialValue::{Literal, String as Piece};

    #[test]
    fn values_in_order_become_one_json_text() {
        assert_eq!(write(&[]).as_deref(), Ok("{}"));
        let text = write(&[
            ("$.city", Piece("Ri")),
            ("$.city", Piece("ga \"")),
            ("$.city", Piece("")),
            ("$['a b'].days[0].high", Literal("3.5")),
            ("$['a b'].days[0].low", Literal("null")),
            ("$[\"a b\"].days[1].high", Literal("-1")),
            ("$['a b'].notes[0]", Piece("\n")),
            ("$['a b'].notes[1]", Piece("x")),
            ("$.last", Literal("true")),
        ]);
        assert_eq!(
            text.as_deref(),
            Ok(
                r#"{"city":"Riga \"","a b":{"days":[{"high":3.5,"low":null},{"high":-1}],"notes":["\n","x"]},"last":true}"#
            )
        );
    }

    #[test]
    fn values_for_a_complete_place_are_refused() {
        for values in [
            [
                ("$.a", Piece("1")),
                ("$.b", Piece("2")),
                ("$.a", Piece("3")),
            ],
            [
                ("$.a.b", Piece("1")),
                ("$.c", Piece("2")),
                ("$.a.d", Piece("3")),
            ],
            [
                ("$.a[1]", Piece("1")),
                ("$.a[0]", Piece("2")),
                ("$.a[2]", Piece("3")),
            ],
            [
                ("$.a", Piece("1")),
                ("$.a.b", Piece("2")),
                ("$.c", Piece("3")),
            ],
            [
                ("$.a.b", Piece("1")),
                ("$.a", Piece("2")),
                ("$.c", Piece("3")),
            ],
            [
                ("$.a.b", Piece("1")),
                ("$.a[0]", Piece("2")),
                ("$.c", Piece("3")),
            ],
            [
                ("$.a", Literal("1")),
                ("$.a", Literal("2")),
                ("$.c", Piece("3")),
            ],
        ] {
            assert_eq!(write(&values), Err(InvalidPath), "{values:?}");
        }
    }

    #[test]
    fn paths_are_read_in_every_notation() {
        let key = |key: &str| Step::Key(key.to_owned());
        for (path, steps) in [
            ("$.a", Some(vec![key("a")])),
            ("$.ä-1[0]", Some(vec![key("ä-1"), Step::Index(0)])),
            (r"$['it\'s'].b", Some(vec![key("it's"), key("b")])),
            (
                r#"$["\u00e4\\"][12]"#,
                Some(vec![key("ä\\"), Step::Index(12)]),
            ),
            ("$", None),
            ("$[0]", None),
            ("a", None),
            ("$.", None),
            ("$.a[", None),
            ("$.a[x]", None),
            ("$['a", None),
            ("$['a'", None),
        ] {
            assert_eq!(parse_path(path), steps, "{path}");
        }
        let deep = format!("${}", ".a".repeat(MAX_DEPTH + 1));
        assert_eq!(parse_path(&deep), None);
    }
}
