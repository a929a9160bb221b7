//! Modules import downwards only, and the files inside a module form no circles.
//!
//! The first test reads every `crate::…` path of every source file, nested `use` trees included: each
//! must lead to a module that the table of layers allows. `circles` has the second one.

mod circles;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The modules from the bottom up. Modules in one row may not import each other.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["framing"],
    &["wire", "dialect"],
    &["config"],
    &["metrics"],
    &["store"],
    &["access", "limit", "notify", "telemetry"],
    &["upstream"],
    &["route"],
    &["stream"],
    &["pipeline"],
    &["app"],
    &["server"],
    &["fixture"],
    &["command"],
    &["main"],
];

#[test]
fn modules_import_downwards_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = 0;
    let mut wrong = String::new();
    visit(&source, &mut |path| {
        files += 1;
        let name = path.strip_prefix(&source).unwrap();
        let module = module_of(name);
        // The crate's root declares every module and imports none.
        if module == "lib" {
            return;
        }
        for problem in problems(&module, &fs::read_to_string(path).unwrap()) {
            writeln!(wrong, "src/{}: {problem}", name.display()).unwrap();
        }
    });
    assert!(files > 10, "only {files} source files were found");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn upward_imports_are_found() {
    let found = |module: &str, source: &str| !problems(module, source).is_empty();
    assert!(found("model", "use crate::wire::Wire;"));
    assert!(found(
        "model",
        "use crate::{\n    model::Error,\n    wire::Wire,\n};"
    ));
    assert!(found("limit", "fn f() -> crate::server::Server {}"));
    assert!(found("limit", "pub(crate) use crate :: server;"));
    assert!(found("wire", "use crate::dialect::Dialect;"));
    assert!(found("stream", "use crate::{model, route, app as a};"));
    assert!(found("main", "use sluicegate::nowhere::Thing;"));
    assert!(found("nowhere", ""));
    assert!(found("model", "use crate::*;"));
    assert!(found(
        "route",
        "let x = 1; // fine\nuse crate::stream::Pump;"
    ));

    assert!(!found(
        "wire",
        "use crate::framing::Frame;\nuse crate::model::{Error, Event};"
    ));
    assert!(!found("wire", "use crate::wire::Wire;"));
    assert!(!found(
        "model",
        "//! See [`crate::wire`].\n/// [`crate::server::Server`]"
    ));
    assert!(!found(
        "main",
        "use sluicegate::{command, server::{self, Server}};"
    ));
    assert!(!found(
        "server",
        "use crate::{app::App, stream::{log::Log, Pump}};"
    ));
}

/// The module that a file below `src` belongs to: `wire/ollama.rs` is `wire`.
fn module_of(path: &Path) -> String {
    let first = path.components().next().unwrap();
    let first = Path::new(first.as_os_str());
    first.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The imports in the source of `module` that the table of layers forbids.
fn problems(module: &str, source: &str) -> Vec<String> {
    let Some(own) = layer_of(module) else {
        return vec![format!("`{module}` has no place in the table of layers")];
    };
    let mut problems = Vec::new();
    for import in imports(&without_comments(source)) {
        match layer_of(&import) {
            _ if import == module => {}
            Some(layer) if layer < own => {}
            Some(_) => problems.push(format!("`{module}` may not import `{import}`")),
            None => problems.push(format!("`{import}` has no place in the table of layers")),
        }
    }
    problems
}

/// The first segment after each `crate::` or `sluicegate::`, and of each branch of a `use` tree.
fn imports(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut imports = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let root = *token == "crate" || *token == "sluicegate";
        if !root || tokens.get(at + 1) != Some(&"::") {
            continue;
        }
        let mut rest = tokens[at + 2..].iter();
        match rest.next() {
            Some(&"{") => {
                let (mut depth, mut first) = (1, true);
                for token in rest {
                    match *token {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        "," if depth == 1 => first = true,
                        name if depth == 1 && first => {
                            imports.push(name.to_owned());
                            first = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            Some(name) => imports.push((*name).to_owned()),
            None => {}
        }
    }
    imports
}

/// Words, `::` and single characters; no white space.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Drops the text after `//` on each line, because documentation may link upwards; `://` is a URL.
fn without_comments(source: &str) -> String {
    let code = |line: &str| {
        let comment = line
            .match_indices("//")
            .find(|(at, _)| !line[..*at].ends_with(':'))
            .map_or(line.len(), |(at, _)| at);
        line[..comment].to_owned()
    };
    source.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn visit(folder: &Path, file: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, file);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            file(&path);
        }
    }
}
