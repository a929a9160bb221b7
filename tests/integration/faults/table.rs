//! The fault table's data: `tests/faults/*.yaml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// What an upstream does, by name.
pub type Scripts = BTreeMap<String, Vec<String>>;

/// One file: the rows that share one process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// More members of the config.
    #[serde(default)]
    pub config: Map<String, Value>,
    pub rows: Vec<Row>,
}

/// One fault, and what follows from it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    /// The model's settings beside its targets.
    #[serde(default)]
    pub model: Map<String, Value>,
    /// The settings of a second model, `other`, that has the same targets.
    pub other: Option<Map<String, Value>>,
    /// Named `a`, `b`, … in this order.
    pub targets: Vec<Target>,
    #[serde(default)]
    pub steps: Vec<Step>,
    /// A case for each dialect: one request with this expectation, in place of `steps`.
    #[serde(default)]
    pub dialects: BTreeMap<String, Expected>,
    /// How many requests each upstream got.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// Series that start at zero, and their values. `m`, `other`, `a`, `b`, … are the row's own.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// What the row's upstreams were reported as, in order: `upstream_down a`.
    #[serde(default)]
    pub notifications: Vec<String>,
}

/// One upstream of a row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What it does with its first request, its second, and so on; the last repeats.
    #[serde(default, rename = "does")]
    pub scripts: Vec<String>,
    #[serde(default)]
    pub at: Place,
    /// Its place in the list where it is not set.
    pub priority: Option<u32>,
    pub weight: Option<u32>,
    /// More settings of the upstream.
    #[serde(default)]
    pub upstream: Map<String, Value>,
}

/// How a target can be reached.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    #[default]
    Reachable,
    /// Connections are refused.
    Refused,
    /// Its name cannot be resolved.
    UnknownHost,
    /// Its address does not answer.
    Blackhole,
    /// It is asked over TLS and closes the connection.
    NoTls,
    /// It is asked over TLS and says nothing.
    SilentTls,
    /// The first of its name's addresses refuses connections.
    SecondAddress,
}

/// One member is set.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Step {
    /// Sends requests one after another and reads their answers to the end.
    Ask(Ask),
    /// Sends a request; later steps read its answer by its name.
    Begin(Ask),
    /// Reads the answer of a request that was begun until this text is in it.
    Await { of: String, text: String },
    /// Reads the answer of a request that was begun to its end.
    Read {
        of: String,
        #[serde(default)]
        expect: Expected,
    },
    /// The client of a request that was begun closes its connection.
    Leave(String),
    /// Waits until the upstreams got so many requests.
    Asked(BTreeMap<String, u64>),
    /// Waits until so many connections to the upstreams were opened.
    Opened(BTreeMap<String, u64>),
    /// Waits until so many connections to the upstreams were closed.
    Closed(BTreeMap<String, u64>),
    #[serde(deserialize_with = "duration")]
    Pause(Duration),
    /// Waits until the breakers have these states.
    Breaker(BTreeMap<String, f64>),
    /// Reloads the config with other settings of the model, and with other weights.
    Reload {
        #[serde(default)]
        model: Map<String, Value>,
        #[serde(default)]
        weights: BTreeMap<String, u32>,
    },
    /// Waits until the process has as many open files as before the row, give or take these.
    OpenFiles(u64),
    /// Waits until at most so many connections to the upstreams are open.
    Open(BTreeMap<String, u64>),
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// The name by which later steps refer to it.
    pub name: String,
    /// `m` where it is not set.
    pub model: Option<String>,
    /// `native` where it is not set.
    pub dialect: Option<String>,
    pub whole: bool,
    /// Whether it is sent over HTTP/2.
    pub http2: bool,
    pub headers: BTreeMap<String, String>,
    /// `{n}` in it is the number of the request.
    pub prompt: Option<String>,
    /// More members of the body.
    pub body: Map<String, Value>,
    /// How many requests; 1 where it is not set.
    pub times: Option<u32>,
    /// How many of them are sent at once.
    pub at_once: Option<usize>,
    pub expect: Expected,
}

/// What the client gets. Members that are not set are not checked.
#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// 200 where it is not set.
    pub status: Option<u16>,
    /// The text of the answer; with an error, what came before it.
    pub text: Option<String>,
    /// The upstream that answered, of a native stream.
    pub upstream: Option<String>,
    /// The error's code, of a native answer.
    pub code: Option<String>,
    /// Members of the error, in the dialect's own form.
    pub error: Option<Value>,
    /// `x-sluicegate-attempts`, without the upstreams' model.
    pub attempts: Option<String>,
    /// The attempts in the native terminal event where they are not those of the header.
    pub told: Option<String>,
    /// Whether the head was sent before a target answered.
    pub early: bool,
    pub retry_after: Option<String>,
    /// How many of the asked requests each upstream answered.
    pub shares: Option<BTreeMap<String, u64>>,
    /// How many different upstreams answered.
    pub answering: Option<usize>,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/faults")
}

fn parse<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    // `off` is a word, as in the config.
    let options = serde_saphyr::options! { strict_booleans: true };
    let parsed = serde_saphyr::from_str_with_options(&text, options);
    parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn scripts() -> Scripts {
    parse("scripts.yaml")
}

pub fn group(name: &str) -> Group {
    parse(&format!("{name}.yaml"))
}

/// The names of all groups.
pub fn groups() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap();
    let names = files.filter_map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".yaml").map(str::to_owned)
    });
    let mut names: Vec<_> = names.filter(|name| name != "scripts").collect();
    names.sort();
    names
}
