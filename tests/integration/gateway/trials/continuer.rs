//! An upstream that goes on with an answer from wherever another one left it, cut into other tokens.
//! Now and then it breaks off itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixture_server::ANY_PORT;
use crate::gateway::scripted::{Exchange, finish, token};
use crate::seed::{Random, Seed};

/// How long it takes to say a token.
const PACE: Duration = Duration::from_millis(12);
/// How many of a hundred answers break off that nobody began before.
const BREAKS: u64 = 20;
/// Between words: white space of every kind, and what is more than one byte.
const GAPS: [&str; 8] = [
    " ",
    "  ",
    "\n\n",
    " \u{2014} ",
    "\u{e9} ",
    "\u{1f642}",
    ", ",
    "\t",
];

/// Answers each prompt with a text of its own, until it is dropped.
pub struct Continuer {
    pub addr: SocketAddr,
    prompts: Arc<Prompts>,
    _stop: DropGuard,
}

type Prompts = Mutex<HashMap<String, Asked>>;

/// What a prompt has seen.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The texts that were to be gone on with, one for each request; empty where that was nothing.
    pub beginnings: Vec<String>,
    /// How many answers were broken off here.
    pub broken: usize,
}

impl Continuer {
    pub async fn start(seed: Seed) -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (prompts, stop) = (Arc::<Prompts>::default(), CancellationToken::new());
        let accepting = accept(listener, Arc::clone(&prompts), seed);
        tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self {
            addr,
            prompts,
            _stop: stop.drop_guard(),
        }
    }

    /// What a prompt has seen, which is forgotten then.
    pub fn take(&self, prompt: &str) -> Asked {
        let taken = self.prompts.lock().unwrap().remove(prompt);
        taken.unwrap_or_default()
    }
}

/// The answer to a prompt. Every word of it is there once.
pub fn whole(prompt: &str) -> String {
    let word = |number: usize| format!("{prompt}/{number}{}", GAPS[number % GAPS.len()]);
    (0..60).map(word).collect::<String>().trim_end().to_owned()
}

async fn accept(listener: TcpListener, prompts: Arc<Prompts>, seed: Seed) {
    let mut answers = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (prompts, random) = (Arc::clone(&prompts), seed.random(u64::MAX / 2 - number));
        answers.spawn(async move { answer(stream, &prompts, random).await });
        while answers.try_join_next().is_some() {}
    }
}

/// Ends early where the gateway leaves.
async fn answer(stream: TcpStream, prompts: &Prompts, mut random: Random) -> Option<()> {
    let mut exchange = Exchange::over(stream);
    if !exchange.next_request().await {
        return None;
    }
    let asked: Value = serde_json::from_slice(&exchange.body).unwrap();
    let said = |at: usize| {
        asked["messages"][at]["content"]
            .as_str()
            .unwrap_or_default()
    };
    let (prompt, beginning) = (said(0), said(1));
    let whole = whole(prompt);
    let breaks = beginning.is_empty() && random.percent(BREAKS);
    {
        let mut prompts = prompts.lock().unwrap();
        let seen = prompts.entry(prompt.to_owned()).or_default();
        seen.beginnings.push(beginning.to_owned());
        seen.broken += usize::from(breaks);
    }
    // A beginning that is none ends up in a text that is none, and whoever reads that will say so.
    let rest: Vec<char> = whole
        .strip_prefix(beginning)
        .unwrap_or(&whole)
        .chars()
        .collect();
    let mut rest = rest.as_slice();
    let enough = if breaks {
        random.within(1..rest.len() as u64)
    } else {
        0
    };
    exchange.begin().await;
    while rest.len() > enough as usize {
        let length = random.within(1..12).min(rest.len() as u64);
        let (said, unsaid) = rest.split_at(length as usize);
        rest = unsaid;
        sleep(PACE).await;
        let said: String = said.iter().collect();
        exchange.try_chunk(token(&said)).await.then_some(())?;
    }
    if breaks {
        return None;
    }
    exchange.try_chunk(finish()).await.then_some(())?;
    exchange.try_end().await.then_some(())
}
