use super::{good, problem};

const MODELS: &str = "\
upstreams: { ollama: {} }
models:
  \"*\": { targets: [ { upstream: ollama, model: \"*\" } ] }
  \"local/*\": { targets: [ { upstream: ollama, model: \"*\" } ] }
  \"local/*-code\": { targets: [ { upstream: ollama, model: \"code/*:7b\" } ] }
  \"local/special\": { targets: [ { upstream: ollama, model: exact } ] }
  tiers:
    targets:
      - { upstream: ollama, model: last, priority: 2 }
      - { upstream: ollama, model: first }
      - { upstream: ollama, model: second, priority: 1 }
      - { upstream: ollama, model: also-first, priority: 0 }
";

#[test]
fn exact_names_win_over_patterns_and_longer_patterns_over_shorter() {
    let config = good(MODELS);
    let asked = |name: &str| {
        let (model, captured) = config.models.find(name)?;
        Some((
            model.name.clone(),
            model.targets[0].model(captured).into_owned(),
        ))
    };
    let found = |name: &str, model: &str, target: &str| {
        assert_eq!(
            asked(name),
            Some((model.to_owned(), target.to_owned())),
            "{name}"
        );
    };
    found("local/special", "local/special", "exact");
    found("local/llama", "local/*", "llama");
    found("local/qwen-code", "local/*-code", "code/qwen:7b");
    found("local/-code", "local/*", "-code");
    found("remote/x", "*", "remote/x");
    // A `*` matches at least one character.
    found("local/", "*", "local/");
    assert_eq!(asked(""), None);
    // The text that a client puts into a name is carried over, but is not a pattern.
    found("local/*", "local/*", "*");
}

#[test]
fn targets_are_ordered_by_priority_then_by_the_file() {
    let config = good(MODELS);
    let (model, _) = config.models.find("tiers").unwrap();
    let targets: Vec<_> = model
        .targets
        .iter()
        .map(|target| target.pattern())
        .collect();
    assert_eq!(targets, ["first", "also-first", "second", "last"]);
}

#[test]
fn a_name_that_matches_no_pattern_finds_no_model() {
    let config = good(
        "upstreams: { ollama: }\nmodels: { \"a*c\": { targets: [ { upstream: ollama, model: x } ] } }",
    );
    assert!(config.models.find("abc").is_some());
    assert!(config.models.find("ac").is_none());
    assert!(config.models.find("abcd").is_none());
}

#[test]
fn a_star_in_a_target_needs_a_star_in_the_name() {
    let with = |name: &str, model: &str| {
        problem(&format!(
            "upstreams: {{ ollama: }}\nmodels:\n  \"{name}\":\n    targets: [ {{ upstream: ollama, model: \"{model}\" }} ]\n"
        ))
    };
    let found = with("plain", "*");
    assert!(
        found.starts_with("gateway.yaml:4: models.plain.targets[0].model: has a `*`"),
        "{found}"
    );
    let found = with("a*", "*/*");
    assert!(
        found.ends_with("has more than one `*`; at most one is allowed"),
        "{found}"
    );
    let found = with("a*b*", "x");
    assert!(
        found.starts_with("gateway.yaml:3: models.a*b*: has more than one `*`"),
        "{found}"
    );
}
