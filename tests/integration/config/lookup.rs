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
fn exact_names_come_before_patterns_and_longer_patterns_before_shorter() {
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
    // A `*` stands for something.
    found("local/", "*", "local/");
    assert_eq!(asked(""), None);
    // What a client puts into a name is carried over, but not taken for a pattern.
    found("local/*", "local/*", "*");
}

#[test]
fn targets_are_in_the_order_of_their_priority_then_of_the_file() {
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
fn without_a_fitting_pattern_there_is_no_model() {
    let config = good(
        "upstreams: { ollama: }\nmodels: { \"a*c\": { targets: [ { upstream: ollama, model: x } ] } }",
    );
    assert!(config.models.find("abc").is_some());
    assert!(config.models.find("ac").is_none());
    assert!(config.models.find("abcd").is_none());
}

#[test]
fn a_star_needs_a_star() {
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
    assert!(found.ends_with("has more than one `*`"), "{found}");
    let found = with("a*b*", "x");
    assert!(
        found.starts_with("gateway.yaml:3: models.a*b*: has more than one `*`"),
        "{found}"
    );
}
