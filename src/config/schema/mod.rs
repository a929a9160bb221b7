//! Every setting of the config with its description: what the reader accepts, and the JSON Schema
//! for editors. Both come from these tables, so they cannot differ.

mod model;

use serde_json::{Map, Value, json};

pub use model::{BREAKER, HEDGE, MODEL, RETRY, TARGET};

/// One key of a section.
pub struct Setting {
    pub name: &'static str,
    kind: Kind,
    about: &'static str,
}

/// The value of a setting.
pub enum Kind {
    /// A string.
    Text,
    /// A string or a number, in a notation of its own: a duration, a size, a count, a rate.
    Scalar(&'static [&'static str]),
    /// `on` or `off`.
    Switch,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// A map from header names to strings.
    Headers,
    Section(&'static [Setting]),
    /// A list of sections.
    Sections(&'static [Setting]),
    /// A map from names to sections.
    Named(&'static [Setting]),
    /// A section, or a string.
    TextOr(&'static [Setting]),
    /// A section, or this word.
    SectionOr(&'static str, &'static [Setting]),
}

const fn setting(name: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { name, kind, about }
}

const ADDRESS: Kind = Kind::Scalar(&["127.0.0.1:8080", "0.0.0.0:8080", "localhost:8080"]);
const DURATION: Kind = Kind::Scalar(&["250ms", "5s", "1m30s"]);
const DURATION_OR_NONE: Kind = Kind::Scalar(&["5s", "1m30s", "none"]);
const SIZE: Kind = Kind::Scalar(&["10MiB", "512KiB", "65536"]);
const COUNT: Kind = Kind::Scalar(&["50", "200k", "1M"]);
const COUNT_OR_NONE: Kind = Kind::Scalar(&["50", "200k", "none"]);
const RATE: Kind = Kind::Scalar(&["600/min", "10/s", "200k/min"]);

pub const ROOT: &[Setting] = &[
    setting(
        "listen",
        ADDRESS,
        "The address for clients. Default: 127.0.0.1:8080.",
    ),
    setting(
        "admin_listen",
        ADDRESS,
        "The address for metrics, health and the dashboard; it must differ from `listen`. Default: 127.0.0.1:9090.",
    ),
    setting(
        "tls",
        Kind::Section(TLS),
        "TLS on `listen`, with HTTP/2 and HTTP/1.1 by ALPN. Changed files are loaded without a restart.",
    ),
    setting(
        "upstreams",
        Kind::Named(UPSTREAM),
        "The model APIs. A vendor's name brings its preset; every field can be overridden.",
    ),
    setting(
        "models",
        Kind::Named(MODEL),
        "The names that clients use. A `*` in a name is carried over to the target's model.",
    ),
    setting(
        "timeouts",
        Kind::Section(TIMEOUTS),
        "The deadlines of models without their own.",
    ),
    setting(
        "heartbeat",
        DURATION,
        "The longest silence towards a client. Default: 15s.",
    ),
    setting(
        "keys",
        Kind::Sections(KEY),
        "The API keys of clients. Without `keys` there is no authentication, which is only allowed on a loopback address or with `open: true`.",
    ),
    setting(
        "limits",
        Kind::Section(LIMITS),
        "The limits of this replica.",
    ),
    setting(
        "resume",
        Kind::Section(RESUME),
        "How long and how much of a stream is kept for clients that reconnect.",
    ),
    setting(
        "metrics",
        Kind::Section(METRICS),
        "What the metrics distinguish.",
    ),
    setting(
        "drain",
        DURATION,
        "How long open streams may continue after a shutdown has begun. Default: 30s.",
    ),
    setting(
        "state",
        Kind::TextOr(STATE),
        "Where limits and resumable streams are kept: `memory`, or the URL of a Redis or Valkey that all replicas share, such as `redis://host:6379/0`; a section adds Sentinels and certificates.",
    ),
    setting(
        "on_store_failure",
        Kind::Words(&["local", "deny"]),
        "What happens while the shared state cannot be reached: this replica's own limits apply, or requests are refused.",
    ),
    setting(
        "cors",
        Kind::Section(CORS),
        "Which web pages may call the gateway.",
    ),
    setting(
        "tracing",
        Kind::Section(TRACING),
        "How traces are written. They go where the variables `OTEL_EXPORTER_OTLP_…` of the environment say.",
    ),
    setting(
        "hosts",
        Kind::Texts,
        "Host names under which a gateway without keys may be called, besides loopback names.",
    ),
    setting(
        "open",
        Kind::Switch,
        "Allows serving without `keys` on a public address. Default: off.",
    ),
    setting(
        "trusted_proxies",
        Kind::Texts,
        "The networks or addresses of proxies whose `x-forwarded-for` is trusted.",
    ),
];

pub const UPSTREAM: &[Setting] = &[
    setting(
        "preset",
        Kind::Text,
        "The vendor whose preset applies, if the upstream's name is not a vendor's.",
    ),
    setting(
        "wire",
        Kind::Text,
        "The protocol of the API, such as `openai-chat`. Default: the preset's.",
    ),
    setting(
        "base_url",
        Kind::Text,
        "The address of the API without the wire's own path, such as `https://api.example.com/v1`. Default: the preset's.",
    ),
    setting(
        "api_key",
        Kind::Text,
        "The credential, best as `${VAR}` or `${file:/run/secrets/x}`.",
    ),
    setting(
        "region",
        Kind::Text,
        "The region of an AWS upstream. Default: the environment variable AWS_REGION.",
    ),
    setting(
        "headers",
        Kind::Headers,
        "Headers that are sent with every request.",
    ),
    setting(
        "think_tags",
        Kind::Words(&["reasoning", "text"]),
        "Whether `<think>` in a text begins reasoning or stays text. Default: the preset's.",
    ),
    setting(
        "fidelity",
        Kind::Words(&["verbatim", "repaired"]),
        "Whether a client that speaks the upstream's protocol gets its answers as they are, or decoded and repaired. Default: `verbatim`, except on `openai-chat`, where the preset decides.",
    ),
    setting(
        "proxy",
        Kind::Text,
        "An HTTP proxy, `http://user:password@host:port`: by CONNECT for https, with absolute URLs for http. The environment's proxy variables are ignored.",
    ),
    setting(
        "ca",
        Kind::Text,
        "A file of certificates in PEM form that are trusted for this upstream beside the system's.",
    ),
    setting(
        "client_cert",
        Kind::Section(CLIENT_CERT),
        "The certificate that the gateway presents to this upstream.",
    ),
    setting(
        "reuse",
        Kind::SectionOr("off", REUSE),
        "After how many requests, or how long, a connection is not used again; `off`: after one request.",
    ),
];

pub const CLIENT_CERT: &[Setting] = &[
    setting(
        "cert",
        Kind::Text,
        "The file of the certificate and its intermediates, in PEM form.",
    ),
    setting(
        "key",
        Kind::Text,
        "The file of the private key, in PEM form.",
    ),
];

pub const REUSE: &[Setting] = &[
    setting(
        "requests",
        COUNT,
        "How many requests a connection is used for. Default: 1000.",
    ),
    setting(
        "age",
        DURATION,
        "How long after it was opened a connection is reused. Default: 10m.",
    ),
];

pub const TIMEOUTS: &[Setting] = &[
    setting(
        "connect",
        DURATION,
        "To open a connection, TLS included. Default: 5s.",
    ),
    setting(
        "first_token",
        DURATION,
        "From sending a request to its first content, for each target. Default: 60s.",
    ),
    setting(
        "idle",
        DURATION,
        "The longest silence between two bytes of an answer. Default: 60s.",
    ),
    setting(
        "total",
        DURATION_OR_NONE,
        "From a request's arrival to the end of its answer. Default: none.",
    ),
];

pub const KEY: &[Setting] = &[
    setting("name", Kind::Text, "The name of the key in logs."),
    setting(
        "sha256",
        Kind::Text,
        "The SHA-256 of the key in hexadecimal, as `sluicegate keys new` prints it.",
    ),
    setting(
        "models",
        Kind::Texts,
        "The models that the key may use; `*` matches any text. Default: all.",
    ),
    setting(
        "limits",
        Kind::Section(KEY_LIMITS),
        "The limits of this key.",
    ),
];

pub const KEY_LIMITS: &[Setting] = &[
    setting("requests", RATE, "Requests in a period."),
    setting(
        "tokens",
        RATE,
        "Tokens in a period, input and output together.",
    ),
    setting("streams", COUNT, "Streams that may be open at once."),
];

pub const LIMITS: &[Setting] = &[
    setting(
        "streams",
        COUNT,
        "Streams that may be open at once on this replica. Default: 10000.",
    ),
    setting(
        "connections",
        Kind::Section(CONNECTIONS),
        "Connections that clients may have open.",
    ),
    setting(
        "listeners",
        COUNT,
        "Clients that may listen to notifications at once. Default: 10000.",
    ),
    setting(
        "per_ip",
        Kind::Section(PER_IP),
        "Limits for one client address, before authentication.",
    ),
    setting(
        "memory",
        SIZE,
        "Request bodies and heads that are held at once, all together. Default: 512MiB.",
    ),
    setting("body", SIZE, "The largest request body. Default: 10MiB."),
    setting(
        "frame",
        SIZE,
        "The largest frame of an upstream's stream. Default: 16MiB.",
    ),
];

pub const CONNECTIONS: &[Setting] = &[
    setting(
        "total",
        COUNT,
        "All together; lowered to what the limit on open files allows. Default: 15000.",
    ),
    setting(
        "per_ip",
        COUNT_OR_NONE,
        "Of one client address; of one /64 network over IPv6. Default: none.",
    ),
];

/// TLS on the client listener.
pub const TLS: &[Setting] = &[
    setting(
        "cert",
        Kind::Text,
        "The certificate and its chain, a PEM file.",
    ),
    setting("key", Kind::Text, "The private key, a PEM file."),
];

pub const PER_IP: &[Setting] = &[setting("requests", RATE, "Requests in a period.")];

pub const METRICS: &[Setting] = &[setting(
    "key",
    Kind::Switch,
    "Counts requests and tokens for each API key, in a label `key`. Default: off.",
)];

pub const RESUME: &[Setting] = &[
    setting(
        "window",
        DURATION,
        "How long a stream continues without readers, and stays readable after its end; 0: not at all. Default: 30s.",
    ),
    setting(
        "buffer",
        SIZE,
        "How much of each stream is kept. Default: 1MiB.",
    ),
];

pub const TRACING: &[Setting] = &[
    setting(
        "semconv",
        Kind::Words(&["latest", "legacy", "both"]),
        "Which names the attributes of spans have: those of OpenTelemetry's newest convention for generative AI, the earlier ones, or both. Default: latest.",
    ),
    setting(
        "content",
        Kind::Switch,
        "Whether spans have prompts and answers, up to 32 KiB of each. Everyone who can read the traces can read them. Default: off.",
    ),
];

pub const STATE: &[Setting] = &[
    setting(
        "url",
        Kind::Text,
        "The server, such as `redis://user:password@host:6379/0`; `rediss://` for TLS. Beside `sentinels`, the host is the name of the master that they watch.",
    ),
    setting(
        "sentinels",
        Kind::Texts,
        "The addresses of the Sentinels, such as `sentinel-0:26379`. Every connection goes to the master that they name.",
    ),
    setting(
        "sentinel_password",
        Kind::Text,
        "The password of the Sentinels, if they have one.",
    ),
    setting(
        "cluster",
        Kind::Switch,
        "Whether the server is part of a cluster. Default: off.",
    ),
    setting(
        "ca",
        Kind::Text,
        "A PEM file of the certificates that are trusted instead of the system's.",
    ),
    setting(
        "client_cert",
        Kind::Section(CLIENT_CERT),
        "The certificate that the gateway presents to the server.",
    ),
];

pub const CORS: &[Setting] = &[setting(
    "origins",
    Kind::Texts,
    "Origins such as `https://app.example.com`, `loopback` for every page of this machine, or `*` for every page.",
)];

/// The JSON Schema of the config.
pub fn json_schema() -> Value {
    let mut schema = section(ROOT);
    let head = [
        ("$schema", "http://json-schema.org/draft-07/schema#"),
        ("title", "The config of Sluicegate"),
        (
            "description",
            "In any string, ${VAR}, ${VAR:-default} and ${file:/path} are expanded.",
        ),
    ];
    for (key, value) in head {
        schema.insert(key.to_owned(), json!(value));
    }
    Value::Object(schema)
}

fn section(settings: &[Setting]) -> Map<String, Value> {
    let properties = settings.iter().map(|setting| {
        let mut value = setting.kind.schema();
        value.insert("description".to_owned(), json!(setting.about));
        (setting.name.to_owned(), Value::Object(value))
    });
    let properties: Map<String, Value> = properties.collect();
    object(json!({
        // An empty section may be left out: `ollama:` alone is a whole upstream.
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    }))
}

impl Kind {
    fn schema(&self) -> Map<String, Value> {
        match self {
            Self::Text => object(json!({ "type": "string" })),
            Self::Scalar(examples) => {
                object(json!({ "type": ["string", "integer"], "examples": examples }))
            }
            Self::Switch => choice(&[json!("on"), json!("off"), json!(true), json!(false)]),
            Self::Words(words) => {
                let words: Vec<Value> = words.iter().map(|word| json!(word)).collect();
                choice(&words)
            }
            Self::Texts => object(json!({ "type": "array", "items": { "type": "string" } })),
            Self::Headers => {
                object(json!({ "type": "object", "additionalProperties": { "type": "string" } }))
            }
            Self::Section(settings) => section(settings),
            Self::Sections(settings) => {
                object(json!({ "type": "array", "items": section(settings) }))
            }
            Self::Named(settings) => {
                object(json!({ "type": "object", "additionalProperties": section(settings) }))
            }
            Self::TextOr(settings) => {
                object(json!({ "anyOf": [{ "type": "string" }, section(settings)] }))
            }
            Self::SectionOr(word, settings) => {
                object(json!({ "anyOf": [{ "const": word }, section(settings)] }))
            }
        }
    }
}

/// One of these values, or a reference to one.
fn choice(values: &[Value]) -> Map<String, Value> {
    object(json!({ "anyOf": [{ "enum": values }, { "type": "string", "pattern": "[$][{]" }] }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
