//! The config: what is accepted, what is refused with which message, and what is never printed.

mod accepted;
mod aws;
mod connection;
mod effective;
mod expansion;
mod lookup;
mod problems;
mod state;

use sluicegate::config::{Config, LoadedConfig, Overrides, Problems};

/// The environment of every test.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "OPENAI_API_KEY" => "sk-openai-5ecret",
        "ANTHROPIC_API_KEY" => "sk-ant-5ecret",
        "OPENAI_EU_KEY" => "sk-eu-5ecret",
        "PARTNER_KEY" => "sk-partner-5ecret",
        "PROXY_PASSWORD" => "proxy-5ecret",
        "EMPTY" => "",
        "PORT" => "8081",
        "DOLLARS" => "a$b${PORT}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(text: &str) -> Result<LoadedConfig, Problems> {
    Config::parse(text, "gateway.yaml", &env, &Overrides::default())
}

/// Parses a valid config without warnings, except the one about having no models.
fn good(text: &str) -> Config {
    let mut loaded = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.warnings.retain(|warning| warning.path != "models");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

/// The problems, one per line.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// The only problem.
fn problem(text: &str) -> String {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// The warnings of a valid config, one per line.
fn warnings(text: &str) -> Vec<String> {
    let loaded = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}
