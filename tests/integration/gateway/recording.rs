//! `record` and `replay` together: a recorded exchange is replayed as it came, without credentials
//! and account ids.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::fixture::{Case, Library, Options, Server};
use sluicegate::model::Event;
use sluicegate::{pipeline, wire};

use super::program::{ExitedProgram, TemporaryFile, run};
use super::scripted::ScriptedUpstream;
use crate::fixture_server::ANY_PORT;

/// Waits between chunks: all different, and long compared with what a busy machine adds.
const WAITS: [u64; 9] = [40, 90, 60, 150, 50, 120, 70, 100, 80];
/// How far a replayed gap may differ, as a fraction of the recorded one.
const TOLERANCE: f64 = 0.1;
/// How many measurements a busy machine may spoil.
const ATTEMPTS: usize = 5;

/// A folder that is removed when it is dropped.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("recorded-{}-{count}", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Records the answer to `request` from the upstream that `config` describes.
async fn record(wire: &str, addr: SocketAddr, config: &str, request: &Value) -> Recorded {
    let path = if wire == "openai-chat" { "/v1" } else { "" };
    let config = TemporaryFile::new(&format!(
        "upstreams:\n  a:\n    wire: {wire}\n    base_url: 'http://{addr}{path}'\n    {config}\n"
    ));
    let request = TemporaryFile::new(&request.to_string());
    let folder = TemporaryFolder::new();
    let out = folder.0.to_str().unwrap();
    let arguments = ["record", "--upstream", "a", "--out", out];
    let files = ["--config", config.path(), "--request", request.path()];
    let ended = run(&[&arguments[..], &files].concat()).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    Recorded { folder, ended }
}

struct Recorded {
    folder: TemporaryFolder,
    ended: ExitedProgram,
}

impl Recorded {
    fn library(&self) -> Library {
        Library::load(&self.folder.0).unwrap()
    }

    /// Everything that was written: file names, content, and the command's output.
    fn everything(&self) -> String {
        let mut all = format!("{:?}", self.ended);
        let mut folders = vec![self.folder.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                all.push_str(path.strip_prefix(&self.folder.0).unwrap().to_str().unwrap());
                if path.is_dir() {
                    folders.push(path);
                } else {
                    all.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
                }
            }
        }
        all
    }
}

/// A model that sends at an uneven pace.
fn uneven(folder: &TemporaryFolder) -> Server {
    let case = folder.0.join("openai-chat/uneven");
    fs::create_dir_all(&case).unwrap();
    let mut body = String::new();
    let mut timing = Vec::new();
    for (number, wait) in WAITS.iter().enumerate() {
        let mut choice = json!({"index": 0, "delta": {"content": format!(" {number}")}});
        if number + 1 == WAITS.len() {
            choice["finish_reason"] = "stop".into();
        }
        let chunk = format!("data: {}\n\n", json!({"id": "x", "choices": [choice]}));
        timing.push(json!([wait, chunk.len()]));
        body.push_str(&chunk);
    }
    fs::write(case.join("upstream.sse"), body).unwrap();
    fs::write(case.join("timing.json"), Value::Array(timing).to_string()).unwrap();
    let library = Library::load(&folder.0).unwrap();
    Server::bind(ANY_PORT, &library, &Options::default()).unwrap()
}

fn events(case: &Case) -> Vec<String> {
    let wire = wire::by_name(&case.wire).unwrap();
    let mut chunks = Vec::new();
    let mut rest = &case.body[..];
    for (_, length) in case.timing.as_ref().unwrap() {
        let (chunk, behind) = rest.split_at(*length);
        chunks.push(chunk);
        rest = behind;
    }
    let mut events = Vec::new();
    let (_, outcome) = pipeline::read(wire, 1 << 20, chunks, &mut |event: Event<'_>| {
        events.push(pipeline::line(&event));
    });
    outcome.unwrap();
    events
}

/// The waits between chunks, without the wait for the first.
fn gaps(case: &Case) -> Vec<Duration> {
    let timing = case.timing.as_ref().unwrap();
    timing.iter().skip(1).map(|(wait, _)| *wait).collect()
}

/// The median deviation of the gaps of `played` from those of `recorded`, as a fraction.
fn off(recorded: &Case, played: &Case) -> f64 {
    let both = gaps(recorded).into_iter().zip(gaps(played));
    let mut off: Vec<f64> = both
        .map(|(was, is)| is.as_secs_f64() / was.as_secs_f64() - 1.0)
        .map(f64::abs)
        .collect();
    off.sort_by(f64::total_cmp);
    off[off.len() / 2]
}

#[tokio::test]
async fn a_recording_is_replayed_at_its_pace() {
    let request = json!({"model": "uneven", "prompt": "Count."});
    let folder = TemporaryFolder::new();
    let upstream = uneven(&folder);
    let recorded = record("openai-chat", upstream.addr(), "", &request).await;
    let library = recorded.library();
    let first = library.case("openai-chat", "uneven").unwrap();
    assert_eq!(gaps(first).len(), WAITS.len() - 1);
    let server = Server::bind(ANY_PORT, &library, &Options::default()).unwrap();
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        // Recording the replay measures it in the same way as the upstream.
        let played = record("openai-chat", server.addr(), "", &request).await;
        let library = played.library();
        let second = library.case("openai-chat", "uneven").unwrap();
        assert_eq!(second.body, first.body);
        assert_eq!(gaps(second).len(), gaps(first).len());
        assert_eq!(events(second), events(first));
        tried.push(off(first, second));
        if tried.last().is_some_and(|off| *off <= TOLERANCE) {
            return;
        }
    }
    panic!("off by {tried:?} of {:?}", gaps(first));
}

#[tokio::test]
async fn a_recording_has_no_credentials_and_account_ids() {
    const OWN_KEY: &str = "own-key-in-the-config-4711";
    const HEADER_KEY: &str = "second-key-in-a-header-4712";
    const QUOTED_KEY: &str = "sk-proj-quoted1234567890";
    const ORGANIZATION: &str = "org-a1B2c3D4e5F6g7H8";
    const PROJECT: &str = "proj_a1B2c3D4e5F6g7H8";
    const NUMBER: &str = "123456789012";
    let refusal = json!({
        "error": {"message": format!(
            "Rate limit reached for {ORGANIZATION} (key {OWN_KEY} or {QUOTED_KEY}, {HEADER_KEY})"
        )},
        "account": 123_456_789_012_u64,
        "project": PROJECT,
    });
    let headers = format!(
        "retry-after: 7\r\nx-ratelimit-limit-requests: 60\r\nopenai-organization: {ORGANIZATION}\r\n\
         openai-project: {PROJECT}\r\nx-account: {NUMBER}\r\nset-cookie: c={OWN_KEY}\r\n\
         x-request-id: req_4713\r\ncontent-type: application/json\r\n"
    );
    let upstream = ScriptedUpstream::bind().await;
    let config = format!("api_key: {OWN_KEY}\n    headers: {{ x-second: {HEADER_KEY} }}");
    let request = json!({"model": "m", "prompt": format!("Is {OWN_KEY} yours?"), "user": PROJECT});
    let answering = async {
        let mut exchange = upstream.request().await;
        assert!(exchange.head.contains(OWN_KEY));
        exchange.answer(429, &headers, &refusal.to_string()).await;
        exchange.body
    };
    let recording = record("openai-chat", upstream.addr(), &config, &request);
    let (recorded, sent) = tokio::join!(recording, answering);
    // The upstream still gets the original request.
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["user"], PROJECT);
    let everything = recorded.everything();
    for private in [
        OWN_KEY,
        HEADER_KEY,
        QUOTED_KEY,
        ORGANIZATION,
        PROJECT,
        NUMBER,
        "req_4713",
    ] {
        assert!(!everything.contains(private), "{private} in {everything}");
    }
    let library = recorded.library();
    let case = library.case("openai-chat", "m").unwrap();
    assert_eq!(case.status, 429);
    assert_eq!(case.headers["retry-after"], "7");
    assert_eq!(case.headers["x-ratelimit-limit-requests"], "60");
    let body: Value = serde_json::from_slice(&case.body).unwrap();
    assert_eq!(body["account"], 111_111_111_111_u64);
    assert_eq!(case.body.len(), refusal.to_string().len());
}

/// Amazon's model names contain the account number, so the path does too.
#[tokio::test]
async fn an_account_id_in_a_models_name_is_masked() {
    const NUMBER: &str = "123456789012";
    let model = format!("arn:aws:bedrock:eu-west-1:{NUMBER}:inference-profile/eu.m-v1:0");
    let upstream = ScriptedUpstream::bind().await;
    let request = json!({"model": model, "prompt": "Hello?"});
    let answering = async {
        let mut exchange = upstream.request().await;
        assert!(exchange.head.contains(NUMBER), "{}", exchange.head);
        let refusal = json!({"message": format!("User: arn:aws:iam::{NUMBER}:user/eve may not")});
        exchange
            .answer(
                403,
                "content-type: application/json\r\n",
                &refusal.to_string(),
            )
            .await;
    };
    let config = "api_key: k-4711-long-enough";
    let recording = record("bedrock-converse", upstream.addr(), config, &request);
    let (recorded, ()) = tokio::join!(recording, answering);
    let everything = recorded.everything();
    for private in [NUMBER, "eve", "k-4711"] {
        assert!(!everything.contains(private), "{private} in {everything}");
    }
    let cases: Vec<_> = recorded
        .library()
        .cases("bedrock-converse")
        .map(|case| case.status.as_u16())
        .collect();
    assert_eq!(cases, [403]);
}
