use std::time::Duration;

use secrecy::ExposeSecret;
use sluicegate::config::{
    AffinityConfig, AllowedOrigins, Config, HedgeConfig, OnStoreFailure, Overrides, StateConfig,
    StrategyConfig, TimeoutsConfig, UpstreamConfig, preset,
};
use sluicegate::model::{Credential, Rate};

use super::{env, good, parse, warnings};

const EXAMPLE: &str = include_str!("../../../docs/config.example.yaml");

const MINUTE: Duration = Duration::from_secs(60);

/// The header for an upstream's key, if it is not `authorization`.
fn header(upstream: &UpstreamConfig) -> Option<&'static str> {
    match upstream.credential {
        Some(Credential::Header(name, _)) => Some(name),
        _ => None,
    }
}

#[test]
fn the_example_config_is_accepted() {
    let loaded = parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    let config = loaded.config;
    assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.admin_listen, "127.0.0.1:9090".parse().unwrap());

    let openai = config.upstream("openai").unwrap();
    assert_eq!(openai.wire.name(), "openai-chat");
    assert_eq!(openai.base_url.as_str(), "https://api.openai.com/v1");
    assert_eq!(openai.vendor.max_tokens_field, "max_completion_tokens");
    let Some(Credential::Bearer(key)) = &openai.credential else {
        panic!("{:?}", openai.credential);
    };
    assert_eq!(key.expose_secret(), "sk-openai-5ecret");
    let claude = config.upstream("claude").unwrap();
    assert_eq!(claude.wire.name(), "anthropic-messages");
    assert_eq!(header(claude), Some("x-api-key"));
    let local = config.upstream("local").unwrap();
    assert_eq!(local.base_url.as_str(), "http://127.0.0.1:8000/v1");
    assert!(local.credential.is_none());
    let europe = config.upstream("openai-eu").unwrap();
    assert_eq!(europe.base_url.as_str(), "https://eu.api.openai.com/v1");
    assert_eq!(europe.vendor, openai.vendor);

    let (fast, _) = config.models.find("fast").unwrap();
    let targets: Vec<_> = fast
        .targets
        .iter()
        .map(|target| (target.upstream.name.as_str(), target.pattern()))
        .collect();
    let expected = [
        ("openai", "gpt-4o-mini"),
        ("claude", "claude-haiku-4-5"),
        ("local", "qwen3"),
    ];
    assert_eq!(targets, expected);
    assert_eq!(fast.timeouts.first_token, Duration::from_secs(20));
    assert_eq!(fast.timeouts.connect, Duration::from_secs(5));
    assert!(!fast.continues);

    let keys = config.keys.unwrap();
    assert_eq!(keys[0].name, "web-app");
    assert_eq!(keys[0].sha256, [0; 32]);
    assert_eq!(keys[0].models.as_ref().unwrap()[1].as_str(), "local/*");
    let rate = |amount| Rate {
        amount,
        per: MINUTE,
    };
    assert_eq!(keys[0].limits.requests, Some(rate(600)));
    assert_eq!(keys[0].limits.tokens, Some(rate(200_000)));
    assert_eq!(keys[0].limits.streams, Some(50));
    assert_eq!(config.limits.per_ip, Some(rate(300)));
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "# nothing\n", "---\n", "models:\n", "models: {}\n"] {
        let loaded = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
        let config = loaded.config;
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.admin_listen, "127.0.0.1:9090".parse().unwrap());
        let timeouts = TimeoutsConfig {
            connect: Duration::from_secs(5),
            first_token: MINUTE,
            idle: MINUTE,
            total: None,
        };
        assert_eq!(config.timeouts, timeouts);
        assert_eq!(config.heartbeat, Duration::from_secs(15));
        assert_eq!(config.drain, Duration::from_secs(30));
        assert_eq!(config.limits.streams, 10_000);
        assert_eq!(config.limits.connections.total, 15_000);
        assert_eq!(config.limits.connections.per_ip, None);
        assert_eq!(config.limits.memory, 512 << 20);
        assert_eq!(config.limits.body, 10 << 20);
        assert_eq!(config.limits.frame, 16 << 20);
        assert_eq!(config.limits.per_ip, None);
        assert_eq!(config.resume.window, Duration::from_secs(30));
        assert_eq!(config.resume.buffer, 1 << 20);
        assert!(matches!(config.state, StateConfig::Memory));
        assert_eq!(config.on_store_failure, OnStoreFailure::Local);
        assert_eq!(config.origins, AllowedOrigins::These(Vec::new()));
        assert!(config.keys.is_none());
        // No window is set, so there is no warning about it.
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
        assert_eq!(loaded.warnings[0].path, "models");
    }
}

#[test]
fn every_yaml_notation_is_accepted() {
    let config = good(
        "\
upstreams:
  ollama:
  vllm: &vllm { base_url: http://10.0.0.1:8000/v1 }
  second: { <<: *vllm, preset: vllm, api_key: k }
models:
  a:
    targets: &targets
      - upstream: ollama
        model: llama3
    continue: off
    timeouts: { total: 5m, idle: 0.5s }
  b: { targets: *targets, continue: false }
trusted_proxies: [10.0.0.0/8, '::1']
cors: { origins: ['https://App.example.com:443/', 'http://localhost:3000'] }
drain: 0
",
    );
    assert_eq!(config.upstreams.len(), 3);
    let second = config.upstream("second").unwrap();
    assert_eq!(second.base_url.as_str(), "http://10.0.0.1:8000/v1");
    let (b, _) = config.models.find("b").unwrap();
    assert_eq!(b.targets[0].upstream.name, "ollama");
    let proxies: Vec<_> = config
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    let origins = ["https://app.example.com", "http://localhost:3000"];
    assert_eq!(
        config.origins,
        AllowedOrigins::These(origins.map(str::to_owned).to_vec())
    );
    assert_eq!(config.drain, Duration::ZERO);
}

#[test]
fn numbers_and_switches_need_no_quotes() {
    for (written, value) in [("on", true), ("off", false), ("true", true), ("'on'", true)] {
        let text = format!(
            "listen: 0.0.0.0:1\nmodels: {{}}\nkeys: [{{name: a, sha256: '{}'}}]\nopen: {written}\n",
            "0f".repeat(32)
        );
        let loaded = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.config.open, value, "{written}");
        // Both at once give a warning, because the keys win. Having no models gives another.
        assert_eq!(loaded.warnings.len(), 1 + usize::from(value));
    }
    let config = good("models: {}\nlimits: { streams: 20k, body: 65536 }\n");
    assert_eq!(config.limits.streams, 20_000);
    assert_eq!(config.limits.body, 65_536);
}

#[test]
fn the_command_line_overrides_the_file() {
    let text = "listen: 127.0.0.1:1\nadmin_listen: 127.0.0.1:2\nmodels: {}\n";
    let overrides = Overrides {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        admin_listen: Some("127.0.0.1:4".parse().unwrap()),
    };
    let loaded = Config::parse(text, "gateway.yaml", &env, &overrides).unwrap();
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.admin_listen.port(), 4);
}

#[test]
fn without_keys_only_loopback_or_open_is_accepted() {
    let listens = |text: &str, listen: Option<&str>| {
        let overrides = Overrides {
            listen: listen.map(|listen| listen.parse().unwrap()),
            admin_listen: None,
        };
        Config::parse(text, "gateway.yaml", &env, &overrides)
    };
    for listen in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
        assert!(listens("", Some(listen)).is_ok(), "{listen}");
    }
    for listen in [
        "0.0.0.0:80",
        "[::]:80",
        "10.0.0.1:80",
        "[::ffff:127.0.0.1]:80",
    ] {
        assert!(listens("", Some(listen)).is_err(), "{listen}");
        assert!(listens("open: true", Some(listen)).is_ok(), "{listen}");
    }
    assert!(listens("listen: 0.0.0.0:80", None).is_err());
    assert!(listens("listen: 0.0.0.0:80", Some("127.0.0.1:80")).is_ok());
    // An empty list or a commented-out one differs from an absent `keys`.
    for keys in ["keys: []", "keys:", "keys: {}"] {
        assert!(listens(keys, None).is_err(), "{keys}");
        assert!(
            listens(&format!("{keys}\nopen: true"), None).is_err(),
            "{keys}"
        );
    }
}

#[test]
fn think_tags_separate_reasoning_only_where_they_are_set() {
    let config = good(
        "\
models: {}
upstreams:
  local: { wire: openai-chat, base_url: 'http://127.0.0.1:9', think_tags: reasoning }
  plain: { wire: openai-chat, base_url: 'http://127.0.0.1:9' }
  text: { wire: ollama-chat, base_url: 'http://127.0.0.1:9', think_tags: text }
",
    );
    for (name, separated) in [("local", true), ("plain", false), ("text", false)] {
        assert_eq!(
            config.upstream(name).unwrap().vendor.think_tags,
            separated,
            "{name}"
        );
    }
    let again = good(&config.effective());
    assert!(again.upstream("local").unwrap().vendor.think_tags);
    for preset in preset::ALL {
        assert!(!preset.vendor.think_tags, "off by default: {}", preset.name);
    }
    let found = super::problem(
        "models: {}\nupstreams:\n  local: { wire: openai-chat, base_url: 'http://127.0.0.1:9', think_tags: on }\n",
    );
    assert!(found.contains("upstreams.local.think_tags"), "{found}");
    assert!(found.contains("`reasoning` or `text`"), "{found}");
}

#[test]
fn a_preset_can_be_overridden() {
    let config = good(
        "\
models: {}
upstreams:
  mistral: { api_key: k, headers: { X-Team: blue } }
  azure: { api_key: k, base_url: https://mine.openai.azure.com/openai/v1/ }
  deepseek: { api_key: k, wire: anthropic-messages }
  openai: { base_url: http://127.0.0.1:9/ }
  groq: { api_key: k, base_url: 'http://127.0.0.1:9//' }
  classic:
    preset: azure
    base_url: https://mine.openai.azure.com/openai/deployments/d/?api-version=2024-10-21
    headers: { authorization: Bearer of-entra-id }
",
    );
    let of = |name: &str| config.upstream(name).unwrap();
    assert!(!of("mistral").vendor.stream_options);
    assert_eq!(of("mistral").headers["x-team"], "blue");
    let azure = of("azure");
    assert_eq!(
        azure.base_url.as_str(),
        "https://mine.openai.azure.com/openai/v1"
    );
    assert_eq!(header(azure), Some("api-key"));
    let deepseek = of("deepseek");
    assert_eq!(
        deepseek.base_url.as_str(),
        "https://api.deepseek.com/anthropic"
    );
    assert_eq!(header(deepseek), Some("x-api-key"));
    // At another address than the vendor's, no key is demanded.
    assert!(of("openai").credential.is_none());
    let classic = of("classic");
    assert!(classic.credential.is_none());
    assert_eq!(
        classic.base_url.as_str(),
        "https://mine.openai.azure.com/openai/deployments/d?api-version=2024-10-21"
    );
    assert_eq!(of("groq").base_url.path(), "/");
}

#[test]
fn every_preset_is_accepted() {
    let mut names = std::collections::HashSet::new();
    for preset in preset::ALL {
        assert!(names.insert(preset.name), "{} is there twice", preset.name);
        let mut fields = vec!["api_key: k"];
        if preset.base_url.is_none() {
            fields.push("base_url: https://example.com/v1");
        }
        if preset.base_url.is_some_and(|url| url.contains("{region}")) {
            fields.push("region: eu-west-1");
        }
        let fields = fields.join(", ");
        let text = format!(
            "models: {{}}\nupstreams:\n  {}: {{ {fields} }}\n",
            preset.name
        );
        let config = good(&text);
        let upstream = config.upstream(preset.name).unwrap();
        assert_eq!(upstream.preset, Some(preset.name));
        assert_eq!(upstream.wire.name(), preset.wire);
        assert!(!upstream.base_url.as_str().contains('{'));
        let bare = format!("models: {{}}\nupstreams:\n  {}:\n", preset.name);
        assert_eq!(parse(&bare).is_err(), preset.needs_key, "{}", preset.name);
    }
}

#[test]
fn the_documented_vendors_have_presets() {
    for name in "openai anthropic gemini bedrock cohere ollama azure mistral groq deepseek xai \
                 openrouter together fireworks perplexity cerebras nvidia huggingface vllm \
                 llamacpp lmstudio sglang"
        .split_whitespace()
    {
        assert!(preset::by_name(name).is_some(), "{name}");
    }
}

#[test]
fn the_reference_lists_every_preset() {
    const REFERENCE: &str = include_str!("../../../docs/configuration.md");
    let row = |preset: &preset::Preset| {
        REFERENCE.lines().find(|line| {
            let first = format!("| `{}` ", preset.name);
            line.starts_with(&first)
        })
    };
    for preset in preset::ALL {
        let row = row(preset).unwrap_or_else(|| panic!("{} is missing", preset.name));
        assert!(row.contains(&format!("`{}`", preset.wire)), "{row}");
        let base_url = preset.base_url.unwrap_or_default();
        assert!(row.contains(base_url), "{row}");
        // The footnote says which presets need no key.
        assert!(
            preset.needs_key || row.contains('¹') || preset.name == "bedrock",
            "{row}"
        );
    }
}

#[test]
fn a_key_for_an_unknown_model_gives_a_warning() {
    let text = format!(
        "upstreams: {{ ollama: }}\n\
         models: {{ fast: {{ targets: [ {{ upstream: ollama, model: m }} ] }} }}\n\
         keys: [ {{ name: a, sha256: {}, models: [fast, 'loc*', fsat] }} ]\n",
        "a".repeat(64)
    );
    assert_eq!(
        warnings(&text),
        ["gateway.yaml:3: keys[0].models[2]: there is no model `fsat`; did you mean `fast`?"]
    );
}

#[test]
fn bodies_that_are_always_refused_give_a_warning() {
    let of = |limits: &str| {
        let model = "m: { targets: [ { upstream: ollama, model: a } ] }";
        warnings(&format!(
            "upstreams: {{ ollama: {{}} }}\nmodels: {{ {model} }}\nlimits: {{ {limits} }}\n"
        ))
    };
    for (limits, place) in [
        ("memory: 1MiB", "3: limits.memory"),
        ("body: 513MiB", "3: limits.body"),
        ("body: 2MiB, memory: 1MiB", "3: limits.memory"),
    ] {
        let warnings = of(limits);
        assert_eq!(warnings.len(), 1, "{limits}: {warnings:#?}");
        let start = format!("gateway.yaml:{place}: a body of more than `limits.memory` (");
        assert!(warnings[0].starts_with(&start), "{}", warnings[0]);
    }
    assert!(of("body: 1MiB, memory: 1MiB").is_empty());
}

#[test]
fn routing_has_defaults_and_takes_every_setting() {
    let routing = |settings: &str| {
        let text = format!(
            "upstreams: {{ ollama: {{}} }}\nmodels: {{ m: {{ targets: [ {{ upstream: ollama, model: a }} ]{settings} }} }}\n"
        );
        let config = good(&text);
        let (model, _) = config.models.find("m").unwrap();
        model.routing.clone()
    };
    let plain = routing("");
    assert_eq!(plain.strategy, StrategyConfig::Weighted);
    assert_eq!(plain.affinity, AffinityConfig::Auto);
    assert_eq!((plain.retry.attempts, plain.hedge), (2, None));
    assert_eq!(plain.breaker.unwrap().failures, 5);

    let all = routing(
        ", strategy: fastest, affinity: 'header:X-Tenant', retry: off, breaker: { failures: 2, open: 1s }, hedge: { after: p95 }",
    );
    assert_eq!(all.strategy, StrategyConfig::Fastest);
    assert_eq!(
        all.affinity,
        AffinityConfig::Header("x-tenant".parse().unwrap())
    );
    assert_eq!(all.retry.attempts, 1);
    let breaker = all.breaker.unwrap();
    assert_eq!(
        (breaker.failures, breaker.window),
        (2, Duration::from_secs(30))
    );
    assert_eq!(breaker.open, Duration::from_secs(1));
    assert_eq!(all.hedge, Some(HedgeConfig::P95));
    assert_eq!(routing(", breaker: off").breaker, None);
}
