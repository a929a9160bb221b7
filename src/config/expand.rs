//! Expands `${VAR}`, `${VAR:-default}`, `${file:/path}` and `$$` in strings.
//!
//! The value of a reference is not expanded again, and is always a string.

use std::fs::{File, Metadata};
use std::io::Read;

use super::problem::Problem;
use super::tree::{Node, Scalar, ScalarKind, Value, join};

/// The largest file that `${file:…}` reads, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands every string under `node` and reports references that cannot be expanded.
pub fn expand(node: &mut Node, env: Environment<'_>, source: &str, problems: &mut Vec<Problem>) {
    expand_at(node, &mut String::new(), env, &mut |path, line, message| {
        problems.push(Problem {
            source: source.to_owned(),
            line: Some(line),
            path: path.to_owned(),
            message,
        });
    });
}

fn expand_at(
    node: &mut Node,
    path: &mut String,
    env: Environment<'_>,
    report: &mut dyn FnMut(&str, u64, String),
) {
    let line = node.line;
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => expand_scalar(scalar, env, |message| report(path, line, message)),
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand_at(item, &mut format!("{path}[{index}]"), env, report);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let mut inner = join(path, &entry.key);
                expand_at(&mut entry.node, &mut inner, env, report);
            }
        }
    }
}

fn expand_scalar(scalar: &mut Scalar, env: Environment<'_>, mut report: impl FnMut(String)) {
    if scalar.kind != ScalarKind::String || !scalar.source.contains('$') {
        return;
    }
    let mut text = String::new();
    let mut expanded_all = true;
    let mut rest = scalar.source.as_str();
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((reference, after)) = after.split_once('}') else {
                report("has a `${` without a `}`; write `$$` for a plain `$`".to_owned());
                expanded_all = false;
                break;
            };
            match resolve(reference, env) {
                Ok(value) => text.push_str(&value),
                Err(message) => {
                    report(message);
                    expanded_all = false;
                }
            }
            rest = after;
        } else {
            text.push('$');
        }
    }
    text.push_str(rest);
    scalar.text = expanded_all.then_some(text);
}

/// The value of the reference between `${` and `}`.
fn resolve(reference: &str, env: Environment<'_>) -> Result<String, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        return read_secret(path).map_err(|why| format!("`${{file:{path}}}`: {why}"));
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable_name(name) {
        return Err(format!(
            "`${{{reference}}}` is not a reference: `${{VAR}}`, `${{VAR:-default}}` or \
             `${{file:/path}}`; write `$$` for a plain `$`"
        ));
    }
    match (env(name), default) {
        // As in a shell, `:-` also replaces a variable that is set but empty.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set; set it or give a default: `${{{name}:-default}}`"
        )),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|first: char| !first.is_ascii_digit())
}

fn read_secret(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err("the path must be absolute".to_owned());
    }
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Checked before the file is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let file = File::open(path).map_err(cannot)?;
    check_file_mode(&file.metadata().map_err(cannot)?)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned())?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Refuses a secret file that others may read or write.
#[cfg(unix)]
fn check_file_mode(file: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;

    let mode = file.mode() & 0o777;
    let own = file.uid() == rustix::process::geteuid().as_raw();
    match exposed_to(mode, own) {
        Some(whom) => Err(format!(
            "its mode {mode:04o} lets {whom} at it; use 0400 or 0600"
        )),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_file_mode(_file: &Metadata) -> Result<(), String> {
    Ok(())
}

/// Who else has access to a file. Other users always count; the group counts only if the file
/// belongs to this process's user. If it belongs to someone else, as a Kubernetes secret under
/// `fsGroup` does (root's, mode 0440), the group is how this process itself gets to read it.
#[cfg(unix)]
fn exposed_to(mode: u32, own: bool) -> Option<&'static str> {
    if mode & 0o007 != 0 {
        Some("others")
    } else if own && mode & 0o070 != 0 {
        Some("its group")
    } else {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::exposed_to;

    #[test]
    fn the_group_counts_as_others_for_own_files_only() {
        for own in [true, false] {
            assert_eq!(exposed_to(0o400, own), None);
            assert_eq!(exposed_to(0o600, own), None);
            for mode in [0o444, 0o404, 0o602, 0o401, 0o777] {
                assert_eq!(exposed_to(mode, own), Some("others"), "{mode:o}");
            }
        }
        assert_eq!(exposed_to(0o440, true), Some("its group"));
        assert_eq!(exposed_to(0o660, true), Some("its group"));
        assert_eq!(exposed_to(0o440, false), None);
    }
}
