//! Settings that this version reads and checks, but does not act on yet.
//!
//! One row each; when a setting comes into force, its row goes.

use super::problem::Problem;
use super::tree::{Node, Value, join};
use super::unit;

struct Pending {
    /// The key's path; `*` is any name or index.
    path: &'static [&'static str],
    /// Whether a value asks for more than this version does.
    asks: fn(&str) -> bool,
    message: &'static str,
}

const PENDING: &[Pending] = &[Pending {
    path: &["models", "*", "targets", "*", "weight"],
    asks: |text| unit::parse_small_count(text).is_ok_and(|weight| weight != 1),
    message: "weights are not in force in this version: targets of equal priority are tried in order",
}];

/// Adds a warning for every setting in the file that is not in force.
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
