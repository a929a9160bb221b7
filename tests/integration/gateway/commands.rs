//! The command line: exit statuses, and what goes to stdout and stderr.

use std::net::TcpListener;

use rustix::process::Signal;
use sluicegate::fixture::Options;

use super::client::{Answer, ClientRequest, outcome, text};
use super::harness::targets;
use super::program::{GatewayProcess, Program, TemporaryFile, run, run_with};
use crate::fixture_server::{fast, serve};
use crate::raw_client::RawClient;

const COMMANDS: [&[&str]; 8] = [
    &[],
    &["serve"],
    &["ask"],
    &["check"],
    &["replay"],
    &["record"],
    &["keys", "new"],
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

#[tokio::test]
async fn the_demo_is_for_loopback_only() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let ended = run(&["--listen", listen, "--admin-listen", "127.0.0.1:0"]).await;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err.contains("loopback"), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
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
