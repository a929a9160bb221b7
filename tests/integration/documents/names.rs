//! What a document names exists: files, modules, functions, metrics, config keys, error codes, log
//! messages.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use sluicegate::config::{Config, Overrides, schema};

use super::{documents, metrics, root};

/// The folders whose files documents name with their whole path.
const FOLDERS: [&str; 14] = [
    ".ci",
    ".github",
    "bench",
    "benches",
    "clients",
    "docs",
    "fuzz",
    "k8s",
    "packaging",
    "proto-fixtures",
    "src",
    "target",
    "tests",
    "web",
];

/// The texts in backticks, outside blocks of code, with the document's name.
fn names() -> Vec<(String, String)> {
    let mut names = Vec::new();
    for (path, text) in documents() {
        let document = path.strip_prefix(root()).unwrap().display().to_string();
        for prose in text.split("```").step_by(2) {
            for line in prose.lines() {
                let quoted = line.split('`').skip(1).step_by(2);
                names.extend(quoted.map(|name| (document.clone(), name.to_owned())));
            }
        }
    }
    names
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The text of the document's section with this heading, its own heading excluded.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let mark = format!("\n## {heading}\n");
    let (_, rest) = document
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// Every source file of the program in one text.
fn sources() -> String {
    fn add(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    add(&root().join("src"), &mut text);
    text
}

fn is_word(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !text.is_empty() && text.chars().all(word)
}

#[test]
fn every_path_exists() {
    let mut found = 0;
    for (document, name) in names() {
        let Some((first, rest)) = name.split_once('/') else {
            continue;
        };
        // `<name>` and `*` stand for several files, and `target` holds what commands make.
        let fixed = !name.contains(['<', '*', '{', ' ', '…']);
        if FOLDERS.contains(&first) && first != "target" && fixed {
            assert!(
                root().join(&name).exists(),
                "{document}: `{name}` does not exist"
            );
            found += 1;
        }
        // Modules: `server/chat` is `src/server/chat.rs` or the folder `src/server/chat`.
        let module = root().join("src").join(first);
        if module.is_dir() && rest.split('/').all(is_word) && document.contains("architecture") {
            let path = module.join(rest);
            let exists = path.is_dir() || path.with_extension("rs").is_file();
            assert!(exists, "{document}: there is no module `{name}`");
            found += 1;
        }
    }
    assert!(found > 50, "only {found} paths were found");
}

#[test]
fn the_room_table_lists_every_module() {
    let architecture = read("docs/architecture.md");
    let rooms = section(&architecture, "The rooms");
    let table: String = rooms.lines().filter(|line| line.starts_with('|')).collect();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let listed = table.contains(&format!("`{module}`"));
        assert!(
            listed || module == "lib",
            "{module} is not in the table of rooms"
        );
    }
}

#[test]
fn every_function_in_the_verb_table_exists() {
    let architecture = read("docs/architecture.md");
    let sources = sources();
    let rows = section(&architecture, "Verbs")
        .lines()
        .filter(|line| line.starts_with("| `"));
    let mut found = 0;
    for row in rows {
        let examples = row.rsplit('|').nth(1).unwrap();
        for name in examples.split('`').skip(1).step_by(2) {
            let exists = ["(", "<"]
                .iter()
                .any(|end| sources.contains(&format!("fn {name}{end}")));
            assert!(exists, "there is no function `{name}`");
            found += 1;
        }
    }
    assert!(found >= 20, "only {found} functions were found");
}

#[test]
fn every_metric_that_is_named_exists() {
    let text = metrics();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let known: HashSet<String> = types
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let mut found = 0;
    for (document, name) in names() {
        let end = name
            .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .unwrap_or(name.len());
        if name.starts_with("sluicegate_") {
            assert!(
                known.contains(&name[..end]),
                "{document}: there is no metric `{name}`"
            );
            found += 1;
        }
    }
    assert!(found > 15, "only {found} metrics were found");
}

/// Whether the config has a key at this path; `[]` is an item of a list, `x` a name of the user's.
fn is_config_key(path: &str) -> bool {
    let mut yaml = "{}".to_owned();
    for step in path.rsplit('.') {
        let (key, items) = match step.strip_suffix("[]") {
            Some(key) => (key, true),
            None => (step, false),
        };
        yaml = match items {
            true => format!("{{{key}: [{yaml}]}}"),
            false => format!("{{{key}: {yaml}}}"),
        };
    }
    let none = Overrides::default();
    match Config::parse(&yaml, "test", &|_| None, &none) {
        Ok(_) => true,
        Err(problems) => !problems.to_string().contains("unknown key"),
    }
}

#[test]
fn every_config_key_that_is_named_exists() {
    assert!(is_config_key("limits.per_ip.requests"));
    assert!(is_config_key("models.x.targets[].priority"));
    assert!(!is_config_key("limits.no_such_key"));
    assert!(!is_config_key("models.x.targets[].no_such_key"));

    let configuration = read("docs/configuration.md");
    let mut keys: BTreeSet<String> = BTreeSet::new();
    // By section, what stands before the keys of its tables.
    let mut prefix = "";
    for line in configuration.lines() {
        match line {
            "## `upstreams`" => prefix = "upstreams.x.",
            "## `models`" => prefix = "models.x.",
            "## `keys`" => prefix = "keys[].",
            _ if line.starts_with("## ") => prefix = "",
            _ => {}
        }
        let cell = line
            .strip_prefix("| `")
            .and_then(|rest| rest.split_once("` |"));
        // Tables of keys have the columns key, default, meaning.
        if let Some((key, rest)) = cell
            && rest.matches('|').count() == 2
            && key
                .split(['.', '[', ']'])
                .all(|word| word.is_empty() || is_word(word))
            && sluicegate::config::preset::by_name(key).is_none()
        {
            keys.insert(format!("{prefix}{key}"));
        }
    }
    for (_, name) in names() {
        let top = ["limits.", "timeouts.", "resume.", "cors."];
        if top.iter().any(|top| name.starts_with(top)) && name.split('.').all(is_word) {
            keys.insert(name);
        }
    }
    assert!(keys.len() > 30, "only {} keys were found", keys.len());
    for key in &keys {
        // Documents name the limits of keys in the same short form.
        let exists = is_config_key(key) || is_config_key(&format!("keys[].{key}"));
        assert!(exists, "there is no config key `{key}`");
    }
}

#[test]
fn every_config_key_is_documented() {
    fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(members) => {
                for (name, member) in members {
                    if let ("properties", Some(properties)) = (name.as_str(), member.as_object()) {
                        found.extend(properties.keys().cloned());
                    }
                    keys(member, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    keys(&schema::json_schema(), &mut found);
    assert!(found.len() > 30, "only {} keys were found", found.len());
    let configuration = read("docs/configuration.md");
    let words: HashSet<&str> = configuration
        .split(|c: char| !is_word(&c.to_string()))
        .collect();
    for key in found {
        assert!(
            words.contains(key.as_str()),
            "docs/configuration.md lacks `{key}`"
        );
    }
}

#[test]
fn the_error_tables_list_every_code() {
    let source = read("src/model/error.rs");
    let table = source.split("fn row(").nth(1).unwrap();
    let table = table.split("\n    }\n").next().unwrap();
    let known: BTreeSet<&str> = table.split('"').skip(1).step_by(2).collect();
    assert!(known.len() > 20, "only {} codes were found", known.len());
    let protocol = read("docs/protocol.md");
    let rows = section(&protocol, "Errors")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<&str> = rows.map(|row| row.split('`').next().unwrap()).collect();
    assert_eq!(listed, known, "the table in docs/protocol.md");

    let operations = read("docs/operations.md");
    for row in section(&operations, "Troubleshooting")
        .lines()
        .filter(|line| line.starts_with("| `"))
    {
        let codes = row.split('|').nth(1).unwrap();
        for code in codes.split('`').skip(1).step_by(2) {
            assert!(
                known.contains(code),
                "docs/operations.md: there is no code `{code}`"
            );
        }
    }
}

#[test]
fn every_log_message_that_is_named_exists() {
    let operations = read("docs/operations.md");
    let sources = sources();
    let mut found = 0;
    // The first table has the messages; the next one explains a field.
    let rows = section(&operations, "Logs").lines();
    let rows = rows.skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|'));
    for row in rows.filter(|line| line.starts_with("| `")) {
        let messages = row.split('|').nth(1).unwrap();
        for message in messages.split('`').skip(1).step_by(2) {
            // Some messages go on with a detail.
            let exists = sources.contains(&format!("\"{message}"));
            assert!(exists, "nothing logs `{message}`");
            found += 1;
        }
    }
    assert!(found >= 10, "only {found} messages were found");
}
