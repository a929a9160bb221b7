use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use sluicegate::config::AllowedOrigins;

use super::{good, parse, problem};

/// The expanded `api_key`.
fn expanded(written: &str) -> String {
    let config = good(&format!(
        "models: {{}}\nupstreams: {{ vllm: {{ api_key: '{written}' }} }}"
    ));
    let credential = config.upstreams[0].credential.as_ref();
    credential.map_or_else(String::new, |one| {
        one.secrets()[0].expose_secret().to_owned()
    })
}

fn refused(written: &str) -> String {
    problem(&format!(
        "models: {{}}\nupstreams: {{ vllm: {{ api_key: '{written}' }} }}"
    ))
}

/// A file that is removed when it is dropped.
struct Secret(PathBuf);

impl Secret {
    fn new(name: &str, content: &[u8], mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("sluicegate-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Self(path)
    }

    fn reference(&self) -> String {
        format!("${{file:{}}}", self.0.display())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn references_are_expanded_in_any_string() {
    for (written, expected) in [
        ("${OPENAI_API_KEY}", "sk-openai-5ecret"),
        ("a-${PORT}-${PORT}-b", "a-8081-8081-b"),
        ("${NOPE:-fallback}", "fallback"),
        ("${NOPE:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${PORT:-1}", "8081"),
        ("$${PORT}", "${PORT}"),
        ("$$$${PORT}", "$${PORT}"),
        ("cost: 5$", "cost: 5$"),
        ("$PORT", "$PORT"),
        // The value of a variable is not expanded again.
        ("${DOLLARS}", "a$b${PORT}"),
    ] {
        assert_eq!(expanded(written), expected, "{written}");
    }
    let config = good("listen: '127.0.0.1:${PORT}'\nmodels: {}\nlimits: { streams: '${PORT}' }\n");
    assert_eq!(config.listen.port(), 8081);
    assert_eq!(config.limits.streams, 8081);
}

#[test]
fn references_need_no_quotes() {
    for written in [
        "${PORT}",
        "${NOPE:-8081}",
        "${EMPTY:-8081}",
        "${NOPE:-80}81",
    ] {
        for text in [
            format!("limits: {{streams: {written}}}\nmodels: {{}}"),
            format!("limits: {{ streams: {written}, body: {written} }} # {written}\nmodels: {{}}"),
            format!("limits:\n  streams: {written}\nmodels: {{}}"),
            format!("limits: {{ streams: \"{written}\" }}\nmodels: {{}}"),
        ] {
            assert_eq!(good(&text).limits.streams, 8081, "{text}");
        }
    }
    let config = good("models: {}\ncors: { origins: [http://a:${PORT}, ${NOPE:-http://[::1]}] }");
    let origins = ["http://a:8081", "http://[::1]"].map(str::to_owned);
    assert_eq!(config.origins, AllowedOrigins::These(origins.to_vec()));
}

#[test]
fn a_bad_reference_is_reported_once() {
    let at = "gateway.yaml:2: upstreams.vllm.api_key: ";
    for (written, expected) in [
        ("${NOPE}", "the environment variable `NOPE` is not set"),
        ("${NOPE", "has a `${` without a `}`"),
        ("${}", "`${}` is not a reference"),
        ("${A B}", "`${A B}` is not a reference"),
        ("${1A}", "`${1A}` is not a reference"),
        ("${file:relative}", "the path must be absolute"),
        ("${file:/no/such/file}", "cannot be read"),
        ("${file:/}", "is not a file"),
    ] {
        let found = refused(written);
        assert!(
            found.starts_with(at) && found.contains(expected),
            "{written}: {found}"
        );
    }
}

#[test]
fn problems_quote_references_and_not_their_values() {
    let found = problem("models: {}\nheartbeat: ${OPENAI_API_KEY}\n");
    assert!(
        found.contains("`${OPENAI_API_KEY}` is not a duration"),
        "{found}"
    );
    let found = problem("models: {}\nupstreams: { x: { preset: '${OPENAI_API_KEY}' } }\n");
    assert!(!found.contains("5ecret"), "{found}");
}

#[test]
fn keys_of_maps_are_not_expanded() {
    let config = good(
        "upstreams: { ollama: }\nmodels: { '${PORT}': { targets: [ { upstream: ollama, model: m } ] } }",
    );
    assert!(config.models.find("${PORT}").is_some());
}

#[test]
fn files_are_read_without_their_last_newline() {
    for (content, expected) in [
        ("s3cret\n", "s3cret"),
        ("s3cret\r\n", "s3cret"),
        (" s3 ", " s3 "),
    ] {
        let file = Secret::new("newline", content.as_bytes(), 0o600);
        assert_eq!(expanded(&file.reference()), expected);
    }
    let file = Secret::new("read-only", b"$x", 0o400);
    assert_eq!(expanded(&file.reference()), "$x");
}

#[test]
fn files_that_others_may_write_are_refused() {
    for (mode, whom) in [(0o602, "others"), (0o666, "others"), (0o620, "its group")] {
        let file = Secret::new("writable", b"5ecret", mode);
        let found = refused(&file.reference());
        assert!(
            found.contains(&format!("its mode {mode:04o} lets {whom} write it")),
            "{found}"
        );
        assert!(!found.contains("5ecret"), "{found}");
    }
}

#[test]
fn files_that_others_may_read_give_a_warning() {
    for (mode, whom) in [(0o644, "others"), (0o604, "others"), (0o640, "its group")] {
        let file = Secret::new("readable", b"5ecret", mode);
        let reference = file.reference();
        let loaded = parse(&format!(
            "models: {{}}\nupstreams: {{ vllm: {{ api_key: '{reference}' }} }}\n"
        ));
        let warnings = loaded.unwrap().warnings;
        let warning = warnings
            .iter()
            .find(|one| one.path == "upstreams.vllm.api_key");
        let message = &warning.unwrap().message;
        let expected = format!("its mode {mode:04o} lets {whom} read it");
        assert!(message.contains(&expected), "{message}");
        assert!(!message.contains("5ecret"), "{message}");
    }
}

#[test]
fn a_symbolic_link_to_a_file_is_followed() {
    let file = Secret::new("linked", b"5ecret", 0o600);
    let link = std::env::temp_dir().join(format!("sluicegate-{}-link", std::process::id()));
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&file.0, &link).unwrap();
    let text = expanded(&format!("${{file:{}}}", link.display()));
    fs::remove_file(&link).unwrap();
    assert_eq!(text, "5ecret");
}

#[test]
fn large_and_binary_files_are_refused() {
    let file = Secret::new("large", &[b'a'; 64 * 1024 + 1], 0o600);
    assert!(refused(&file.reference()).contains("is larger than 65536 bytes"));
    let file = Secret::new("binary", &[0xff, 0xfe], 0o600);
    assert!(refused(&file.reference()).contains("is not valid UTF-8"));
}
