//! How upstreams are reached: `proxy`, `ca`, `client_cert`, `reuse`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sluicegate::config::{ConnectionConfig, ReuseConfig};

use super::{good, parse, problem, warnings};

const KEY: &str = include_str!("../exchange/certificates/test-key.pem");
const CERTIFICATE: &str = include_str!("../exchange/certificates/test-local.pem");

/// A file that is removed when it is dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt as _;

        let path = std::env::temp_dir().join(format!("sluicegate-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn config(settings: &str) -> String {
    format!("models: {{}}\nupstreams:\n  ollama: {{ {settings} }}\n")
}

fn connection(settings: &str) -> ConnectionConfig {
    good(&config(settings))
        .upstream("ollama")
        .unwrap()
        .connection
        .clone()
}

#[test]
fn the_defaults_are_no_proxy_and_bounded_reuse() {
    let connection = connection("");
    assert_eq!(connection, ConnectionConfig::default());
    let reuse = connection.reuse.unwrap();
    assert_eq!(
        (reuse.requests, reuse.age),
        (1000, Duration::from_secs(600))
    );
}

#[test]
fn reuse_is_bounded_or_off() {
    let reuse = |settings| connection(settings).reuse;
    assert_eq!(reuse("reuse: off"), None);
    let age = Duration::from_secs(60);
    let expected = ReuseConfig { requests: 50, age };
    assert_eq!(reuse("reuse: { requests: 50, age: 1m }"), Some(expected));
    let found = problem(&config("reuse: { requests: 0 }"));
    assert!(
        found.contains("reuse.requests: `0` is not a whole number"),
        "{found}"
    );
}

#[test]
fn a_proxy_may_have_a_credential() {
    let proxy = connection("proxy: 'http://proxy.example:3128'")
        .proxy
        .unwrap();
    assert!(proxy.credential.is_none() && proxy.authorization.is_none());
    let text = config("proxy: 'http://us%20er:p%40ss5ecret@proxy.example:3128/'");
    let proxy = good(&text)
        .upstream("ollama")
        .unwrap()
        .connection
        .proxy
        .clone();
    let authorization = proxy.unwrap().authorization.unwrap();
    // `us er:p@ss5ecret`
    assert_eq!(
        authorization.expose_secret(),
        "Basic dXMgZXI6cEBzczVlY3JldA=="
    );
    let loaded = good(&text);
    for shown in [loaded.effective(), format!("{loaded:?}")] {
        assert!(shown.contains("proxy.example:3128"), "{shown}");
        assert!(
            !shown.contains("5ecret") && !shown.contains("dXMgZXI6"),
            "{shown}"
        );
    }
}

#[test]
fn bad_proxies_are_refused_without_quoting_them() {
    for (proxy, expected) in [
        ("proxy.example:3128", "must begin with `http://`"),
        (
            "https://u:5ecret@proxy.example",
            "must begin with `http://`",
        ),
        (
            "http://u:5ecret@proxy.example/path",
            "is not the URL of an HTTP proxy",
        ),
        ("5ecret", "is not the URL of an HTTP proxy"),
        (
            "http://u%3Ax:5ecret@proxy.example",
            "must not have a `:` in the user",
        ),
    ] {
        let found = problem(&config(&format!("proxy: '{proxy}'")));
        assert!(found.contains(expected), "{proxy}: {found}");
        assert!(!found.contains("5ecret"), "{found}");
    }
}

#[test]
fn certificates_are_read_from_files() {
    let cert = File::new("tls-cert.pem", CERTIFICATE, 0o644);
    let key = File::new("tls-key.pem", KEY, 0o600);
    let text = config(&format!(
        "ca: {}, client_cert: {{ cert: {}, key: {} }}",
        cert.path(),
        cert.path(),
        key.path()
    ));
    let loaded = good(&text);
    let connection = &loaded.upstream("ollama").unwrap().connection;
    assert_eq!(connection.ca.as_ref().unwrap().certificates.len(), 1);
    assert_eq!(connection.client_cert.as_ref().unwrap().chain.len(), 1);
    let again = good(&format!("{}\n", loaded.effective()));
    assert_eq!(&again.upstream("ollama").unwrap().connection, connection);
}

#[test]
fn bad_certificates_and_keys_are_refused() {
    let cert = File::new("bad-cert.pem", CERTIFICATE, 0o644);
    let key = File::new("bad-key.pem", KEY, 0o600);
    let empty = File::new("bad-empty.pem", "nothing", 0o600);
    let exposed = File::new("bad-exposed.pem", KEY, 0o622);
    let (cert, key, empty, exposed) = (cert.path(), key.path(), empty.path(), exposed.path());
    for (settings, expected) in [
        (format!("ca: {empty}"), "has no certificate in PEM form"),
        ("ca: /no/such/file".to_owned(), "cannot be read"),
        ("ca: relative.pem".to_owned(), "must be absolute"),
        (
            format!("client_cert: {{ cert: {cert} }}"),
            "client_cert.key: is missing",
        ),
        (
            format!("client_cert: {{ cert: {cert}, key: {empty} }}"),
            "has no private key in PEM form",
        ),
        (
            format!("client_cert: {{ cert: {cert}, key: {exposed} }}"),
            "lets others write it",
        ),
    ] {
        let found = problem(&config(&settings));
        assert!(found.contains(expected), "{settings}: {found}");
    }
    let readable = File::new("bad-readable.pem", KEY, 0o644);
    let text = config(&format!(
        "client_cert: {{ cert: {cert}, key: {} }}",
        readable.path()
    ));
    let warned = parse(&text).unwrap().warnings;
    assert!(
        warned
            .iter()
            .any(|warning| warning.message.contains("lets others read it"))
    );
    assert!(
        parse(&config(&format!(
            "client_cert: {{ cert: {cert}, key: {key} }}"
        )))
        .is_ok()
    );
}

#[test]
fn an_address_that_ends_in_a_wires_own_path_gives_a_warning() {
    let warned = |wire: &str, url: &str| {
        warnings(&format!(
            "upstreams: {{ x: {{ wire: {wire}, base_url: 'https://h.example{url}' }} }}\n\
             models: {{ m: {{ targets: [ {{ upstream: x, model: m }} ] }} }}\n"
        ))
        .concat()
    };
    for (wire, url, expected) in [
        (
            "openai-chat",
            "/v1/chat/completions",
            "ends in `/chat/completions`",
        ),
        (
            "openai-chat",
            "/v1/chat/completions/",
            "ends in `/chat/completions`",
        ),
        ("openai-responses", "/v1/responses", "ends in `/responses`"),
        (
            "anthropic-messages",
            "/v1/messages",
            "ends in `/v1/messages`",
        ),
        ("anthropic-messages", "/v1", "ends in `/v1`"),
        ("ollama-chat", "/api/chat", "ends in `/api/chat`"),
        ("cohere-chat", "/v2", "ends in `/v2`"),
    ] {
        let found = warned(wire, url);
        assert!(found.contains(expected), "{wire} {url}: {found}");
        assert!(found.contains("remove it"), "{found}");
    }
    for (wire, url) in [
        ("openai-chat", "/v1"),
        ("openai-chat", "/api/v1"),
        ("anthropic-messages", ""),
        ("anthropic-messages", "/anthropic"),
    ] {
        assert_eq!(warned(wire, url), "", "{wire} {url}");
    }
}
