use std::fs;

use sluicegate::command::check::Check;

use super::{env, good, parse};

const FULL: &str = "\
listen: 127.0.0.1:8085
upstreams:
  openai:
    api_key: ${OPENAI_API_KEY}
    headers: { x-team: t5ecret, x-other: o5ecret }
  local: { wire: openai-chat, base_url: 'http://127.0.0.1:8000/v1/$$x' }
models:
  \"local/*\":
    targets:
      - { upstream: local, model: \"*\", priority: 3 }
      - { upstream: openai, model: 'a$$b: c' }
    timeouts: { total: 1h30m, idle: 250ms }
  \"off\": { targets: [ { upstream: local, model: '1.5' } ] }
keys:
  - { name: '#1', sha256: 7a1c0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f, models: [\"*\", 'local/*'], limits: { requests: 5/30s, streams: 3 } }
  - { name: 'yes', sha256: 8f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, models: [] }
limits: { per_ip: { requests: 10/s }, body: 1000 }
resume: { window: 0 }
trusted_proxies: [10.0.0.0/8]
cors: { origins: [\"*\"] }
";

#[test]
fn the_effective_config_is_a_config_of_the_same_meaning() {
    let config = good(FULL);
    let effective = config.effective();
    let again = good(&effective);
    assert_eq!(again.effective(), effective);
    // `Debug` shows everything but secrets, so equal output means equal settings.
    let shown = |config: &sluicegate::config::Config| format!("{config:#?}");
    assert_eq!(shown(&again), shown(&config), "{effective}");
    assert!(
        effective.contains("base_url: https://api.openai.com/v1"),
        "{effective}"
    );
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{FULL}state: redis://:r5ecret@localhost:6379/0\n");
    let loaded = parse(&text).unwrap();
    let effective = loaded.config.effective();
    let debug = format!("{loaded:?} {:#?}", loaded.config);
    for shown in [&effective, &debug] {
        assert!(!shown.contains("5ecret"), "{shown}");
    }
    assert!(effective.contains("api_key: <redacted>"), "{effective}");
    assert!(effective.contains("x-team: <redacted>"), "{effective}");
    assert!(effective.contains("localhost:6379/0"), "{effective}");
    assert!(parse(&effective).is_ok(), "{effective}");
}

/// Runs `sluicegate check` on a file with that content: exit status, output, errors.
fn check(name: &str, text: &str) -> (u8, String, String) {
    let path = std::env::temp_dir().join(format!("sluicegate-{}-{name}.yaml", std::process::id()));
    fs::write(&path, text).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = Check {
        config: Some(path.clone()),
    }
    .run(&env, &mut out, &mut err);
    fs::remove_file(path).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status, text(out), text(err))
}

#[test]
fn check_prints_the_effective_config() {
    let (status, out, err) = check("good", FULL);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(out, good(FULL).effective());
    let (status, _, err) = check("warned", "upstreams: { ollama: {} }\n");
    assert_eq!(status, 0);
    assert!(
        err.starts_with("warning: ")
            && err.contains("warned.yaml:1: models: no models are defined"),
        "{err}"
    );
}

#[test]
fn check_prints_every_problem() {
    let (status, out, err) = check("bad", "heartbeat: x\ndrian: 1s\nopen: 7\n");
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(err.lines().count(), 3, "{err}");
    for (line, expected) in err.lines().zip([
        "bad.yaml:1: heartbeat: ",
        "bad.yaml:2: drian: ",
        "bad.yaml:3: open: ",
    ]) {
        assert!(line.contains(expected), "{line}");
    }
}
