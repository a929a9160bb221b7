//! Runs the rows of one file: each row has its own model and upstreams in one process.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::case::Case;
use super::client::Asked;
use super::process::{POLL_INTERVAL, Process, value};
use super::table::{Ask, Expected, Group, Scripts, Step};
use super::upstream::{Counts, place};
use crate::gateway::within_timeout;

/// How many cases run at once.
const AT_ONCE: usize = 12;
/// Much longer than anything takes that a row waits for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs every row of a file, and fails with all that failed.
pub async fn run(group: Group, scripts: &Scripts, hosts: Option<&str>) {
    let mut cases = Vec::new();
    for (number, row) in group.rows.into_iter().enumerate() {
        let row = Arc::new(row);
        for (dialect, steps) in row.cases() {
            let model = format!("m{number}{dialect}");
            cases.push(Case::prepare(model, &row, steps, scripts).await);
        }
    }
    let parts = cases.iter().map(|case| case.config.clone()).collect();
    let process = Process::start(group.config, parts, hosts).await;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut names = HashMap::new();
    for case in cases {
        let name = format!("{} ({})", case.row.name, case.model);
        let (process, turns) = (Arc::clone(&process), Arc::clone(&turns));
        let task = running.spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            case.run(&process).await;
        });
        names.insert(task.id(), name);
    }
    let mut failed = Vec::new();
    while let Some(ended) = running.join_next_with_id().await {
        if let Err(error) = ended {
            let name = &names[&error.id()];
            let panic = error.into_panic();
            let why = panic.downcast_ref::<String>();
            let why = why.map_or("see the output above", String::as_str);
            failed.push(format!("{name}: {why}"));
        }
    }
    assert!(
        failed.is_empty(),
        "rows that failed:\n{}",
        failed.join("\n")
    );
    process
        .wait_for(|metrics| value(metrics, "sluicegate_open_streams") == 0.0)
        .await;
}

impl Case {
    async fn run(&self, process: &Arc<Process>) {
        let mut begun = HashMap::new();
        let files = process.gateway.program.open_files() as u64;
        for step in &self.steps {
            self.step(process, step, &mut begun, files).await;
        }
        drop(begun);
        let metrics = self.row.metrics.iter();
        let metrics: Vec<_> = metrics
            .map(|(series, wanted)| (self.series(series), *wanted))
            .collect();
        let mut page = process.metrics().await;
        // Some are counted when the client has its answer already.
        let is_there = |page: &str| {
            let mut metrics = metrics.iter();
            metrics.all(|(series, wanted)| value(page, series) >= *wanted)
        };
        let waiting = async {
            while !is_there(&page) {
                tokio::time::sleep(POLL_INTERVAL).await;
                page = process.metrics().await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
        for (series, wanted) in &metrics {
            assert_eq!(value(&page, series), *wanted, "{series}");
        }
        self.check_notifications(process).await;
        // Every script ends, as no connection is left open without a request.
        self.wait(|counts| counts.iter().all(|counts| counts.running == 0))
            .await;
        let counts = self.journal.borrow().clone();
        for (name, wanted) in &self.row.requests {
            let asked = counts[place(name)].requests;
            assert_eq!(asked, *wanted, "requests to {name}: {counts:?}");
        }
    }

    async fn check_notifications(&self, process: &Process) {
        let wanted = &self.row.notifications;
        let own = format!("{}-", self.model);
        let is_own = |upstream: &str| upstream.starts_with(&own);
        let seen = process.notifications(wanted.len(), is_own).await;
        let seen = seen.iter();
        let seen: Vec<_> = seen
            .map(|(event, upstream)| format!("{event} {}", self.short(upstream)))
            .collect();
        assert_eq!(seen, *wanted, "notifications");
    }

    async fn wait(&self, wanted: impl Fn(&Vec<Counts>) -> bool) {
        let mut counts = self.journal.subscribe();
        let waiting = counts.wait_for(|counts| wanted(counts));
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("in time there was only {:?}", self.journal.borrow());
        }
    }

    async fn wait_each(
        &self,
        wanted: &BTreeMap<String, u64>,
        is_reached: impl Fn(&Counts, u64) -> bool,
    ) {
        self.wait(|counts| {
            let mut wanted = wanted.iter();
            wanted.all(|(name, number)| is_reached(&counts[place(name)], *number))
        })
        .await;
    }

    async fn wait_for_breakers(&self, process: &Process, states: &BTreeMap<String, f64>) {
        let states = states.iter().map(|(name, state)| {
            let series = format!("breaker_state{{model=\"text\",upstream=\"{name}\"}}");
            (self.series(&series), *state)
        });
        let states: Vec<_> = states.collect();
        process
            .wait_for(|page| {
                states
                    .iter()
                    .all(|(name, state)| value(page, name) == *state)
            })
            .await;
    }

    async fn step(
        &self,
        process: &Arc<Process>,
        step: &Step,
        begun: &mut HashMap<String, Asked>,
        files: u64,
    ) {
        match step {
            Step::Ask(ask) => self.ask(process, ask).await,
            Step::Begin(ask) => {
                let asked = self.send(process, ask).await;
                begun.insert(ask.name.clone(), asked);
            }
            Step::Await { of, text } => {
                let asked = begun.get_mut(of).expect("a request that was begun");
                asked.read_until(text).await;
            }
            Step::Read { of, expect } => {
                let asked = begun.get_mut(of).expect("a request that was begun");
                self.read(asked, expect).await;
            }
            Step::Leave(of) => drop(begun.remove(of).expect("a request that was begun")),
            Step::Asked(wanted) => self.wait_each(wanted, |now, n| now.requests >= n).await,
            Step::Opened(wanted) => self.wait_each(wanted, |now, n| now.opened >= n).await,
            Step::Closed(wanted) => self.wait_each(wanted, |now, n| now.closed >= n).await,
            Step::Open(most) => {
                self.wait_each(most, |now, n| now.opened - now.closed <= n)
                    .await;
            }
            Step::Pause(pause) => tokio::time::sleep(*pause).await,
            Step::Breaker(states) => self.wait_for_breakers(process, states).await,
            Step::Reload { model, weights } => self.reload(process, model, weights).await,
            Step::OpenFiles(slack) => {
                within_timeout(async {
                    while (process.gateway.program.open_files() as u64).abs_diff(files) > *slack {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                })
                .await;
            }
        }
    }

    async fn reload(
        &self,
        process: &Process,
        model: &Map<String, Value>,
        weights: &BTreeMap<String, u32>,
    ) {
        let name = self.name("m");
        process
            .reload(|config| {
                let members = config["models"][&name].as_object_mut().unwrap();
                members.extend(model.clone());
                for (target, weight) in weights {
                    members["targets"][place(target)]["weight"] = json!(weight);
                }
            })
            .await;
    }

    async fn send(&self, process: &Process, ask: &Ask) -> Asked {
        let model = self.name(ask.model.as_deref().unwrap_or("m"));
        within_timeout(Asked::send(process.gateway.clients, &model, ask)).await
    }

    /// Reads and checks an answer; returns the upstream that answered.
    async fn read(&self, asked: &mut Asked, expected: &Expected) -> Option<String> {
        let said = asked.read().await;
        asked.check(&said, expected, |text| self.short(text));
        said.upstream.map(|upstream| self.short(&upstream))
    }

    async fn ask(&self, process: &Arc<Process>, ask: &Ask) {
        let mut answered = HashMap::<String, u64>::new();
        let times = ask.times.unwrap_or(1) as usize;
        let at_once = ask.at_once.unwrap_or(1);
        for first in (0..times).step_by(at_once) {
            let mut begun = Vec::new();
            for number in first..times.min(first + at_once) {
                let prompt = ask.prompt.as_ref();
                let prompt = prompt.map(|prompt| prompt.replace("{n}", &number.to_string()));
                let ask = Ask {
                    prompt,
                    ..ask.clone()
                };
                begun.push(self.send(process, &ask).await);
            }
            for mut asked in begun {
                if let Some(upstream) = self.read(&mut asked, &ask.expect).await {
                    *answered.entry(upstream).or_default() += 1;
                }
            }
        }
        if let Some(number) = ask.expect.answering {
            assert_eq!(
                answered.len(),
                number,
                "upstreams that answered: {answered:?}"
            );
        }
        if let Some(shares) = &ask.expect.shares {
            let shares = shares.iter().map(|(name, share)| (name.clone(), *share));
            assert_eq!(answered, shares.collect(), "answers by upstream");
        }
    }
}
