//! Checks of the documents: links have targets, configs are valid, no metric is missing. `names` checks
//! that what the documents name exists.

mod clients;
mod monitoring;
mod names;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluicegate::config::{Config, Overrides};
use sluicegate::metrics::{Affinity, HedgeWinner, Metrics, StoreFailure, StreamEnd, Takeover};
use sluicegate::model::Usage;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "proto-fixtures/README.md",
    ]
    .map(|name| root().join(name))
    .into();
    for folder in ["docs", "docs/clients", "docs/dialects"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            paths.push(entry.unwrap().path());
        }
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The targets of `[…](target)`, outside code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1));
    targets
        .map(|rest| rest.split(')').next().unwrap())
        .collect()
}

/// The anchors of a document's headings, as code hosts make them, and its own `id`s.
fn anchors(text: &str) -> HashSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let slug = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let ids = text.split("id=\"").skip(1);
    let ids = ids.map(|rest| rest.split('"').next().unwrap().to_owned());
    headings.map(slug).chain(ids).collect()
}

#[test]
fn links_have_targets() {
    let mut followed = 0;
    for (path, text) in documents() {
        for link in links(&text)
            .into_iter()
            .filter(|link| !link.contains("://"))
        {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let known = anchors(&fs::read_to_string(&target).unwrap());
                assert!(known.contains(anchor), "{}: {link}", path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}

#[test]
fn the_config_in_the_readme_is_valid() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let config = text.split("```yaml\n").nth(1).unwrap();
    let config = config.split("```").next().unwrap();
    // The user appends the output of `keys new`.
    let keys = text.split("# For the config:\n").nth(1).unwrap();
    let keys = keys.split("```").next().unwrap();
    let env = |_: &str| Some("sk-test".to_owned());
    let both = format!("{config}{keys}");
    let loaded = Config::parse(&both, "README.md", &env, &Overrides::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.keys.unwrap().len(), 1);
}

/// The names and types of all metrics: a metric appears with its first sample.
fn metrics() -> String {
    let metrics = Metrics::default();
    metrics.record_stream_opened();
    metrics.record_stream_end(&StreamEnd {
        dialect: "native",
        model: "fast",
        key: "app",
        upstream: Some("openai"),
        outcome: "complete",
        first_token: Some(Duration::ZERO),
        duration: Duration::ZERO,
        output_tokens: 2,
        usage: Some(Usage {
            output: Some(2),
            ..Usage::default()
        }),
    });
    metrics.record_first_token("fast", "openai", Duration::ZERO);
    metrics.record_unread_tokens("fast", 1);
    metrics.record_resume("resumed");
    metrics.record_takeover(Takeover::Ended);
    metrics.record_refusal("draining");
    metrics.record_limit_refusal("memory");
    metrics.record_upstream_error("openai", "upstream_timeout");
    metrics.record_broken_answer("openai", "stream_interrupted");
    metrics.record_attempt("openai", "ok");
    metrics.record_failover("fast");
    metrics.record_retry("fast");
    metrics.record_hedge("fast", HedgeWinner::Second);
    metrics.record_hedged_input("fast", 1);
    metrics.record_affinity("fast", Affinity::Hit);
    metrics.set_breaker("openai", "gpt", 0);
    metrics.record_overhead(Duration::ZERO);
    metrics.record_skipped_frames("openai", 1);
    metrics.record_image("native");
    metrics.record_store_failure(StoreFailure::Timeout);
    metrics.record_limit_without_store(true);
    metrics.record_token_count(true);
    metrics.record_reload(true);
    metrics.record_notification("announcement");
    metrics.open_metrics()
}

#[test]
fn every_metric_is_documented() {
    let text = metrics();
    let document = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut count = 0;
    for line in names {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        assert!(document.contains(&format!("`{name}`")), "{name}");
        count += 1;
    }
    assert!(count >= 10, "only {count} metrics were found");
}
