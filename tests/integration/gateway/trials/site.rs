//! Several gateways behind bad links, with one store and one upstream.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use sluicegate::fixture::{Options, Pace, Server};
use tokio::time::{Instant, sleep};

use super::continuer::Continuer;
use super::proxy::{Faults, Proxy};
use crate::fixture_server::serve;
use crate::gateway::program::{GatewayProcess, TemporaryFile};
use crate::seed::{Random, Seed};
use crate::valkey::Valkey;

pub struct Site {
    /// For the model `plain`, whose streams end when they break off.
    pub upstream: Server,
    /// For the model `continued`.
    pub continuer: Continuer,
    valkey: Valkey,
    replicas: Vec<Replica>,
}

struct Replica {
    serving: tokio::sync::Mutex<GatewayProcess>,
    config: TemporaryFile,
    /// The value of the environment variable for the number of its threads.
    threads: &'static str,
    /// What clients connect to.
    front: Proxy,
    /// Its link to the store.
    store: Proxy,
    kills: Mutex<Vec<Instant>>,
}

impl Site {
    /// Starts `replicas` gateways. Their clients' links are bad; their links to the store fail on demand.
    pub async fn start(replicas: usize, seed: Seed) -> Self {
        let upstream = serve(&Options {
            pace: Pace::Every(Duration::from_millis(12)),
            ..Options::default()
        });
        let valkey = Valkey::start();
        let mut site = Self {
            upstream,
            continuer: Continuer::start(seed).await,
            valkey,
            replicas: Vec::new(),
        };
        for number in 0..replicas {
            // The first has one thread for everything.
            let threads = if number == 0 { "1" } else { "2" };
            site.replicas.push(site.replica(seed, threads).await);
        }
        site
    }

    async fn replica(&self, seed: Seed, threads: &'static str) -> Replica {
        let store = Proxy::start(self.valkey.addr(), Faults::default(), seed).await;
        let (plain, continued) = (self.upstream.addr(), self.continuer.addr);
        let config = TemporaryFile::new(&format!(
            "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{plain}/v1' }}\n  \
             b: {{ wire: openai-chat, base_url: 'http://{continued}/v1' }}\n\
             models:\n  plain: {{ targets: [ {{ upstream: a, model: text }} ] }}\n  \
             continued: {{ continue: on, targets: [ {{ upstream: b, model: text }} ] }}\n\
             resume: {{ window: 30s }}\nstate: redis://{}/0\nheartbeat: 1s\n",
            store.addr
        ));
        let serving = serving(&config, threads).await;
        let faults = Faults {
            cut: 75,
            after: 1..6000,
            stall: 15,
            slow: 15,
        };
        Replica {
            front: Proxy::start(serving.clients, faults, seed).await,
            serving: tokio::sync::Mutex::new(serving),
            config,
            threads,
            store,
            kills: Mutex::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// The address at which clients reach a replica.
    pub fn front(&self, replica: usize) -> SocketAddr {
        self.replicas[replica].front.addr
    }

    /// How many clients' connections were cut.
    pub fn cuts(&self) -> u64 {
        self.replicas
            .iter()
            .map(|replica| replica.front.cuts())
            .sum()
    }

    /// Kills a replica, and starts another one in its place.
    pub async fn kill(&self, replica: usize) {
        let replica = &self.replicas[replica];
        let mut serving = replica.serving.lock().await;
        replica.kills.lock().unwrap().push(Instant::now());
        serving.program.signal(Signal::KILL);
        *serving = self::serving(&replica.config, replica.threads).await;
        replica.front.aim(serving.clients);
    }

    /// When a replica was killed last since `started`.
    pub fn killed(&self, replica: usize, started: Instant) -> Option<Instant> {
        let kills = self.replicas[replica].kills.lock().unwrap();
        kills.iter().rev().copied().find(|at| *at >= started)
    }

    /// Makes the store fail for a while, for one replica or for all.
    pub async fn disturb_store(&self, random: &mut Random) {
        if random.percent(50) {
            let replica = random.within(0..self.replicas.len() as u64) as usize;
            self.replicas[replica].store.cut_all();
        } else {
            self.valkey.stall();
            sleep(Duration::from_millis(random.within(300..2000))).await;
            self.valkey.resume();
        }
    }

    /// Cuts one replica off from the store for a while. It stays alive, and the others may take its streams
    /// over.
    pub async fn part(&self, random: &mut Random) {
        let replica = random.within(0..self.replicas.len() as u64) as usize;
        let link = &self.replicas[replica].store;
        link.hold(true);
        sleep(Duration::from_millis(random.within(3000..6000))).await;
        link.hold(false);
    }

    /// The memory of each gateway, in KiB.
    pub async fn memory(&self) -> Vec<u64> {
        let mut memory = Vec::new();
        for replica in &self.replicas {
            memory.push(replica.serving.lock().await.program.memory());
        }
        memory
    }
}

async fn serving(config: &TemporaryFile, threads: &str) -> GatewayProcess {
    GatewayProcess::start(config, &[("TOKIO_WORKER_THREADS", threads)]).await
}
