//! An upstream that continues an answer from any text, cut into other tokens. Now and then it breaks off
//! itself.

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

/// The time between two tokens.
const PACE: Duration = Duration::from_millis(12);
/// How many of a hundred first answers break off.
const BREAKS: u64 = 20;
/// Between words: white space of every kind, and characters of more than one byte.
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

/// Answers each prompt with its own text, until it is dropped.
pub struct Continuer {
    pub addr: SocketAddr,
    prompts: Arc<Prompts>,
    _stop: DropGuard,
}

type Prompts = Mutex<HashMap<String, Asked>>;

/// What was asked for one prompt.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The texts to continue from, one for each request; empty for a first request.
    pub beginnings: Vec<String>,
    /// How many answers broke off here.
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

    /// Returns what was asked for a prompt, and forgets it.
    pub fn take(&self, prompt: &str) -> Asked {
        let taken = self.prompts.lock().unwrap().remove(prompt);
        taken.unwrap_or_default()
    }
}

/// The answer to a prompt. Every word occurs once.
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

/// Ends early if the gateway leaves.
async fn answer(stream: TcpStream, prompts: &Prompts, mut random: Random) -> Option<()> {
    let mut exchange = Exchange::over(stream);
    if !exchange.next_request().await {
        return None;
    }
    let asked: Value = serde_json::from_slice(&exchange.body).unwrap();
    let message = |at: usize| {
        asked["messages"][at]["content"]
            .as_str()
            .unwrap_or_default()
    };
    let (prompt, beginning) = (message(0), message(1));
    let whole = whole(prompt);
    let breaks = beginning.is_empty() && random.percent(BREAKS);
    {
        let mut prompts = prompts.lock().unwrap();
        let seen = prompts.entry(prompt.to_owned()).or_default();
        seen.beginnings.push(beginning.to_owned());
        seen.broken += usize::from(breaks);
    }
    // A wrong prefix leads to a wrong text, which the reader detects.
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
        let (token_text, left) = rest.split_at(length as usize);
        rest = left;
        sleep(PACE).await;
        let token_text: String = token_text.iter().collect();
        exchange.try_chunk(token(&token_text)).await.then_some(())?;
    }
    if breaks {
        return None;
    }
    exchange.try_chunk(finish()).await.then_some(())?;
    exchange.try_end().await.then_some(())
}
