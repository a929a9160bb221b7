//! Settings that are accepted and validated but have no effect in this version.
//!
//! Each has a row. The row is removed when the setting takes effect.

use super::problem::Problem;
use super::tree::{Node, Value, join};
use super::unit;

struct Pending {
    /// The key's path; `*` is any name or index.
    path: &'static [&'static str],
    /// Whether a value asks for something that this version does not do.
    asks: fn(&str) -> bool,
    message: &'static str,
}

const PENDING: &[Pending] = &[Pending {
    path: &["models", "*", "targets", "*", "weight"],
    asks: |text| unit::parse_small_count(text).is_ok_and(|weight| weight != 1),
    message: "has no effect in this version: targets of equal priority are tried in their order",
}];

/// Adds a warning for every such setting in the file.
pub fn warn(root: &Node, source: &str, warnings: &mut Vec<Problem>) {
    for row in PENDING {
        visit(root, row.path, String::new(), &mut |node, path| {
            let asks = match &node.value {
                Value::Scalar(scalar) => scalar.text.as_deref().is_some_and(row.asks),
                Value::Null | Value::List(_) | Value::Map(_) => false,
            };
            if asks {
                warnings.push(Problem {
                    source: source.to_owned(),
                    line: Some(node.line),
                    path,
                    message: row.message.to_owned(),
                });
            }
        });
    }
}

fn visit(node: &Node, steps: &[&str], path: String, found: &mut dyn FnMut(&Node, String)) {
    let Some((step, rest)) = steps.split_first() else {
        return found(node, path);
    };
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                if *step == "*" || *step == entry.key {
                    let path = join(&path, &entry.key);
                    visit(&entry.node, rest, path, found);
                }
            }
        }
        Value::List(items) if *step == "*" => {
            for (index, item) in items.iter().enumerate() {
                visit(item, rest, format!("{path}[{index}]"), found);
            }
        }
        Value::List(_) | Value::Scalar(_) | Value::Null => {}
    }
}
