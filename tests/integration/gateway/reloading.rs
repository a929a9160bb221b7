//! Reloading the config while streams are open.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use super::client::{ClientRequest, outcome, text};
use super::harness::{TestGateway, targets};
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::fixture_server::{fast, serve};

fn with_model(upstream: SocketAddr, name: &str) -> String {
    format!(
        "{}\n",
        targets(&[upstream], "").replace("  m: {", &format!("  {name}: {{"))
    )
}

async fn models(serving: &GatewayProcess) -> Vec<String> {
    let mut answer = serving.ask(&ClientRequest::new("GET", "/v1/models")).await;
    let body: Value = serde_json::from_slice(&answer.body().await).unwrap();
    let models = body["data"].as_array().unwrap().iter();
    models
        .map(|model| model["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn reloads(serving: &GatewayProcess, outcome: &str) -> f64 {
    let name = format!("sluicegate_config_reloads_total{{outcome=\"{outcome}\"}}");
    serving.metric(&name).await
}

#[tokio::test]
async fn sighup_reloads_and_a_bad_config_changes_nothing() {
    let upstream = serve(&fast());
    let config = TemporaryFile::new(&with_model(upstream.addr(), "old"));
    let mut serving = GatewayProcess::start(&config, &[]).await;
    assert_eq!(models(&serving).await, ["old"]);
    config.write(&with_model(upstream.addr(), "new"));
    serving.program.signal(Signal::HUP);
    serving.program.wait_for_log("configuration reloaded").await;
    assert_eq!(models(&serving).await, ["new"]);
    assert_eq!(
        serving.ask(&ClientRequest::prompt("old")).await.status(),
        404
    );

    config.write(&with_model(upstream.addr(), "newer").replace("resume:", "resumé:"));
    serving.program.signal(Signal::HUP);
    let refused = serving
        .program
        .wait_for_log("configuration refused; the one in use stays")
        .await;
    assert_eq!(refused["level"], "ERROR");
    assert!(
        refused["problem"].as_str().unwrap().contains("resumé"),
        "{refused}"
    );
    assert_eq!(models(&serving).await, ["new"]);
    assert_eq!(serving.ready().await, 200);
    let mut answer = serving.ask(&ClientRequest::prompt("new")).await;
    assert_eq!(outcome(&answer.events().await), "");
    assert!(reloads(&serving, "accepted").await >= 1.0);
    assert!(reloads(&serving, "refused").await >= 1.0);
}

#[tokio::test]
async fn a_changed_file_is_reloaded() {
    let upstream = serve(&fast());
    let config = TemporaryFile::new(&with_model(upstream.addr(), "old"));
    let mut serving = GatewayProcess::start(&config, &[]).await;
    config.write(&with_model(upstream.addr(), "new"));
    serving.program.wait_for_log("configuration reloaded").await;
    assert_eq!(models(&serving).await, ["new"]);
    config.write("upstreams: [");
    serving
        .program
        .wait_for_log("configuration refused; the one in use stays")
        .await;
    assert_eq!(models(&serving).await, ["new"]);
    assert_eq!(reloads(&serving, "accepted").await, 1.0);
    assert_eq!(reloads(&serving, "refused").await, 1.0);
}

#[tokio::test]
async fn open_streams_keep_the_config_that_they_began_with() {
    let before = ScriptedUpstream::bind().await;
    let after = serve(&fast());
    let running = TestGateway::with_upstreams(&[before.addr()], "");
    let answering = async {
        let mut exchange = before.request().await;
        exchange.begin().await;
        exchange.token("one ").await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering);
    running.reload(&targets(&[after.addr()], ""));
    let events = running.prompt().await.events().await;
    assert_eq!(outcome(&events), "");
    assert_eq!(after.request_count(), 1);
    exchange.token("two").await;
    exchange.finish().await;
    let events = within_timeout(answer.events()).await;
    assert_eq!((text(&events).as_str(), outcome(&events)), ("one two", ""));
}
