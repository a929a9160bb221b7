//! Credentials and prompts must not appear in logs and answers.

use serde_json::json;

use super::client::ClientRequest;
use super::keys::key;
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::{Exchange, ScriptedUpstream, finish, token};

const UPSTREAMS_KEY: &str = "upstreams-own-key-4711";
const HEADER_KEY: &str = "second-key-in-a-header-4712";
const CALLERS_KEY: &str = "callers-key-4713";
const WRONG_KEY: &str = "wrong-key-4714";
const PROMPT: &str = "what-the-user-said-4715";
const ANSWER: &str = "what-the-model-said-4716";

fn config(upstream: &ScriptedUpstream) -> TemporaryFile {
    TemporaryFile::new(&format!(
        "upstreams:\n  a:\n    wire: openai-chat\n    base_url: 'http://{}/v1'\n    \
         api_key: {UPSTREAMS_KEY}\n    headers: {{ x-second: {HEADER_KEY} }}\n\
         models: {{ m: {{ targets: [ {{ upstream: a, model: text }} ], retry: off }} }}\n\
         resume: {{ window: 0s }}\nkeys:\n{}",
        upstream.addr(),
        key("one", CALLERS_KEY, ""),
    ))
}

async fn played(
    serving: &GatewayProcess,
    upstream: &ScriptedUpstream,
    script: impl AsyncFn(Exchange),
) -> String {
    let asked = ClientRequest::json(&json!({"model": "m", "prompt": PROMPT})).key(CALLERS_KEY);
    let answering = async { script(upstream.request().await).await };
    let (mut answer, ()) = tokio::join!(serving.ask(&asked), answering);
    String::from_utf8(answer.body().await).unwrap()
}

#[tokio::test]
async fn no_credential_is_in_logs_or_answers_at_any_level() {
    let upstream = ScriptedUpstream::bind().await;
    let config = config(&upstream);
    let serving = GatewayProcess::start(&config, &[("RUST_LOG", "trace")]).await;
    let mut bodies = Vec::new();
    bodies.push(
        played(&serving, &upstream, async |mut exchange| {
            assert!(exchange.head.contains(UPSTREAMS_KEY));
            assert!(exchange.head.contains(HEADER_KEY));
            exchange.begin().await;
            exchange.chunk(token(ANSWER) + &finish()).await;
            exchange.end().await;
        })
        .await,
    );
    assert!(bodies[0].contains(ANSWER));
    // Refusals, errors under status 200 and errors in the middle of a stream, all quoting the keys.
    let quoting = format!("Wrong key {UPSTREAMS_KEY}, or {HEADER_KEY}?");
    let error = json!({"error": {"message": quoting}}).to_string();
    for status in [400, 401, 403, 404, 429, 500, 200] {
        let body = played(&serving, &upstream, async |mut exchange| {
            exchange.answer(status, "", &error).await;
        });
        bodies.push(body.await);
    }
    bodies.push(
        played(&serving, &upstream, async |mut exchange| {
            exchange.begin().await;
            exchange.token("one").await;
            exchange.chunk(format!("data: {error}\n\n")).await;
            exchange.closed().await;
        })
        .await,
    );
    let wrong = ClientRequest::prompt("m").key(WRONG_KEY);
    bodies.push(String::from_utf8(serving.ask(&wrong).await.body().await).unwrap());
    for body in &bodies {
        for secret in [UPSTREAMS_KEY, HEADER_KEY, CALLERS_KEY, WRONG_KEY] {
            assert!(!body.contains(secret), "{body}");
        }
    }
    serving.program.signal(rustix::process::Signal::TERM);
    let ended = serving.program.ended().await;
    assert!(ended.err.contains("\"TRACE\""), "the level is not on");
    for secret in [
        UPSTREAMS_KEY,
        HEADER_KEY,
        CALLERS_KEY,
        WRONG_KEY,
        PROMPT,
        ANSWER,
    ] {
        let line = ended.err.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

#[tokio::test]
async fn debug_output_of_a_config_has_no_credential() {
    let upstream = ScriptedUpstream::bind().await;
    let text = std::fs::read_to_string(config(&upstream).path()).unwrap();
    let running = super::harness::TestGateway::start(&text);
    let app = running.gateway.app();
    let caller = app.keys.authenticate(Some(CALLERS_KEY)).unwrap();
    let printed = format!(
        "{:?} {:?} {:?}",
        app.config,
        app.keys,
        app.route("m", caller)
    );
    assert!(printed.contains("openai-chat"), "{printed}");
    for secret in [UPSTREAMS_KEY, HEADER_KEY, CALLERS_KEY] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
