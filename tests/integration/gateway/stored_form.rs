//! The form of streams in the shared state. Replicas of the version before and after this one read it during a
//! rollout, so a change of it needs a version that reads both forms first.

use redis::Value;

use super::client::{ClientRequest, outcome, text};
use super::harness::TestGateway;
use super::replicas::{pair, started, state, status, viewed};
use super::scripted::ScriptedUpstream;
use super::within_timeout;
use crate::valkey::{Valkey, command};

type Entry = (String, Vec<(String, String)>);

const STREAM: &str = "st_aaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The names of an entry's fields, and their values but for the events and the replica's name.
fn form((id, fields): &Entry) -> String {
    let show = |(name, value): &(String, String)| match name.as_str() {
        "events" if !value.is_empty() => name.clone(),
        "replica" => {
            assert_eq!(value.len(), 26, "{value}");
            name.clone()
        }
        _ => format!("{name}={value}"),
    };
    let fields: Vec<_> = fields.iter().map(show).collect();
    format!("{id}: {}", fields.join(" "))
}

#[tokio::test]
async fn streams_are_written_in_a_fixed_form() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let (here, there) = pair(&upstream, &valkey, "{ window: 1h }").await;
    let (mut own, mut exchange, stream) = started(&here, &upstream).await;
    let mut reader = viewed(&there, &stream).await;
    for expected in ["start", "token"] {
        reader.expect(expected).await;
    }
    exchange.token("two").await;
    reader.expect("token").await;
    exchange.finish().await;
    own.rest().await;
    reader.rest().await;
    let mut connection = valkey.connect().await;
    let key = format!("sluicegate:stream:{stream}");
    let entries: Vec<Entry> = command(&format!("XRANGE {key} - +"))
        .query_async(&mut connection)
        .await
        .unwrap();
    // How many entries there are depends on the turns; the ids are those of their last events.
    let first = form(&entries[0]);
    assert_eq!(first, "0-1: events= owner=anonymous replica model=m");
    for entry in &entries[1..] {
        let (_, number) = entry.0.split_once('-').unwrap();
        assert!(
            (2..=5).contains(&number.parse::<u32>().unwrap()),
            "{entry:?}"
        );
        assert_eq!(
            form(entry),
            format!("{}: events owner=anonymous replica", entry.0)
        );
    }
    let events: String = entries
        .iter()
        .map(|(_, fields)| fields[0].1.as_str())
        .collect();
    let begin = format!("id: {stream}.0\nevent: start\ndata: {{");
    assert!(events.contains(&begin), "{events}");
    let token = format!("id: {stream}.2\nevent: token\ndata: {{\"text\":\"two\"}}\n\n");
    assert!(events.contains(&token), "{events}");
    let end = format!("id: {stream}.3\nevent: complete\ndata: {{");
    assert!(events.contains(&end), "{events}");
    let mut keys: Vec<String> = command("KEYS sluicegate:stream*")
        .query_async(&mut connection)
        .await
        .unwrap();
    keys.sort();
    let suffixes = ["", ":past", ":viewed"].map(|suffix| format!("{key}{suffix}"));
    assert_eq!(keys, suffixes);
    let past: String = command(&format!("GET {key}:past"))
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(past, "3");
}

/// Writes an entry as version 0.1 does.
async fn write(connection: &mut redis::aio::MultiplexedConnection, id: &str, events: &str) {
    let mut add = redis::cmd("XADD");
    add.arg(format!("sluicegate:stream:{STREAM}")).arg(id);
    add.arg(&["events", events, "owner", "anonymous", "replica", "old"]);
    if events.is_empty() {
        add.arg(&["model", "m"]);
    }
    add.exec_async(connection).await.unwrap();
}

#[tokio::test]
async fn streams_of_version_0_1_are_read_and_taken_over() {
    let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
    let gateway = TestGateway::with_resume(&[upstream.addr()], "{ window: 1h }", &state(&valkey));
    within_timeout(
        gateway
            .gateway
            .app()
            .store
            .as_ref()
            .unwrap()
            .wait_until_up(),
    )
    .await;
    let mut connection = valkey.connect().await;
    let alive = command("SET sluicegate:replica:old 1 PX 60000");
    alive.exec_async(&mut connection).await.unwrap();
    let start = "event: start\ndata: {\"stream\":\"s\",\"model\":\"m\",\"upstream\":\"a\",\"upstream_model\":\"text\",\"created\":\"2026-11-23T01:23:19Z\"}\n\n";
    let token = |number: u32, text: &str| {
        format!("id: {STREAM}.{number}\nevent: token\ndata: {{\"text\":\"{text}\"}}\n\n")
    };
    write(&mut connection, "0-1", "").await;
    let events = format!("id: {STREAM}.0\n{start}{}", token(1, "one "));
    write(&mut connection, "0-3", &events).await;
    let mut reader = viewed(&gateway, STREAM).await;
    reader.expect("start").await;
    assert_eq!(reader.expect("token").await["text"], "one ");
    // Entries may overlap, after a reply that was lost.
    let events = format!("{}{}", token(1, "one "), token(2, "two"));
    write(&mut connection, "0-4", &events).await;
    assert_eq!(reader.expect("token").await["text"], "two");
    // The old replica asks for cancellations by this key.
    let cancel = ClientRequest::new("DELETE", format!("/v1/streams/{STREAM}"));
    let asked = async {
        let pop = command("LPOP sluicegate:replica:old:commands");
        loop {
            let popped: Value = pop.query_async(&mut connection).await.unwrap();
            if popped != Value::Nil {
                return (popped, connection);
            }
        }
    };
    let (_, (popped, mut connection)) = tokio::join!(gateway.ask(&cancel), within_timeout(asked));
    assert_eq!(popped, Value::BulkString(STREAM.as_bytes().to_vec()));
    // The old replica dies.
    let dead = command("DEL sluicegate:replica:old");
    dead.exec_async(&mut connection).await.unwrap();
    let rest = reader.rest().await;
    assert_eq!(outcome(&rest), "stream_interrupted");
    assert_eq!(text(&rest), "");
    assert_eq!(rest[0].id, format!("{STREAM}.03"));
    assert_eq!(status(&gateway, STREAM).await.1["state"], "error");
}
