//! API keys: which are valid, which models they may use, and how new ones are generated.

use std::collections::HashSet;
use std::sync::Arc;

use secrecy::ExposeSecret;
use sluicegate::access::{Caller, KeyRing, generate};
use sluicegate::command::keys::{Command, Keys, New};
use sluicegate::config::{Config, Glob, KeyConfig, KeyLimitsConfig, Overrides};

const TEST_KEY: &str = "a-test-key-4711";
/// Its SHA-256.
const TEST: &str = "fcb605cfc6b648db26c35253f4b5b7de8876d4753db67198e8bbf572b329ee89";

fn ring(keys: &str) -> KeyRing {
    let text = format!("models: {{}}\n{keys}");
    let loaded = Config::parse(&text, "gateway.yaml", &|_| None, &Overrides::default());
    let config = loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    KeyRing::new(config.keys.as_deref())
}

fn key(name: &str, sha256: [u8; 32]) -> KeyConfig {
    KeyConfig {
        name: name.to_owned(),
        sha256,
        models: None,
        limits: KeyLimitsConfig::default(),
    }
}

fn name<'a>(ring: &'a KeyRing, presented: &str) -> Option<&'a str> {
    ring.authenticate(Some(presented))
        .map(|caller| caller.name.as_str())
}

#[test]
fn a_key_is_found_by_its_hash() {
    let ring = ring(&format!("keys: [ {{ name: web-app, sha256: {TEST} }} ]"));
    assert_eq!(name(&ring, TEST_KEY), Some("web-app"));
    let upper = TEST_KEY.to_uppercase();
    for stranger in ["", &upper, "a-test-key-4711 ", "a-test-key-471", TEST] {
        assert_eq!(name(&ring, stranger), None, "{stranger}");
    }
    assert!(ring.authenticate(None).is_none());
}

#[test]
fn the_whole_hash_is_compared() {
    let new = generate().unwrap();
    // One differs in its last bit only, so that it shares the bucket; the others are far away.
    let mut near = new.sha256;
    near[31] ^= 1;
    let mut far = new.sha256;
    far[0] ^= 0x80;
    let presented = new.key.expose_secret();
    let strangers = KeyRing::new(Some(&[key("near", near), key("far", far)]));
    assert_eq!(name(&strangers, presented), None);
    let among = [key("near", near), key("own", new.sha256), key("far", far)];
    assert_eq!(name(&KeyRing::new(Some(&among)), presented), Some("own"));
}

#[test]
fn without_configured_keys_all_requests_have_one_caller() {
    let ring = ring("");
    let nobody = ring.authenticate(None).unwrap();
    let somebody = ring.authenticate(Some("anything")).unwrap();
    assert!(Arc::ptr_eq(nobody, somebody));
    assert!(nobody.may_use("whatever"));
    // An empty list is not "no keys".
    assert!(KeyRing::new(Some(&[])).authenticate(None).is_none());
}

#[test]
fn a_caller_may_use_the_models_that_its_globs_match() {
    let caller = |globs: Option<&[&str]>| -> Arc<Caller> {
        let new = generate().unwrap();
        let mut key = key("a", new.sha256);
        key.models = globs.map(|globs| globs.iter().map(|glob| Glob::new(glob)).collect());
        let ring = KeyRing::new(Some(&[key]));
        Arc::clone(ring.authenticate(Some(new.key.expose_secret())).unwrap())
    };
    let some = caller(Some(&["fast", "local/*"]));
    assert!(some.may_use("fast"));
    assert!(some.may_use("local/llama"));
    assert!(!some.may_use("faster"));
    assert!(!some.may_use("remote/local/llama"));
    assert!(caller(None).may_use("anything"));
    assert!(!caller(Some(&[])).may_use("anything"));
}

#[test]
fn new_keys_are_long_random_and_unique() {
    let mut seen = HashSet::new();
    let mut letters = HashSet::new();
    for _ in 0..200 {
        let new = generate().unwrap();
        let key = new.key.expose_secret();
        let random = key.strip_prefix("sk-sg-").unwrap();
        // 32 characters of 62 kinds are 190 bits.
        assert!(random.len() >= 32, "{key}");
        assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
        letters.extend(random.bytes());
        assert!(seen.insert(key.to_owned()));
    }
    assert_eq!(letters.len(), 62);
}

#[test]
fn the_entry_that_keys_new_prints_works() {
    let new = |name: &str| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let keys = Keys {
            command: Command::New(New {
                name: name.to_owned(),
            }),
        };
        let status = keys.run(&mut out, &mut err);
        (status, String::from_utf8(out).unwrap())
    };
    for wanted in ["web-app", "a: $b #c", "off"] {
        let (status, out) = new(wanted);
        assert_eq!(status, 0);
        let (key, entry) = out.split_once('\n').unwrap();
        assert!(!entry.contains(key), "the key is shown twice:\n{out}");
        assert_eq!(name(&ring(entry), key), Some(wanted), "{out}");
    }
    assert_eq!(new("").0, 2);
    assert_eq!(new("a\nb").0, 2);
}
