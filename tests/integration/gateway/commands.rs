//! The command line: exit statuses, and what goes to stdout and stderr.

use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;
use serde_json::Value;
use sluicegate::fixture::Options;

use super::client::{Answer, ClientRequest, outcome, text};
use super::harness::targets;
use super::program::{GatewayProcess, Program, TemporaryFile, run, run_with, run_with_input};
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

const COMMANDS: [&[&str]; 13] = [
    &[],
    &["serve"],
    &["ask"],
    &["check"],
    &["replay"],
    &["record"],
    &["keys", "new"],
    &["keys", "hash"],
    &["demo"],
    &["schema"],
    &["completions"],
    &["connect"],
    &["healthcheck"],
];

#[tokio::test]
async fn every_command_has_help_and_a_version() {
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let ended = run(&[command, &[flag]].concat()).await;
            assert_eq!(ended.status, Some(0), "{command:?}");
            assert!(ended.out.contains("Usage: sluicegate"), "{}", ended.out);
            assert_eq!(ended.err, "");
        }
        let ended = run(&[command, &["--version"]].concat()).await;
        assert_eq!(ended.status, Some(0), "{command:?}");
        let version = format!(" {}", env!("CARGO_PKG_VERSION"));
        assert!(ended.out.ends_with(&version), "{}", ended.out);
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_2() {
    for arguments in [
        &["--nonsense"][..],
        &["nonsense"],
        &["serve", "--listen", "here"],
        &["serve", "--listen", "localhost"],
        &["ask", "model"],
        &["check"],
        &["replay"],
        &["keys"],
        &["connect"],
        &["connect", "nothing"],
        &["connect", "curl", "--url", "nowhere"],
        &["connect", "curl", "--url", "file:///x"],
        &["connect", "curl", "--key", "a'b"],
        &["connect", "curl", "--model", ""],
        &["healthcheck", "--admin", "nowhere"],
        // The flag would be ignored there.
        &["--listen", "127.0.0.1:0", "serve"],
        &["--config", "x.yaml", "check", "--config", "y.yaml"],
    ] {
        let ended = run(arguments).await;
        assert_eq!(ended.status, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.err.is_empty());
        assert_eq!(ended.out, "");
    }
}

#[tokio::test]
async fn a_bad_config_exits_with_2() {
    let config = TemporaryFile::new("listen: here\nhartbeat: 5s\n");
    for command in ["serve", "check"] {
        let ended = run(&[command, "--config", config.path()]).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert_eq!(ended.out, "");
        for problem in [":1: listen: ", ":2: hartbeat: "] {
            assert!(ended.err.contains(problem), "{}", ended.err);
        }
    }
    let ended = run(&["--config", "/no/such/file.yaml"]).await;
    assert_eq!(ended.status, Some(2));
    assert!(ended.err.contains("/no/such/file.yaml"), "{}", ended.err);
}

#[tokio::test]
async fn the_environment_can_name_the_config() {
    let config = TemporaryFile::new("hartbeat: 5s\n");
    let environment = [("SLUICEGATE_CONFIG", config.path())];
    for arguments in [&[][..], &["serve"], &["check"]] {
        let ended = run_with(arguments, &environment).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains("hartbeat"), "{}", ended.err);
    }
}

#[tokio::test]
async fn check_prints_the_config_without_its_secrets() {
    let config = TemporaryFile::new(
        "upstreams: { openai: { api_key: sk-very-secret-1 } }\n\
         models: { m: { targets: [ { upstream: openai, model: x } ] } }\n",
    );
    let ended = run(&["check", "--config", config.path()]).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.out.contains("<redacted>"), "{}", ended.out);
    assert!(!format!("{ended:?}").contains("very-secret"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let any = "127.0.0.1:0";
    for (listen, admin) in [(taken.as_str(), any), (any, taken.as_str())] {
        let ended = run(&["--listen", listen, "--admin-listen", admin]).await;
        if ended.status != Some(1) {
            panic!("{ended:?}");
        }
        assert!(ended.err.contains(&taken), "{}", ended.err);
        assert!(ended.err.contains("--listen"), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
}

#[tokio::test]
async fn the_demo_prints_a_command_that_works() {
    let any = "127.0.0.1:0";
    let mut program = Program::start(&["--listen", any, "--admin-listen", any], &[]);
    let url = program
        .wait_for_output(|line| {
            let url = line.trim().strip_prefix("curl -N '")?.strip_suffix('\'')?;
            Some(url.to_owned())
        })
        .await;
    let rest = url.strip_prefix("http://").unwrap();
    let (addr, path) = rest.split_at(rest.find('/').unwrap());
    let addr = addr.parse().unwrap();
    let mut client = RawClient::connect(addr).await.unwrap();
    let asked = ClientRequest::new("GET", path);
    asked.send(&mut client).await;
    let head = client.head().await.unwrap();
    let mut answer = Answer::new(head, client);
    let events = answer.events().await;
    assert_eq!(outcome(&events), "");
    assert_eq!(events[0].data["model"], "demo");
    program.signal(Signal::TERM);
    let ended = program.ended().await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.out.contains("Playground: http://"), "{}", ended.out);
}

/// A demo that serves on a public address, and where clients reach it.
async fn demo(listen: &str) -> (Program, SocketAddr) {
    let arguments = ["demo", "--listen", listen, "--admin-listen", "127.0.0.1:0"];
    let mut program = Program::start(&arguments, &[]);
    let playground = |line: &str| {
        let url = line.strip_prefix("Playground: http://")?;
        Some(url.trim_end_matches('/').parse().unwrap())
    };
    let address = program.wait_for_output(playground).await;
    (program, address)
}

async fn ask(address: SocketAddr, request: &ClientRequest) -> Answer {
    let mut client = RawClient::connect(address).await.unwrap();
    request.send(&mut client).await;
    let head = client.head().await.unwrap();
    Answer::new(head, client)
}

#[tokio::test]
async fn the_demo_serves_any_address_and_any_model() {
    let (_program, address) = demo("0.0.0.0:0").await;
    assert!(address.ip().is_loopback());
    let mut texts = Vec::new();
    for model in [
        "demo",
        "gpt-5",
        "claude-sonnet-4-5",
        "demo-gemini",
        "demo-openai-chat/text",
    ] {
        let mut answer = ask(address, &ClientRequest::prompt(model)).await;
        let events = answer.events().await;
        assert_eq!(outcome(&events), "", "{model}");
        texts.push(text(&events));
    }
    assert_eq!(texts[0], texts[1]);
    let mut answer = ask(
        address,
        &ClientRequest::prompt("demo-anthropic-messages/nope"),
    )
    .await;
    assert_eq!(answer.status(), 404);
    let message = answer.error().await["message"].to_string();
    for words in ["there is no case `nope`", "text", "tool"] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn pages_of_loopback_origins_may_call_the_demo() {
    let (_program, address) = demo("localhost:0").await;
    for (origin, allowed) in [
        ("http://localhost:5173", true),
        ("http://127.0.0.1:3000", true),
        ("http://[::1]:3000", true),
        ("http://app.localhost", true),
        ("https://evil.example", false),
        ("http://localhost.evil.example", false),
    ] {
        let request = ClientRequest::prompt("demo").header("origin", origin);
        let answer = ask(address, &request).await;
        let header = "access-control-allow-origin";
        assert_eq!(answer.has(header), allowed, "{origin}");
        if allowed {
            assert_eq!(answer.header(header), origin);
        }
    }
}

#[tokio::test]
async fn an_empty_variable_names_no_config() {
    let empty = [("SLUICEGATE_CONFIG", "")];
    for command in ["check", "record"] {
        let needed = [
            "--upstream",
            "x",
            "--out",
            "/tmp",
            "--request",
            "/no/such/file",
        ];
        let arguments = match command {
            "record" => [&[command][..], &needed].concat(),
            _ => vec![command],
        };
        let ended = run_with(&arguments, &empty).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(
            ended.err.contains("there is no config file"),
            "{}",
            ended.err
        );
    }
    let any = "127.0.0.1:0";
    let mut program = Program::start(&["--listen", any, "--admin-listen", any], &empty);
    let line = |line: &str| line.starts_with("Playground").then_some(());
    program.wait_for_output(line).await;
}

#[tokio::test]
async fn the_short_flag_names_the_config() {
    let config = TemporaryFile::new("hartbeat: 5s\n");
    for arguments in [&["-c", config.path()][..], &["check", "-c", config.path()]] {
        let ended = run(arguments).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains("hartbeat"), "{}", ended.err);
    }
}

#[tokio::test]
async fn an_existing_key_is_hashed_from_stdin() {
    let hash = |input: &'static str| async move {
        run_with_input(&["keys", "hash", "--name", "web"], input).await
    };
    let ended = hash("an-existing-key-4711\n").await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(!ended.out.contains("4711"), "{}", ended.out);
    let upstream = serve(&fast());
    let entry = &ended.out[ended.out.find("- name").unwrap()..];
    let keys = format!("keys:\n  {}", entry.replace('\n', "\n  "));
    let config = TemporaryFile::new(&targets(&[upstream.addr()], &keys));
    let serving = GatewayProcess::start(&config, &[]).await;
    let request = ClientRequest::prompt("m").key("an-existing-key-4711");
    assert_eq!(serving.ask(&request).await.status(), 200);
    for (input, expected) in [
        ("", "stdin must have one key"),
        ("two words", "stdin must have one key"),
        ("test\n", "well-known word"),
    ] {
        let ended = hash(input).await;
        assert_eq!(ended.status, Some(2), "{input}");
        assert!(ended.err.contains(expected), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
}

#[tokio::test]
async fn a_request_to_record_may_come_from_stdin() {
    let upstream = serve(&fast());
    let config = TemporaryFile::new(&targets(&[upstream.addr()], ""));
    let out = std::env::temp_dir().join(format!("sluicegate-{}-stdin", std::process::id()));
    let arguments = [
        "record",
        "--upstream",
        "a",
        "-c",
        config.path(),
        "--out",
        out.to_str().unwrap(),
        "--request",
        "-",
    ];
    let ended = run_with_input(&arguments, "{\"model\": \"text\", \"prompt\": \"Hi\"}").await;
    std::fs::remove_dir_all(&out).unwrap();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(
        ended.out.contains("openai-chat/text: status 200"),
        "{}",
        ended.out
    );
}

/// Every section and key of the example config is in the schema, with a description.
#[tokio::test]
async fn the_schema_describes_every_key() {
    let ended = run(&["schema"]).await;
    assert_eq!(ended.status, Some(0));
    let schema: Value = serde_json::from_str(&ended.out).unwrap();
    let mut described = 0;
    visit(&schema, &mut described);
    assert!(described > 50, "only {described} keys");
    let upstream = &schema["properties"]["upstreams"]["additionalProperties"]["properties"];
    assert!(
        upstream["proxy"]["description"]
            .as_str()
            .unwrap()
            .contains("CONNECT")
    );
    assert_eq!(schema["additionalProperties"], false);
}

fn visit(schema: &Value, described: &mut usize) {
    if !schema.is_object() {
        return;
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (key, value) in properties {
            let about = value["description"].as_str().unwrap_or_default();
            assert!(about.len() > 10 && about.ends_with('.'), "{key}: {about}");
            *described += 1;
            visit(value, described);
        }
    }
    for inner in ["items", "additionalProperties"] {
        visit(&schema[inner], described);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        visit(choice, described);
    }
}

#[tokio::test]
async fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&["completions", shell]).await;
        assert_eq!(ended.status, Some(0), "{shell}");
        assert!(ended.out.contains("healthcheck"), "{shell}");
    }
    assert_eq!(run(&["completions", "dos"]).await.status, Some(2));
}

#[tokio::test]
async fn healthcheck_reports_whether_the_gateway_is_ready() {
    let upstream = serve(&Options {
        fault: Some("stall:5".parse().unwrap()),
        ..fast()
    });
    let config = TemporaryFile::new(&targets(&[upstream.addr()], "drain: 1h"));
    let mut serving = GatewayProcess::start(&config, &[]).await;
    let admin = serving.admin.to_string();
    let ended = run(&["healthcheck", "--admin", &admin]).await;
    assert_eq!((ended.status, ended.err.as_str()), (Some(0), ""));
    // The address for clients has no health endpoint.
    let clients = serving.clients.to_string();
    let ended = run(&["healthcheck", "--admin", &clients]).await;
    assert_eq!(ended.status, Some(1));

    let mut answer = serving.ask(&ClientRequest::prompt("m")).await;
    answer.expect("start").await;
    serving.program.signal(Signal::TERM);
    serving.program.wait_for_log("draining").await;
    let ended = run(&["healthcheck", "--admin", &admin]).await;
    assert_eq!(ended.status, Some(1));
    assert!(ended.err.contains("not ready"), "{}", ended.err);
    drop(answer);
    assert_eq!(serving.program.ended().await.status, Some(0));
    let ended = run(&["healthcheck", "--admin", &admin]).await;
    assert_eq!(ended.status, Some(1));
}

#[tokio::test]
async fn a_new_key_is_accepted_by_its_config_entry() {
    let made = run(&["keys", "new", "--name", "web"]).await;
    assert_eq!(made.status, Some(0), "{made:?}");
    let (key, entry) = made.out.split_once('\n').unwrap();
    let entry = &entry[entry.find("- name").unwrap()..];
    let upstream = serve(&fast());
    let keys = format!("keys:\n  {}", entry.replace('\n', "\n  "));
    let config = TemporaryFile::new(&targets(&[upstream.addr()], &keys));
    let serving = GatewayProcess::start(&config, &[]).await;
    assert_eq!(serving.ask(&ClientRequest::prompt("m")).await.status(), 401);
    let mut answer = serving.ask(&ClientRequest::prompt("m").key(key)).await;
    assert_eq!(outcome(&answer.events().await), "");
    assert!(!config_text(&config).contains(key));
}

#[tokio::test]
async fn ask_prints_answers_and_reports_broken_ones() {
    let whole = serve(&fast());
    let broken = serve(&Options {
        fault: Some("truncate:6".parse().unwrap()),
        ..fast()
    });
    let made = run(&["keys", "new", "--name", "cli"]).await;
    let (key, entry) = made.out.split_once('\n').unwrap();
    let entry = &entry[entry.find("- name").unwrap()..];
    let keys = format!("keys:\n  {}", entry.replace('\n', "\n  "));
    let mut printed = Vec::new();
    for (upstream, status, problem) in [(&whole, 0, ""), (&broken, 1, "stream_interrupted: ")] {
        let config = TemporaryFile::new(&targets(&[upstream.addr()], &keys));
        let serving = GatewayProcess::start(&config, &[]).await;
        let url = format!("http://{}/", serving.clients);
        let mut answer = serving.ask(&ClientRequest::prompt("m").key(key)).await;
        let said = text(&answer.events().await);

        let asked = ["ask", "m", "Hello", "--url", &url, "--key", key];
        let ended = run(&asked).await;
        assert_eq!(ended.status, Some(status), "{ended:?}");
        assert_eq!(ended.out.trim_end(), said.trim_end());
        assert!(ended.err.starts_with(problem), "{}", ended.err);
        assert_eq!(ended.err.is_empty(), problem.is_empty(), "{}", ended.err);
        printed.push(ended.out);

        let environment = [("SLUICEGATE_URL", url.as_str()), ("SLUICEGATE_KEY", key)];
        let ended = run_with(&["ask", "nobody", "Hello"], &environment).await;
        assert_eq!(ended.status, Some(1));
        assert!(ended.err.starts_with("not_found: "), "{}", ended.err);
        let ended = run(&["ask", "m", "Hello", "--url", &url]).await;
        assert!(ended.err.starts_with("unauthenticated: "), "{}", ended.err);
    }
    assert!(!printed[1].trim().is_empty() && printed[0] != printed[1]);
    let ended = run(&["ask", "m", "Hello", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.err.starts_with("the gateway did not answer: "),
        "{}",
        ended.err
    );
}

fn config_text(config: &TemporaryFile) -> String {
    std::fs::read_to_string(config.path()).unwrap()
}

#[tokio::test]
async fn a_replay_ends_with_a_signal() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-fixtures");
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::start(&["replay", folder, "--listen", "127.0.0.1:0"], &[]);
        program
            .wait_for_output(|line| line.starts_with("http://").then_some(()))
            .await;
        program.signal(signal);
        assert_eq!(program.ended().await.status, Some(0));
    }
}
