//! Fixtures are read, or refused with the file that is wrong.

use std::fs;
use std::path::PathBuf;

use sluicegate::fixture::Library;

use crate::fixture_server::library;

/// A folder of this test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("sluicegate-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self(root)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_wire_has_cases_and_a_text_case() {
    let library = library();
    for wire in ["anthropic-messages", "ollama-chat", "openai-chat"] {
        assert!(library.cases(wire).count() >= 10, "{wire}");
        assert!(library.case(wire, "text").is_some(), "{wire}");
    }
}

#[test]
fn requests_ask_for_their_own_case() {
    let library = library();
    for wire in library.wires() {
        for case in library.cases(wire) {
            if let Some(request) = &case.request {
                assert_eq!(request["model"], case.name.as_str(), "{wire}");
            }
        }
    }
}

#[test]
fn the_embedded_fixtures_are_the_same() {
    let (folder, embedded) = (library(), Library::embedded().unwrap());
    assert!(folder.wires().eq(embedded.wires()));
    for wire in folder.wires() {
        let all = |library: &Library| -> Vec<_> {
            let cases = library.cases(wire);
            cases
                .map(|case| (case.name.clone(), case.body.clone(), case.headers.clone()))
                .collect()
        };
        assert_eq!(all(&folder), all(&embedded), "{wire}");
    }
}

#[test]
fn line_ends_are_not_changed_by_git() {
    let library = library();
    let body = |case: &str| library.case("openai-chat", case).unwrap().body.clone();
    assert!(body("crlf").windows(4).any(|bytes| bytes == b"\r\n\r\n"));
    assert!(!body("cr").contains(&b'\n'));
    assert!(body("byte-order-mark").starts_with(b"\xEF\xBB\xBF"));
    assert!(body("done-without-newline").ends_with(b"data: [DONE]"));
    assert!(std::str::from_utf8(&body("invalid-utf8")).is_err());
}

#[test]
fn a_response_file_overrides_the_defaults_of_the_ending() {
    let response = r#"{"status": 203, "headers": {"Content-Type": "text/plain", "x-a": "b"}}"#;
    let folder = Folder::new(
        "response",
        &[
            ("w/c/upstream.ndjson", "{}\n"),
            ("w/c/response.json", response),
            ("w/c/notes.txt", "not the library's"),
            ("w/plain/upstream.html", "<p>"),
            ("README.md", "nor this"),
        ],
    );
    let library = Library::load(&folder.0).unwrap();
    let case = library.case("w", "c").unwrap();
    assert_eq!(case.status, 203);
    assert_eq!(case.headers["content-type"], "text/plain");
    assert_eq!(case.headers["x-a"], "b");
    let plain = library.case("w", "plain").unwrap();
    assert_eq!(plain.status, 200);
    assert_eq!(plain.headers["content-type"], "text/html; charset=utf-8");
}

#[test]
fn errors_name_the_wrong_file() {
    let body = ("w/c/upstream.sse", "data: 1\n\n");
    let response = "w/c/response.json";
    let timing = "w/c/timing.json";
    let wrong: &[(&[(&str, &str)], &str)] = &[
        (&[], "no fixtures here"),
        (&[("w/c/request.json", "{}")], "w/c: no body"),
        (&[body, ("w/c/upstream.json", "{}")], "w/c: more than one"),
        (&[body, ("w/c/request.json", "{")], "w/c/request.json: EOF"),
        (
            &[body, ("w/c/request.json", "[]")],
            "request.json: expected an object",
        ),
        (
            &[body, (response, r#"{"state": 1}"#)],
            "response.json: unknown field `state`",
        ),
        (
            &[body, (response, r#"{"status": 99}"#)],
            "response.json: status: 99",
        ),
        (
            &[body, (response, r#"{"headers": {"Content-Length": "9"}}"#)],
            "response.json: headers.Content-Length: cannot be set: the server",
        ),
        (
            &[body, (response, r#"{"headers": {"a b": "9"}}"#)],
            "response.json: headers.a b: not a valid header name",
        ),
        (
            &[body, (timing, "[[0, 8]]")],
            "timing.json: the chunks have 8 bytes in all, but the body has 9",
        ),
        (
            &[body, (timing, "[[0, 9], [0, 0]]")],
            "timing.json: [1]: a chunk must have",
        ),
        (
            &[body, (timing, "[[-1, 9]]")],
            "timing.json: [0]: -1 is not a duration",
        ),
    ];
    for (number, (files, expected)) in wrong.iter().enumerate() {
        let folder = Folder::new(&format!("wrong-{number}"), files);
        let error = Library::load(&folder.0).unwrap_err().to_string();
        assert!(error.starts_with(folder.0.to_str().unwrap()), "{error}");
        assert!(error.contains(expected), "{error}\nshould say: {expected}");
    }
    let error = Library::load("no/such/folder".as_ref()).unwrap_err();
    assert!(error.to_string().starts_with("no/such/folder: "));
}
