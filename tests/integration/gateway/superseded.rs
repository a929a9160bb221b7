//! A replica that lives and is cut off from the store: the others take its streams over, and it has
//! to find that out. Nobody is told a mixture, and the store holds none.

use redis::FromRedisValue;
use serde_json::Value;

use super::client::{Answer, ClientRequest, Event, outcome, text};
use super::program::{GatewayProcess, TemporaryFile};
use super::scripted::{Exchange, ScriptedUpstream};
use super::trials::proxy::{Faults, Proxy};
use super::within_timeout;
use crate::seed::Seed;
use crate::valkey::Valkey;

/// Two replicas, of which one reaches the store over a link that can be held.
struct Pair {
    upstream: ScriptedUpstream,
    valkey: Valkey,
    link: Proxy,
    cut_off: GatewayProcess,
    there: GatewayProcess,
    _configs: [TemporaryFile; 2],
}

/// A stream that both replicas read, up to its first token, `one `.
struct Begun {
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

    async fn begin(&self) -> Begun {
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
        Begun {
            stream,
            exchange,
            own,
            other,
        }
    }

    /// Waits until the replica that was cut off has found out.
    async fn found_out(&mut self) {
        let program = &mut self.cut_off.program;
        program
            .wait_for_log("another replica has taken a stream over")
            .await;
    }

    /// Waits until it knows that its store is there.
    async fn healed(&self) {
        self.link.hold(false);
        within_timeout(async { while self.cut_off.metric(UP).await == 0.0 {} }).await;
    }

    /// The ids of a stream's entries in the store, what they say, and who wrote them.
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

    /// That one replica alone wrote up to where the other took over, and the other behind that. Gives
    /// all that is said there.
    async fn not_mixed(&self, stream: &str) -> String {
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
async fn who_reads_at_a_maker_that_was_cut_off_is_told_all_of_it() {
    let mut pair = Pair::start("off").await;
    let Begun {
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
    // The other one has ended it; those who read here lack nothing.
    exchange.token("three ").await;
    let third = token(&mut own).await;
    assert_eq!(third.id, format!("{stream}.3"));
    pair.healed().await;
    exchange.token("four").await;
    pair.found_out().await;
    exchange.finish().await;
    let rest = own.rest().await;
    assert_eq!((text(&rest).as_str(), outcome(&rest)), ("four", ""));
    let back = events(&stream).header("last-event-id", &third.id);
    assert_eq!(pair.cut_off.ask(&back).await.rest().await, rest);
    let all = pair.not_mixed(&stream).await;
    assert!(
        all.contains("one") && !all.contains("two") && !all.contains("four"),
        "{all}"
    );
    assert!(!all.contains("event: complete"), "{all}");
    // Who was told that it broke is told nothing else, wherever it asks.
    let back = events(&stream).header("last-event-id", &error.id);
    for replica in [&pair.cut_off, &pair.there] {
        assert_eq!(replica.ask(&back).await.status(), 204);
    }
    assert!(!pair.upstream.was_asked_again());
}

#[tokio::test]
async fn readers_of_a_maker_that_was_cut_off_go_on_where_others_went_on() {
    let mut pair = Pair::start("on").await;
    let Begun {
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
    pair.healed().await;
    exchange.token("otherwise").await;
    pair.found_out().await;
    // No end, and nothing of what nobody else knows: the rest is elsewhere.
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
    let all = pair.not_mixed(&stream).await;
    assert!(!all.contains("otherwise"), "{all}");
    assert!(!pair.upstream.was_asked_again());
}

#[tokio::test]
async fn who_was_told_what_no_other_replica_heard_is_told_the_rest_of_it() {
    let mut pair = Pair::start("on").await;
    let Begun {
        stream,
        mut exchange,
        mut own,
        mut other,
    } = pair.begin().await;
    pair.link.hold(true);
    // The store does not answer, and nobody waits for it.
    exchange.token("2 ").await;
    let told = token(&mut own).await;
    let mut second = pair.upstream.request().await;
    second.begin().await;
    second.token(" two ").await;
    token(&mut other).await;
    pair.healed().await;
    exchange.token("3 ").await;
    pair.found_out().await;
    assert_eq!(token(&mut own).await.data["text"], "3 ");
    // It can be come back to where it goes on.
    drop(own);
    let back = events(&stream).header("last-event-id", &told.id);
    let mut own = pair.cut_off.ask(&back).await;
    exchange.token("4").await;
    exchange.finish().await;
    let rest = own.rest().await;
    assert_eq!((text(&rest).as_str(), outcome(&rest)), ("3 4", ""));
    second.token("three").await;
    second.finish().await;
    let rest = other.rest().await;
    assert_eq!((text(&rest).as_str(), outcome(&rest)), ("three", ""));
    let all = pair.not_mixed(&stream).await;
    assert!(!all.contains(r#"{"text":"2 "}"#), "{all}");
    assert!(!pair.upstream.was_asked_again());
}
