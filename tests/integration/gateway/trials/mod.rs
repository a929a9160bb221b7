//! Many clients, several gateways and one store, and everything fails: links are cut and stall, gateways
//! are killed, the store goes down. No client misses a token, gets one twice, or waits without a
//! heartbeat, and no model is asked twice. With `continue: on` every stream reaches its end, and a model
//! is asked once more for each time that it was taken over or broke off.
//!
//! | file | is |
//! |---|---|
//! | `continuer` | an upstream that continues the answers of another |
//! | `proxy` | a link that fails |
//! | `reader` | a client that comes back |
//! | `site` | the gateways, their links, the store and the upstream |
//!
//! `SLUICEGATE_SEED` repeats the random choices of a run; `make replicas` runs the same for longer.

mod continuer;
pub mod proxy;
mod reader;
mod site;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Event, check_order, outcome, text};
use super::harness::TestGateway;
use crate::fixture_server::{fast, serve};
use crate::seed::{Random, Seed};
use continuer::Asked;
use reader::Reader;
use site::Site;

/// How many trials run at once.
const ROUND: u64 = 25;
/// How soon readers of a killed gateway's streams get an error, with an allowance for a busy machine.
const ERROR_DELAY: Duration = Duration::from_secs(5 + 2);

/// Far longer than any stream takes.
const LONGEST: Duration = Duration::from_secs(60);
/// How much of a stream may be lost with its gateway: one round trip to the store, on a busy machine.
const UNSTORED: Duration = Duration::from_millis(500);

/// What fails beside the links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// A gateway is killed.
    Kill,
    /// The store hangs, or a gateway loses its connections to it.
    Store,
    /// A gateway cannot reach the store for so long that the others take its streams over. Their readers may
    /// get another end, and no reader gets a mixture.
    Part,
}

/// What happens to a stream that breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It ends.
    Plain,
    /// It is continued.
    Continued,
}

/// What the trials have seen.
#[derive(Debug, Default)]
struct Counts {
    trials: u64,
    readers: u64,
    kills: u64,
    resumes: u64,
    interrupted: u64,
    /// Continued streams: how often another gateway took one over, and how often the same gateway asked
    /// another target.
    taken_over: u64,
    asked_again: u64,
    /// How often readers got an error that says that the rest is elsewhere.
    redirects: u64,
    /// How many have read events that a gateway sent right before it was killed, and then get 404: the store
    /// never had the stream.
    forgotten: u64,
    lost: u64,
    repeated: u64,
    /// How often readers asked without an id, and how often they got an answer.
    fresh_requests: u64,
    fresh_answers: u64,
    /// The longest time until readers of a killed gateway's stream got an error.
    error_delay: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_links_to_several_replicas_lose_and_repeat_nothing() {
    let counts = rounds(4, Trouble::Nothing).await;
    assert_eq!(counts.interrupted, 0);
    assert!(counts.asked_again > 0, "{counts:?}");
    assert!(counts.resumes > counts.trials);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_killed_replica_never_wait_in_silence() {
    let counts = rounds(3, Trouble::Kill).await;
    assert!(counts.interrupted > 0, "{counts:?}");
    assert!(counts.taken_over > 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_outage_harms_no_stream() {
    let counts = rounds(3, Trouble::Store).await;
    assert_eq!(counts.interrupted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_sends_no_reader_a_mixture() {
    let counts = rounds(2, Trouble::Part).await;
    assert!(counts.resumes > counts.trials);
}

/// `make replicas`.
#[ignore = "runs for SLUICEGATE_SOAK minutes"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak() {
    let minutes = std::env::var("SLUICEGATE_SOAK").map_or(10, |text| text.parse().unwrap());
    let (seed, started) = (Seed::of_this_run(), Instant::now());
    let (site, whole) = prepared(seed).await;
    let (before, mut counts, mut number) = (site.memory().await, Counts::default(), 0);
    let mut reported = Instant::now();
    say(&format!("{seed}, {minutes} min; memory {before:?} KiB"));
    while started.elapsed() < Duration::from_secs(60 * minutes) {
        let trouble = [
            Trouble::Nothing,
            Trouble::Kill,
            Trouble::Store,
            Trouble::Part,
        ];
        let trouble = trouble[number as usize % trouble.len()];
        round(&site, &whole, seed, number, trouble, &mut counts).await;
        number += 1;
        if reported.elapsed() > Duration::from_secs(30) {
            reported = Instant::now();
            let (cuts, requests) = (site.cuts(), site.upstream.request_count());
            let memory = site.memory().await;
            say(&format!(
                "{counts:?}, cuts: {cuts}, upstream requests: {requests}, memory {memory:?} KiB"
            ));
        }
    }
    let (cuts, requests, after) = (
        site.cuts(),
        site.upstream.request_count(),
        site.memory().await,
    );
    say(&format!(
        "{counts:#?}\ncuts: {cuts}\nupstream requests: {requests}\nmemory before: {before:?} KiB\nmemory after: {after:?} KiB"
    ));
    counts.check(requests);
}

async fn rounds(count: u64, trouble: Trouble) -> Counts {
    let seed = Seed::of_this_run();
    let (site, whole) = prepared(seed).await;
    let mut counts = Counts::default();
    for number in 0..count {
        round(&site, &whole, seed, number, trouble, &mut counts).await;
    }
    counts.check(site.upstream.request_count());
    counts
}

/// Three gateways, and the text that the model gives.
async fn prepared(seed: Seed) -> (Arc<Site>, Arc<str>) {
    let upstream = serve(&fast());
    let events = TestGateway::with_upstreams(&[upstream.addr()], "")
        .prompt()
        .await
        .events()
        .await;
    (Arc::new(Site::start(3, seed).await), text(&events).into())
}

/// Several trials at once.
async fn round(
    site: &Arc<Site>,
    whole: &Arc<str>,
    seed: Seed,
    number: u64,
    trouble: Trouble,
    counts: &mut Counts,
) {
    let mut trials = JoinSet::new();
    for trial in number * ROUND..(number + 1) * ROUND {
        let (site, whole) = (Arc::clone(site), Arc::clone(whole));
        // The reader's own number follows the trial's.
        let random = move |own| seed.random(trial << 8 | own);
        trials.spawn(async move { self::trial(&site, &whole, trouble, trial, random).await });
    }
    let mut random = seed.random(u64::MAX - number);
    let troubled = async {
        sleep(Duration::from_millis(random.within(50..900))).await;
        match trouble {
            Trouble::Nothing => {}
            Trouble::Kill => {
                site.kill(random.within(0..site.len() as u64) as usize)
                    .await
            }
            Trouble::Store => site.disturb_store(&mut random).await,
            Trouble::Part => site.part(&mut random).await,
        }
    };
    let ended = async {
        while let Some(ended) = trials.join_next().await {
            match ended {
                Ok(trial) => counts.add(&trial),
                Err(error) => panic!("{trouble:?}, round {number}, {seed}: {error}"),
            }
        }
    };
    tokio::join!(troubled, ended);
    counts.kills += u64::from(trouble == Trouble::Kill);
}

/// One stream: the client that asked for it, and others that read it.
async fn trial(
    site: &Arc<Site>,
    plain: &str,
    trouble: Trouble,
    number: u64,
    random: impl Fn(u64) -> Random,
) -> Counts {
    let started = Instant::now();
    let mut chance = random(0);
    let kind = if chance.percent(40) {
        Kind::Continued
    } else {
        Kind::Plain
    };
    let mut asking = Reader::new(site, random(1), kind.model(), &format!("c{number}"));
    asking.read(chance.within(1..40) as usize).await;
    let stream = asking.stream().unwrap().to_owned();
    let (origin, began, prompt) = (asking.origin, asking.began.unwrap(), asking.prompt());
    let whole = match kind {
        Kind::Plain => plain.to_owned(),
        Kind::Continued => continuer::whole(&prompt),
    };
    let mut reading = JoinSet::new();
    let mut read = |mut reader: Reader| {
        reading.spawn(async move {
            let read = timeout(LONGEST, reader.read(usize::MAX)).await;
            assert!(read.is_ok(), "{:?} does not end", reader.stream());
            (reader, Instant::now())
        })
    };
    for own in 0..chance.within(0..4) {
        read(Reader::viewer(site, random(2 + own), &stream));
    }
    read(asking);
    let mut counts = Counts {
        trials: 1,
        ..Counts::default()
    };
    let mut complete = None;
    while let Some(read) = reading.join_next().await {
        let (mut reader, ended) = read.unwrap();
        counts.count(&reader, kind);
        if reader.forgotten && trouble == Trouble::Part {
            counts.forgotten += 1;
            continue;
        }
        if reader.forgotten {
            assert_eq!(kind, Kind::Plain, "{stream} was forgotten");
            let killed = site.killed(origin, started).expect("its gateway lives");
            assert!(killed < began + UNSTORED, "{stream} was forgotten");
            counts.forgotten += 1;
            continue;
        }
        if counts.lost + counts.repeated == 0 {
            check_order(&reader.events);
        }
        let read = text(&reader.events);
        match outcome(&reader.events) {
            "stream_interrupted" if trouble == Trouble::Part => {
                assert!(whole.starts_with(&read), "{read}");
                counts.interrupted += 1;
            }
            "" if trouble == Trouble::Part => assert_eq!(read, whole),
            "" => {
                assert_eq!(read, whole);
                // All readers get the same bytes.
                let events = complete.get_or_insert_with(|| reader.events.clone());
                assert_eq!(*events, reader.events);
                if trouble != Trouble::Kill {
                    assert_eq!(
                        reader.resume_status().await,
                        204,
                        "{:?}",
                        reader.events.last()
                    );
                }
            }
            "stream_interrupted" if kind == Kind::Plain => {
                let error = &reader.events.last().unwrap().data["error"];
                let killed = site.killed(origin, started);
                let killed = killed.unwrap_or_else(|| panic!("no replica was killed: {error}"));
                assert_eq!(error["retryable"], true);
                assert!(whole.starts_with(&read), "{read}");
                let took = ended.saturating_duration_since(killed.max(reader.connected));
                assert!(took < ERROR_DELAY, "{took:?}");
                counts.error_delay = counts.error_delay.max(took);
                counts.interrupted += 1;
            }
            _ => panic!("{:?}", reader.events),
        }
    }
    if let (Kind::Continued, Some(events)) = (kind, &complete) {
        counts.count_continued(events, &whole, &site.continuer.take(&prompt));
    }
    counts
}

impl Kind {
    fn model(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Continued => "continued",
        }
    }
}

impl Counts {
    /// Counts a continued stream that reached its end, and checks how often its model was asked.
    fn count_continued(&mut self, events: &[Event], whole: &str, asked: &Asked) {
        let complete = events.last().unwrap();
        // The number of leading zeros is how often the stream was taken over.
        let (_, number) = complete.id.split_once('.').unwrap();
        let taken_over = number.len() - number.trim_start_matches('0').len();
        let (requests, broken) = (asked.beginnings.len(), asked.broken);
        // A gateway that is killed may not have asked again for an answer that broke off.
        let expected = 1 + broken.max(taken_over)..=1 + broken + taken_over;
        assert!(expected.contains(&requests), "{expected:?}: {asked:?}");
        for beginning in &asked.beginnings {
            assert!(whole.starts_with(beginning), "{beginning}");
        }
        let continued = complete.data["continued"].as_u64().unwrap_or(0);
        assert!(continued as usize >= taken_over, "{complete:?}: {asked:?}");
        assert_eq!(continued > 0, requests > 1, "{complete:?}: {asked:?}");
        self.taken_over += taken_over as u64;
        self.asked_again += (requests - 1 - taken_over) as u64;
    }

    /// Counts everything that one reader got.
    fn count(&mut self, reader: &Reader, kind: Kind) {
        self.readers += 1;
        self.resumes += reader.resumes;
        self.redirects += reader.redirects;
        if reader.asks() && kind == Kind::Plain {
            self.fresh_requests += reader.fresh_requests;
            self.fresh_answers += reader.fresh_answers;
        }
        let mut next = 0;
        for event in &reader.events {
            let (_, number) = event.id.split_once('.').unwrap();
            let number: u64 = number.parse().unwrap();
            self.lost += number.saturating_sub(next);
            self.repeated += u64::from(number < next);
            next = next.max(number + 1);
        }
    }

    fn add(&mut self, other: &Self) {
        self.trials += other.trials;
        self.readers += other.readers;
        self.resumes += other.resumes;
        self.interrupted += other.interrupted;
        self.taken_over += other.taken_over;
        self.asked_again += other.asked_again;
        self.redirects += other.redirects;
        self.forgotten += other.forgotten;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.fresh_requests += other.fresh_requests;
        self.fresh_answers += other.fresh_answers;
        self.error_delay = self.error_delay.max(other.error_delay);
    }

    fn check(&self, requests: u64) {
        assert_eq!((self.lost, self.repeated), (0, 0), "{self:?}");
        // A request may be lost with its gateway, or its answer on the way.
        assert!(
            requests <= self.fresh_requests,
            "{requests} requests: {self:?}"
        );
        if self.kills == 0 {
            assert!(
                requests >= self.fresh_answers,
                "{requests} requests: {self:?}"
            );
        }
    }
}

/// Prints a line for a person who watches a long run.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
