//! The Grafana dashboard and the alert rules name only metrics, labels and values that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::{metrics, root};

/// The labels of each metric, by its name in queries.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in metrics().lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap();
        let labels = known.entry(line[..end].to_owned()).or_default();
        if let Some((inside, _)) = line[end..].trim_start_matches('{').rsplit_once("} ") {
            labels.extend(
                inside
                    .split(',')
                    .map(|label| label.split('=').next().unwrap().to_owned()),
            );
        }
    }
    known
}

/// The names of the metrics in a query, each with the labels that it selects by.
fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices("sluicegate_") {
        let rest = &query[at..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let labels = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let labels = labels
            .unwrap_or_default()
            .split(',')
            .filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.split(['=', '!']).next().unwrap().to_owned());
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

/// The words in every `by (…)` of a query.
fn grouped(query: &str) -> Vec<String> {
    let groups = query.split("by (").skip(1);
    let words = groups.flat_map(|rest| rest.split(')').next().unwrap().split(','));
    words.map(|word| word.trim().to_owned()).collect()
}

fn check(queries: &[String]) {
    let known = known();
    for query in queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "no metric in {query}");
        let mut labels: BTreeSet<&str> = ["job", "instance"].into();
        for (name, selected) in &selectors {
            let own = known
                .get(name)
                .unwrap_or_else(|| panic!("there is no metric {name}: {query}"));
            labels.extend(own.iter().map(String::as_str));
            for label in selected {
                let exists = own.contains(label) || ["job", "instance"].contains(&label.as_str());
                assert!(exists, "{name} has no label {label}: {query}");
            }
        }
        for label in grouped(query) {
            assert!(labels.contains(label.as_str()), "no label {label}: {query}");
        }
    }
}

#[test]
fn the_grafana_dashboard_names_existing_metrics() {
    let text = std::fs::read_to_string(root().join("k8s/monitoring/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect();
    assert!(queries.len() > 20, "only {} queries", queries.len());
    check(&queries);
    for wanted in [
        "resumes_total",
        "output_token_seconds",
        "broken_answers_total",
        "unread_tokens_total",
    ] {
        assert!(
            queries.iter().any(|query| query.contains(wanted)),
            "{wanted}"
        );
    }
}

#[test]
fn the_alert_rules_name_existing_metrics() {
    let path = root().join("k8s/monitoring/alerts.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let rules: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let rules = rules[0]["groups"][0]["rules"].as_array().unwrap();
    let queries: Vec<String> = rules
        .iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned())
        .collect();
    assert!(queries.len() >= 10);
    check(&queries);
    let guide = std::fs::read_to_string(root().join("docs/kubernetes.md")).unwrap();
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        let row = format!("| `{alert}` |");
        assert!(guide.contains(&row), "docs/kubernetes.md lacks {alert}");
    }
    // Where Prometheus' tool is installed, it checks the rules' form.
    if let Ok(done) = Command::new("promtool")
        .args(["check", "rules"])
        .arg(&path)
        .output()
    {
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(done.status.success(), "{said}");
    }
}
