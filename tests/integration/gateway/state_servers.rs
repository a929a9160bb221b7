//! Where the shared state is: behind Sentinel, in a cluster.

use std::collections::HashSet;

use super::client::{Answer, ClientRequest, text};
use super::harness::{TestGateway, resumable_targets};
use super::replicas::{started, status, viewed};
use super::scripted::{Exchange, ScriptedUpstream};
use super::within_timeout;
use crate::valkey::{Valkey, command};

pub(super) const WINDOW: &str = "{ window: 1h }";

/// Two replicas that share a state. `state` is the value of that setting.
pub(super) async fn sharing(
    upstream: &ScriptedUpstream,
    state: &str,
) -> (TestGateway, TestGateway) {
    let config = resumable_targets(&[upstream.addr()], WINDOW, &format!("state: {state}"));
    let (one, other) = (TestGateway::start(&config), TestGateway::start(&config));
    for gateway in [&one, &other] {
        wait_until_up(gateway).await;
    }
    (one, other)
}

pub(super) async fn wait_until_up(gateway: &TestGateway) {
    let app = gateway.gateway.app();
    within_timeout(app.store.as_ref().unwrap().wait_until_up()).await;
}

/// Waits until a reader has an event with this text.
pub(super) async fn read_text(reader: &mut Answer, expected: &str) {
    within_timeout(async {
        loop {
            let event = reader.event().await.unwrap();
            assert_ne!(event.name, "error", "{event:?}");
            if event.data["text"] == expected {
                return;
            }
        }
    })
    .await;
}

/// The Sentinel has found the master's replica, so that it can replace the master.
pub(super) async fn wait_until_watched(sentinel: &Valkey) {
    let mut connection = sentinel.connect().await;
    within_timeout(async {
        loop {
            let ask = command("SENTINEL replicas main");
            let replicas: Vec<Vec<String>> = ask.query_async(&mut connection).await.unwrap();
            let linked = ["master-link-status".to_owned(), "ok".to_owned()];
            if replicas
                .iter()
                .any(|replica| replica.windows(2).any(|pair| *pair == linked))
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The Sentinel names the server at this port as the master.
pub(super) async fn wait_until_named(sentinel: &Valkey, master: u16) {
    let mut connection = sentinel.connect().await;
    within_timeout(async {
        let ask = command("SENTINEL get-master-addr-by-name main");
        loop {
            let (_, port): (String, u16) = ask.query_async(&mut connection).await.unwrap();
            if port == master {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_master_that_sentinel_names_is_used_after_a_failover() {
    let upstream = ScriptedUpstream::bind().await;
    let without_delay = |_| vec!["--repl-diskless-sync-delay".to_owned(), "0".to_owned()];
    let mut master = Valkey::start_with(without_delay);
    let replica = Valkey::start();
    let mut connection = replica.connect().await;
    let follow = format!("REPLICAOF 127.0.0.1 {}", master.addr().port());
    command(&follow).exec_async(&mut connection).await.unwrap();
    let sentinel = Valkey::sentinel(master.addr().port());
    wait_until_watched(&sentinel).await;
    // The first Sentinel of the list does not answer.
    let state = format!(
        "{{ url: redis://main/0, sentinels: ['127.0.0.1:1', '{}'] }}",
        sentinel.addr()
    );
    let (here, there) = sharing(&upstream, &state).await;
    let (mut own, mut exchange, stream) = started(&here, &upstream).await;
    viewed(&there, &stream).await;
    master.kill();
    wait_until_named(&sentinel, replica.addr().port()).await;
    for gateway in [&here, &there] {
        wait_until_up(gateway).await;
    }
    exchange.token("two ").await;
    let mut reader = viewed(&there, &stream).await;
    read_text(&mut reader, "two ").await;
    exchange.token("three").await;
    exchange.finish().await;
    assert_eq!(text(&own.rest().await), "two three");
    assert_eq!(text(&reader.rest().await), "three");
}

/// The servers of a cluster, and the value of `state` for it.
async fn cluster() -> (Vec<Valkey>, String) {
    let servers = within_timeout(Valkey::cluster()).await;
    let state = format!("{{ url: 'redis://{}', cluster: on }}", servers[1].addr());
    (servers, state)
}

/// Which server has the keys of a stream.
async fn home(servers: &[Valkey], stream: &str) -> usize {
    let key = format!("sluicegate:stream:{{{stream}}}");
    for (number, server) in servers.iter().enumerate() {
        let mut connection = server.connect().await;
        let found: Result<u64, _> = command(&format!("EXISTS {key}"))
            .query_async(&mut connection)
            .await;
        // Other servers redirect.
        if found == Ok(1) {
            return number;
        }
    }
    panic!("no server has {key}");
}

#[tokio::test]
async fn a_cluster_spreads_streams_and_counts_limits_together() {
    let upstream = ScriptedUpstream::bind().await;
    let (servers, state) = cluster().await;
    let (here, there) = sharing(&upstream, &state).await;
    let mut homes = HashSet::new();
    let mut streams: Vec<(Answer, Exchange, String)> = Vec::new();
    // The chance that 24 streams miss one of three servers is below one in 5000; then more follow.
    while streams.len() < 24 || homes.len() < 3 {
        let begun = started(&here, &upstream).await;
        homes.insert(home(&servers, &begun.2).await);
        streams.push(begun);
    }
    let mut reading = Vec::new();
    for (own, mut exchange, stream) in streams {
        let reader = viewed(&there, &stream).await;
        exchange.token("two").await;
        exchange.finish().await;
        reading.push((own, reader, stream));
    }
    for (mut own, mut reader, stream) in reading {
        assert_eq!(text(&own.rest().await), "two");
        assert_eq!(text(&reader.rest().await), "one two");
        assert_eq!(status(&there, &stream).await.1["state"], "complete");
    }
    let limited = format!("state: {state}\nlimits: {{ per_ip: {{ requests: 3/h }} }}");
    let config = resumable_targets(&[upstream.addr()], WINDOW, &limited);
    let (one, other) = (TestGateway::start(&config), TestGateway::start(&config));
    let ask = ClientRequest::new("GET", "/v1/models".to_owned());
    for (gateway, status) in [(&one, 200), (&other, 200), (&one, 200), (&other, 429)] {
        wait_until_up(gateway).await;
        assert_eq!(gateway.ask(&ask).await.status(), status);
    }
}

#[tokio::test]
async fn a_stream_whose_slot_moves_is_followed() {
    let upstream = ScriptedUpstream::bind().await;
    let (servers, state) = cluster().await;
    let (here, there) = sharing(&upstream, &state).await;
    let (mut own, mut exchange, stream) = started(&here, &upstream).await;
    let mut reader = viewed(&there, &stream).await;
    read_text(&mut reader, "one ").await;
    let from = home(&servers, &stream).await;
    let to = (from + 1) % servers.len();
    let mut connections = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for server in &servers {
        let mut connection = server.connect().await;
        let ask = command("CLUSTER MYID");
        names.push(ask.query_async(&mut connection).await.unwrap());
        connections.push(connection);
    }
    let key = format!("sluicegate:stream:{{{stream}}}");
    let ask = command(&format!("CLUSTER KEYSLOT {key}"));
    let slot: u16 = ask.query_async(&mut connections[from]).await.unwrap();
    let set =
        |what: &str, server: &str| command(&format!("CLUSTER SETSLOT {slot} {what} {server}"));
    let importing = set("IMPORTING", &names[from]);
    importing.exec_async(&mut connections[to]).await.unwrap();
    let migrating = set("MIGRATING", &names[to]);
    migrating.exec_async(&mut connections[from]).await.unwrap();
    // Written while the slot is on its way.
    exchange.token("two ").await;
    let ask = command(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
    loop {
        let keys: Vec<String> = ask.query_async(&mut connections[from]).await.unwrap();
        if keys.is_empty() {
            break;
        }
        let port = servers[to].addr().port();
        let mut migrate = command(&format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS"));
        migrate.arg(keys);
        migrate.exec_async(&mut connections[from]).await.unwrap();
    }
    for number in [to, from, 3 - to - from] {
        let moved = set("NODE", &names[to]);
        moved.exec_async(&mut connections[number]).await.unwrap();
    }
    exchange.token("three").await;
    exchange.finish().await;
    assert_eq!(text(&own.rest().await), "two three");
    assert_eq!(text(&reader.rest().await), "two three");
    assert_eq!(home(&servers, &stream).await, to);
}

#[tokio::test]
async fn a_lost_server_takes_only_its_own_streams_along() {
    let upstream = ScriptedUpstream::bind().await;
    let (mut servers, state) = cluster().await;
    let (here, there) = sharing(&upstream, &state).await;
    let mut first: Option<(Answer, Exchange, String)> = None;
    let (mut lost, mut kept) = loop {
        let begun = started(&here, &upstream).await;
        let at = home(&servers, &begun.2).await;
        match first.take() {
            Some(other) if home(&servers, &other.2).await != at => break (other, begun),
            _ => first = Some(begun),
        }
    };
    let mut reader = viewed(&there, &kept.2).await;
    let at = home(&servers, &lost.2).await;
    servers[at].kill();
    // Both streams continue on their own replica, and one of them elsewhere.
    for (own, exchange, _) in [&mut lost, &mut kept] {
        exchange.token("two").await;
        exchange.finish().await;
        assert_eq!(text(&own.rest().await), "two");
    }
    assert_eq!(text(&reader.rest().await), "one two");
    let missing = ClientRequest::new("GET", format!("/v1/streams/{}/events", lost.2));
    within_timeout(async { while there.ask(&missing).await.status() != 503 {} }).await;
}
