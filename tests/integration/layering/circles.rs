//! The files and folders that lie beside one another in a folder must not import one another in a
//! circle. Re-exports count as the file that they come from. A folder's `mod.rs` and the files below
//! it are one unit, so they may use one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{tokens, visit, without_comments};

#[test]
fn files_inside_a_module_form_no_circles() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    visit(&source, &mut |path| {
        let name = path.strip_prefix(&source).unwrap().with_extension("");
        let mut module: Vec<String> = name
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .collect();
        module.pop_if(|last| last == "mod");
        if module != ["lib"] {
            files.insert(module, fs::read_to_string(path).unwrap());
        }
    });
    assert!(files.len() > 100, "only {} files were found", files.len());
    let mut wrong = String::new();
    for (folder, circle) in circles(&files) {
        writeln!(wrong, "src/{folder}:\n{circle}").unwrap();
    }
    assert!(wrong.is_empty(), "these files form a circle:\n{wrong}");
}

#[test]
fn circles_of_files_are_found() {
    let found = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(module, source)| {
            let module = module.split('/').map(str::to_owned).collect();
            (module, (*source).to_owned())
        });
        let circles = circles(&files.collect()).into_iter();
        circles.map(|(folder, _)| folder).collect::<Vec<_>>()
    };
    let direct = [
        ("m", ""),
        ("m/a", "use super::b::B;"),
        ("m/b", "use crate::m::a::A;"),
    ];
    assert_eq!(found(&direct), ["m"]);
    let inline = [
        ("m", ""),
        ("m/a", "fn f() { super::b::f() }"),
        ("m/b", "type A = crate::m::a::A;"),
    ];
    assert_eq!(found(&inline), ["m"]);
    let through_exports = [
        ("m", "mod a; mod b; pub use a::A; pub use b::{B, C as D};"),
        ("m/a", "use crate::m::D;"),
        ("m/b", "use super::{A, other};"),
    ];
    assert_eq!(found(&through_exports), ["m"]);
    let of_three = [
        ("m/a", "use super::b::{self, B};"),
        ("m/b", "use super::c;"),
        ("m/c", ""),
        ("m/c/d", "use crate::{m::a::A, n};"),
    ];
    assert_eq!(found(&of_three), ["m"]);

    let downwards = [
        ("m/a", "use super::b::B;"),
        ("m/b", "use crate::n::N;"),
        ("n", ""),
    ];
    assert!(found(&downwards).is_empty());
    let parent_and_child = [("m", "mod a; use a::A;"), ("m/a", "use super::M;")];
    assert!(found(&parent_and_child).is_empty());
    let in_tests = [
        ("m/a", "use super::b::B;"),
        (
            "m/b",
            "struct B;\n#[cfg(test)]\nmod tests { use crate::m::a::A; }",
        ),
    ];
    assert!(found(&in_tests).is_empty());
    let test_files = [
        ("m/a", "use super::b::B;"),
        ("m/b", "#[cfg(test)]\nmod tests;"),
        ("m/b/tests", "use crate::m::a::A;"),
    ];
    assert!(found(&test_files).is_empty());
}

type Module = Vec<String>;

/// The circles among the direct children of each folder: the folder, and the imports that close it.
fn circles(files: &BTreeMap<Module, String>) -> Vec<(String, String)> {
    let sources: BTreeMap<Module, Source> = files
        .iter()
        .map(|(module, text)| (module.clone(), Source::parse(module, text)))
        .collect();
    let tests: BTreeSet<&Module> = sources.values().flat_map(|file| &file.tests).collect();
    // By folder: which child imports which, and one file and path as an example.
    let mut folders: BTreeMap<&[String], BTreeMap<(&str, &str), String>> = BTreeMap::new();
    for (module, source) in sources.iter().filter(|(module, _)| !tests.contains(module)) {
        for path in &source.paths {
            let target = resolve(&sources, path, 8);
            let shared = std::iter::zip(module, &target)
                .take_while(|(a, b)| a == b)
                .count();
            // A module and those below it are one unit.
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let example = format!("  {} imports {}\n", module.join("/"), path.join("::"));
                let imports = folders.entry(&module[..shared]).or_default();
                let to = sources
                    .keys()
                    .find_map(|known| known.get(shared).filter(|name| *name == to));
                if let Some(to) = to {
                    imports.entry((from, to)).or_insert(example);
                }
            }
        }
    }
    let mut found = Vec::new();
    for (folder, imports) in folders {
        let reached: BTreeMap<&str, BTreeSet<&str>> = imports
            .keys()
            .map(|(from, _)| (*from, reached(&imports, from)))
            .collect();
        let closing = imports.iter().filter(|((from, to), _)| {
            reached
                .get(to)
                .is_some_and(|reached| reached.contains(from))
        });
        let circle: String = closing.map(|(_, example)| example.as_str()).collect();
        if !circle.is_empty() {
            found.push((folder.join("/"), circle));
        }
    }
    found
}

/// Everything that `from` imports, directly or through others.
fn reached<'a>(imports: &BTreeMap<(&'a str, &'a str), String>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(from) = open.pop() {
        for (_, to) in imports.keys().filter(|(importer, _)| *importer == from) {
            if reached.insert(*to) {
                open.push(to);
            }
        }
    }
    reached
}

/// The module that a path from the crate's root leads to, behind re-exports.
fn resolve(sources: &BTreeMap<Module, Source>, path: &[String], depth: usize) -> Module {
    let longest = (0..=path.len())
        .rev()
        .find(|end| sources.contains_key(&path[..*end]));
    let Some(end) = longest else {
        return Vec::new();
    };
    let (module, rest) = path.split_at(end);
    let exported = rest
        .first()
        .and_then(|name| sources[module].exports.get(name));
    match exported {
        Some(exported) if depth > 0 => resolve(sources, exported, depth - 1),
        Some(_) | None => module.to_vec(),
    }
}

/// A source file, without its tests.
struct Source {
    /// Every path that it uses, from the crate's root.
    paths: Vec<Vec<String>>,
    /// What it re-exports: the name, and the path from the crate's root.
    exports: BTreeMap<String, Vec<String>>,
    /// The modules that it declares for tests only.
    tests: Vec<Module>,
}

impl Source {
    fn parse(module: &[String], text: &str) -> Self {
        let text = without_comments(text);
        let mut tokens = tokens(&text);
        let mut tests = Vec::new();
        const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut from = 0;
        while let Some(at) = tokens[from..].windows(7).position(|window| window == TEST) {
            from += at + TEST.len();
            match tokens.get(from..from + 3) {
                Some(["mod", name, ";"]) => {
                    tests.push([module, &[(*name).to_owned()]].concat());
                }
                // A module of tests is a file's last item.
                Some(["mod", _, "{"]) => tokens.truncate(from),
                _ => {}
            }
        }
        let mut source = Self {
            paths: Vec::new(),
            exports: BTreeMap::new(),
            tests,
        };
        let mut at = 0;
        while at < tokens.len() {
            let start = at;
            at += 1;
            match tokens[start] {
                "use" => {
                    let mut leaves = Vec::new();
                    use_tree(&tokens, &mut at, &mut Vec::new(), &mut leaves);
                    let public = start
                        .checked_sub(1)
                        .is_some_and(|before| matches!(tokens[before], "pub" | ")"));
                    for (path, name) in leaves {
                        let path = absolute(module, &path);
                        if public {
                            source.exports.insert(name, path.clone());
                        }
                        source.paths.push(path);
                    }
                }
                "crate" | "super" | "self" | "sluicegate"
                    if tokens.get(at) == Some(&"::")
                        && (start == 0 || tokens[start - 1] != "::") =>
                {
                    let mut path = vec![tokens[start].to_owned()];
                    while tokens.get(at) == Some(&"::") {
                        path.extend(tokens.get(at + 1).map(|segment| (*segment).to_owned()));
                        at += 2;
                    }
                    source.paths.push(absolute(module, &path));
                }
                _ => {}
            }
        }
        source
    }
}

/// The leaves of a `use` tree behind `at`: their paths, and the names that they bring.
fn use_tree(
    tokens: &[&str],
    at: &mut usize,
    path: &mut Vec<String>,
    leaves: &mut Vec<(Vec<String>, String)>,
) {
    let depth = path.len();
    let mut name = None;
    while let Some(&token) = tokens.get(*at) {
        match token {
            ";" | "," | "}" => break,
            "{" => {
                while !matches!(tokens.get(*at), None | Some(&"}")) {
                    *at += 1;
                    use_tree(tokens, at, path, leaves);
                }
                *at += 1;
                return path.truncate(depth);
            }
            "::" => {}
            "as" => {
                *at += 1;
                name = tokens.get(*at).map(|name| (*name).to_owned());
            }
            // `{self, …}` stands for the path before it.
            "self" if depth > 0 => {}
            segment => path.push(segment.to_owned()),
        }
        *at += 1;
    }
    if let Some(last) = path.last() {
        leaves.push((path.clone(), name.unwrap_or_else(|| last.clone())));
    }
    path.truncate(depth);
}

/// A path in `module`, from the crate's root.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    match path.first().map(String::as_str) {
        Some("crate" | "sluicegate") => path[1..].to_vec(),
        Some("self") => [module, &path[1..]].concat(),
        Some("super") => {
            let ups = path
                .iter()
                .take_while(|segment| *segment == "super")
                .count();
            let kept = module.len().saturating_sub(ups);
            [&module[..kept], &path[ups..]].concat()
        }
        // Another crate, or a module below this one.
        Some(_) | None => [module, path].concat(),
    }
}
