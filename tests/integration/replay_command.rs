//! `sluicegate replay`, from its arguments to its end.

use std::io::{self, Write};

use clap::Parser;
use sluicegate::command::replay::{Replay, ReplayError};
use tokio::sync::oneshot;

use crate::raw_client::RawClient;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    replay: Replay,
}

fn parse(arguments: &[&str]) -> Result<Replay, clap::Error> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-fixtures");
    let all = ["replay", folder]
        .into_iter()
        .chain(arguments.iter().copied());
    Program::try_parse_from(all).map(|program| program.replay)
}

/// Sends what was written when it is flushed.
struct Output {
    written: Vec<u8>,
    to: Option<oneshot::Sender<String>>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = String::from_utf8(self.written.split_off(0)).unwrap();
        if let Some(to) = self.to.take() {
            to.send(text).unwrap();
        }
        Ok(())
    }
}

#[tokio::test]
async fn replay_prints_its_address_and_serves_until_it_is_stopped() {
    let replay = parse(&[
        "--listen",
        "127.0.0.1:0",
        "--pace",
        "max",
        "--fault",
        "truncate:1",
    ]);
    let (announce, announced) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let output = Output {
        written: Vec::new(),
        to: Some(announce),
    };
    let running = replay.unwrap().run(output, async {
        let _ = stopped.await;
    });
    let using = async {
        let said = announced.await.unwrap();
        assert!(said.contains("openai-chat: "), "{said}");
        assert!(said.contains("azure-empty-first-chunk"), "{said}");
        let url = said.lines().next().unwrap();
        let addr = url.strip_prefix("http://").unwrap().parse().unwrap();
        let mut client = RawClient::connect(addr).await.unwrap();
        client.chat("text").await.unwrap();
        assert_eq!(client.head().await.unwrap().status, 200);
        let chunks = client.chunks().await.unwrap();
        assert_eq!(chunks.len(), 2, "one event and a half");
        drop(stop);
        addr
    };
    let (result, addr) = tokio::join!(running, using);
    result.unwrap();
    assert!(RawClient::connect(addr).await.is_err());
}

#[tokio::test]
async fn missing_fixtures_and_used_ports_are_errors() {
    let mut replay = parse(&["--listen", "127.0.0.1:0"]).unwrap();
    replay.dir = "no/such/folder".into();
    let result = replay.run(Vec::new(), async {}).await;
    assert!(matches!(result, Err(ReplayError::Load(_))), "{result:?}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let replay = parse(&["--listen", &addr.to_string()]).unwrap();
    let error = replay.run(Vec::new(), async {}).await.unwrap_err();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, named) in [
        (["--pace", "quick"], "--pace"),
        (["--fault", "stall"], "stall:N"),
        (["--split", "0"], "--split"),
        (["--listen", "here"], "--listen"),
    ] {
        let error = parse(&arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(named), "{error}");
    }
}
