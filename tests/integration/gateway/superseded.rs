//! A replica that is alive but cut off from the store: the others take its streams over, and it has to
//! detect that. No client gets a mixture of two versions, and the store has none.

use redis::FromRedisValue;
use serde_json::Value;

use super::client::{Answer, ClientRequest, Event, outcome, text};
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::{Exchange, ScriptedUpstream};
use super::trials::proxy::{Faults, Proxy};
use super::within_timeout;
use crate::seed::Seed;
use crate::valkey::Valkey;

/// Two replicas; one reaches the store over a link that the test can hold.
struct Pair {
    upstream: ScriptedUpstream,
    valkey: Valkey,
    link: Proxy,
    cut_off: GatewayProcess,
    there: GatewayProcess,
    _configs: [TemporaryFile; 2],
}

/// A stream that is read on both replicas, up to its first token, `one `.
struct OpenedStream {
    stream: String,
    exchange: Exchange,
    own: Answer,
    other: Answer,
}

impl Pair {
    async fn start(continues: &str) -> Self {
        let (upstream, valkey) = (ScriptedUpstream::bind().await, Valkey::start());
        let link = Proxy::start(valkey.addr(), Faults::default(), Seed::of_this_run()).await;
        let replica = async |store| {
            let config = format!(
                "upstreams: {{ a: {{ wire: openai-chat, base_url: 'http://{}/v1' }} }}\n\
                 models: {{ m: {{ continue: {continues}, \
                 targets: [ {{ upstream: a, model: one }} ] }} }}\n\
                 resume: {{ window: 1h }}\nstate: redis://{store}/0\n",
                upstream.addr(),
            );
            let config = TemporaryFile::new(&config);
            let serving = GatewayProcess::start(&config, &[]).await;
            within_timeout(async { while serving.metric(UP).await == 0.0 {} }).await;
            (serving, config)
        };
        let (cut_off, one) = replica(link.addr).await;
        let (there, other) = replica(valkey.addr()).await;
        Self {
            upstream,
            valkey,
            link,
            cut_off,
            there,
            _configs: [one, other],
        }
    }

    async fn begin(&self) -> OpenedStream {
        let answering = async {
            let mut exchange = self.upstream.request().await;
            exchange.begin().await;
            exchange.token("one ").await;
            exchange
        };
        let asked = ClientRequest::prompt("m");
        let (mut own, exchange) = tokio::join!(self.cut_off.ask(&asked), answering);
        let start = own.expect("start").await;
        own.expect("token").await;
        let stream = start["stream"].as_str().unwrap().to_owned();
        let mut other = self.there.ask(&events(&stream)).await;
        other.expect("start").await;
        other.expect("token").await;
        OpenedStream {
            stream,
            exchange,
            own,
            other,
        }
    }

    /// Waits until the replica that was cut off has noticed the takeover.
    async fn wait_for_takeover(&mut self) {
        let program = &mut self.cut_off.program;
        program
            .wait_for_log("another replica has taken over a stream of this replica")
            .await;
    }

    /// Waits until the replica's store connection is up.
    async fn wait_for_store(&self) {
        self.link.hold(false);
        within_timeout(async { while self.cut_off.metric(UP).await == 0.0 {} }).await;
    }

    /// The ids of a stream's entries in the store, their events, and who wrote them.
    async fn stored(&self, stream: &str) -> Vec<(String, String, String)> {
        let mut range = redis::cmd("XRANGE");
        range.arg(format!("sluicegate:stream:{stream}"));
        range.arg("-").arg("+");
        let mut own = self.valkey.connect().await;
        let entries: Vec<(String, redis::Value)> = range.query_async(&mut own).await.unwrap();
        let read = |(id, fields): (String, redis::Value)| {
            let fields = Vec::<(String, String)>::from_redis_value(fields).unwrap();
            let field = |wanted: &str| {
                let mut fields = fields.iter();
                fields.find(|(name, _)| name == wanted).unwrap().1.clone()
            };
            (id, field("events"), field("replica"))
        };
        entries.into_iter().map(read).collect()
    }

    /// Checks that one replica wrote everything before the takeover, and the other everything after it.
    /// Returns all events.
    async fn check_not_mixed(&self, stream: &str) -> String {
        let entries = self.stored(stream).await;
        let fork = entries.iter().position(|(id, ..)| id == "1-1").unwrap();
        let (before, behind) = entries.split_at(fork);
        for (entries, epoch) in [(before, "0-"), (behind, "1-")] {
            let (_, _, first) = &entries[0];
            for (id, _, replica) in entries {
                assert!(id.starts_with(epoch) && replica == first, "{entries:#?}");
            }
        }
        assert_ne!(before[0].2, behind[0].2);
        entries.into_iter().map(|(_, events, _)| events).collect()
    }
}

const UP: &str = "sluicegate_store_up";

fn events(stream: &str) -> ClientRequest {
    ClientRequest::new("GET", format!("/v1/streams/{stream}/events"))
}

async fn token(answer: &mut Answer) -> Event {
    let event = answer.event().await.unwrap();
    assert_eq!(event.name, "token", "{event:?}");
    event
}

#[tokio::test]
async fn readers_of_a_replica_that_was_cut_off_get_the_whole_stream() {
    let mut pair = Pair::start("off").await;
    let OpenedStream {
        stream,
        mut exchange,
        mut own,
        mut other,
    } = pair.begin().await;
    pair.link.hold(true);
    exchange.token("two ").await;
    token(&mut own).await;
    let error = other.event().await.unwrap();
    assert_eq!(error.data["error"]["code"], "stream_interrupted");
    assert_eq!(error.id, format!("{stream}.02"));
    assert_eq!(other.event().await, None);
    // The other replica has ended it; its readers here get all of it.
    exchange.token("three ").await;
    let third = token(&mut own).await;
    assert_eq!(third.id, format!("{stream}.3"));
    pair.wait_for_store().await;
    exchange.token("four").await;
    pair.wait_for_takeover().await;
    exchange.finish().await;
    let rest = own.rest().await;
    assert_eq!((text(&rest).as_str(), outcome(&rest)), ("four", ""));
    let back = events(&stream).header("last-event-id", &third.id);
    assert_eq!(pair.cut_off.ask(&back).await.rest().await, rest);
    let all = pair.check_not_mixed(&stream).await;
    assert!(
        all.contains("one") && !all.contains("two") && !all.contains("four"),
        "{all}"
    );
    assert!(!all.contains("event: complete"), "{all}");
    // A client that got the error gets nothing else, on either replica.
    let back = events(&stream).header("last-event-id", &error.id);
    for replica in [&pair.cut_off, &pair.there] {
        assert_eq!(replica.ask(&back).await.status(), 204);
    }
    assert!(!pair.upstream.was_asked_again());
}

#[tokio::test]
async fn readers_of_a_replica_that_was_cut_off_continue_at_the_new_producer() {
    let mut pair = Pair::start("on").await;
    let OpenedStream {
        stream,
        mut exchange,
        mut own,
        mut other,
    } = pair.begin().await;
    pair.link.hold(true);
    let mut second = pair.upstream.request().await;
    let asked: Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(asked["messages"][1]["content"], "one");
    second.begin().await;
    second.token(" two ").await;
    assert_eq!(token(&mut other).await.id, format!("{stream}.02"));
    pair.wait_for_store().await;
    exchange.token("otherwise").await;
    pair.wait_for_takeover().await;
    // Neither an end, nor events that no other replica has: the rest is elsewhere.
    let error = own.event().await.unwrap();
    assert_eq!(
        (error.name.as_str(), &error.id),
        ("error", &format!("{stream}.1"))
    );
    assert_eq!(error.data["error"]["code"], "stream_interrupted");
    assert_eq!(error.data["error"]["retryable"], true);
    assert_eq!(own.event().await, None);
    exchange.closed().await;
    let back = events(&stream).header("last-event-id", &error.id);
    let mut returned = [pair.cut_off.ask(&back).await, pair.there.ask(&back).await];
    second.token("three").await;
    second.finish().await;
    for answer in &mut returned {
        let rest = answer.rest().await;
        assert_eq!((text(&rest).as_str(), outcome(&rest)), ("two three", ""));
        assert_eq!(rest.last().unwrap().data["continued"], 1);
    }
    assert_eq!(text(&other.rest().await), "three");
    let all = pair.check_not_mixed(&stream).await;
    assert!(!all.contains("differently"), "{all}");
    assert!(!pair.upstream.was_asked_again());
}

#[tokio::test]
async fn readers_with_events_that_were_never_stored_get_the_rest_from_their_replica() {
    let mut pair = Pair::start("on").await;
    let OpenedStream {
        stream,
        mut exchange,
        mut own,
        mut other,
    } = pair.begin().await;
    pair.link.hold(true);
    // The store does not answer, and readers do not wait for it.
    exchange.token("2 ").await;
    let last_read = token(&mut own).await;
    let mut second = pair.upstream.request().await;
    second.begin().await;
    second.token(" two ").await;
    token(&mut other).await;
    pair.wait_for_store().await;
    exchange.token("3 ").await;
    pair.wait_for_takeover().await;
    assert_eq!(token(&mut own).await.data["text"], "3 ");
    // Clients can come back to it on the replica that continues it.
    drop(own);
    let back = events(&stream).header("last-event-id", &last_read.id);
    let mut own = pair.cut_off.ask(&back).await;
    exchange.token("4").await;
    exchange.finish().await;
    let rest = own.rest().await;
    assert_eq!((text(&rest).as_str(), outcome(&rest)), ("3 4", ""));
    second.token("three").await;
    second.finish().await;
    let rest = other.rest().await;
    assert_eq!((text(&rest).as_str(), outcome(&rest)), ("three", ""));
    let all = pair.check_not_mixed(&stream).await;
    assert!(!all.contains(r#"{"text":"2 "}"#), "{all}");
    assert!(!pair.upstream.was_asked_again());
}
