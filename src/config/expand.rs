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

/// Expands every string under `node`, and reports references that cannot be expanded and files
/// that others can read.
pub fn expand(
    node: &mut Node,
    env: Environment<'_>,
    source: &str,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    expand_at(node, &mut String::new(), env, &mut |path, line, report| {
        let (list, message) = match report {
            Report::Problem(message) => (&mut *problems, message),
            Report::Warning(message) => (&mut *warnings, message),
        };
        list.push(Problem {
            source: source.to_owned(),
            line: Some(line),
            path: path.to_owned(),
            message,
        });
    });
}

enum Report {
    Problem(String),
    Warning(String),
}

/// How carefully a file must be protected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// Nobody else may write it; a file that others can read gives a warning.
    Secret,
    /// Anybody may read and write it.
    Public,
}

fn expand_at(
    node: &mut Node,
    path: &mut String,
    env: Environment<'_>,
    report: &mut dyn FnMut(&str, u64, Report),
) {
    let line = node.line;
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => expand_scalar(scalar, env, |one| report(path, line, one)),
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

fn expand_scalar(scalar: &mut Scalar, env: Environment<'_>, mut report: impl FnMut(Report)) {
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
                report(Report::Problem(
                    "has a `${` without a `}`; write `$$` for a plain `$`".to_owned(),
                ));
                expanded_all = false;
                break;
            };
            match resolve(reference, env) {
                Ok((value, warning)) => {
                    text.push_str(&value);
                    warning
                        .map(Report::Warning)
                        .into_iter()
                        .for_each(&mut report);
                }
                Err(message) => {
                    report(Report::Problem(message));
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

/// The value of the reference between `${` and `}`, and a warning about it.
///
/// # Errors
/// Why it has no value.
fn resolve(reference: &str, env: Environment<'_>) -> Result<(String, Option<String>), String> {
    if let Some(path) = reference.strip_prefix("file:") {
        let named = |why: String| format!("`${{file:{path}}}`: {why}");
        let (mut text, warning) = read_file(path, FileAccess::Secret).map_err(named)?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        return Ok((text, warning.map(named)));
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
        (Some(value), Some(default)) if value.is_empty() => Ok((default.to_owned(), None)),
        (Some(value), _) => Ok((value, None)),
        (None, Some(default)) => Ok((default.to_owned(), None)),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set; set it or give a default: `${{{name}:-default}}`"
        )),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// Reads a file of at most [`MAX_FILE_BYTES`]. Returns its text and a warning about its mode.
///
/// # Errors
/// Why it cannot be used.
pub fn read_file(path: &str, access: FileAccess) -> Result<(String, Option<String>), String> {
    if !path.starts_with('/') {
        return Err("the path must be absolute".to_owned());
    }
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Checked before the file is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let file = File::open(path).map_err(cannot)?;
    let warning = match access {
        FileAccess::Secret => check_file_mode(&file.metadata().map_err(cannot)?)?,
        FileAccess::Public => None,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned())?;
    Ok((text, warning))
}

/// Refuses a secret file that others may write, and warns of one that others may read: Kubernetes
/// mounts secrets with mode 0644.
#[cfg(unix)]
fn check_file_mode(file: &Metadata) -> Result<Option<String>, String> {
    use std::os::unix::fs::MetadataExt;

    let mode = file.mode() & 0o777;
    let own = file.uid() == rustix::process::geteuid().as_raw();
    if let Some(whom) = others_with(WRITE, mode, own) {
        return Err(format!(
            "its mode {mode:04o} lets {whom} write it; use 0400 or 0600"
        ));
    }
    Ok(others_with(READ, mode, own)
        .map(|whom| format!("its mode {mode:04o} lets {whom} read it; 0400 or 0600 is safer")))
}

#[cfg(not(unix))]
fn check_file_mode(_file: &Metadata) -> Result<Option<String>, String> {
    Ok(None)
}

#[cfg(unix)]
const READ: u32 = 0o4;
#[cfg(unix)]
const WRITE: u32 = 0o2;

/// Who else has a permission for a file. Other users always count; the group counts only if the
/// file belongs to this process's user. If it belongs to someone else, as a Kubernetes secret under
/// `fsGroup` does (root's, mode 0440), the group is how this process itself gets to read it.
#[cfg(unix)]
fn others_with(permission: u32, mode: u32, own: bool) -> Option<&'static str> {
    if mode & permission != 0 {
        Some("others")
    } else if own && mode & (permission << 3) != 0 {
        Some("its group")
    } else {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{READ, WRITE, others_with};

    #[test]
    fn the_group_counts_as_others_for_own_files_only() {
        for own in [true, false] {
            for mode in [0o400, 0o600] {
                assert_eq!(others_with(READ, mode, own), None);
                assert_eq!(others_with(WRITE, mode, own), None);
            }
            assert_eq!(others_with(READ, 0o644, own), Some("others"));
            assert_eq!(others_with(WRITE, 0o644, own), None);
            assert_eq!(others_with(WRITE, 0o602, own), Some("others"));
        }
        assert_eq!(others_with(READ, 0o440, true), Some("its group"));
        assert_eq!(others_with(WRITE, 0o660, true), Some("its group"));
        assert_eq!(others_with(READ, 0o440, false), None);
        assert_eq!(others_with(WRITE, 0o460, false), None);
    }
}
