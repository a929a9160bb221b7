//! The config: YAML in, one validated and typed [`Config`] out, or every problem at once.
//!
//! | file | does |
//! |---|---|
//! | `tree` | parses YAML into a tree whose values know their lines |
//! | `mask` | lets `${VAR}` stand unquoted inside `{ … }` |
//! | `expand` | `${VAR}`, `${VAR:-default}`, `${file:/path}` |
//! | `read` | reads settings from the tree and collects every problem with its line and path |
//! | `unit`, `glob` | notations: durations, sizes, rates, patterns |
//! | `preset` | vendors as data |
//! | `upstream`, `credential`, `connection`, `models`, `keys`, `tls`, `state`, `settings` | the sections: their types and how they are read |
//! | `schema` | every setting with its description; the JSON Schema |
//! | `routing` | how a model's targets are chosen |
//! | `effective` | writes a config as YAML, secrets redacted |
//!
//! Serde's derived structs would stop at the first unknown key or bad value; that is why sections
//! are read by hand. Secrets are [`secrecy::SecretString`]s or sensitive header values: neither
//! `Debug`, nor a [`Problem`], nor [`Config::effective`] prints them. `docs/configuration.md` is
//! the reference for users.

mod connection;
mod credential;
mod effective;
mod expand;
mod glob;
mod keys;
mod mask;
mod models;
pub mod preset;
mod problem;
mod read;
mod routing;
pub mod schema;
mod settings;
mod state;
mod telemetry;
mod tls;
mod tree;
mod unit;
mod upstream;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

/// What a file that does not exist is answered with, most often a container without its mount.
const NO_FILE: &str = "cannot be read: there is no such file. In a container, mount your config there. --config and \
    SLUICEGATE_CONFIG name another file; `sluicegate demo` needs none";

pub use connection::{CaConfig, ClientCertConfig, ConnectionConfig, ProxyConfig, ReuseConfig};
pub use effective::key_entry;
pub use expand::Environment;
pub use glob::Glob;
pub use keys::{KeyConfig, KeyLimitsConfig, is_well_known};
pub use models::{ModelConfig, Models, TargetConfig};
pub use problem::{Problem, Problems};
pub use routing::{
    AffinityConfig, BreakerConfig, HedgeConfig, RetryConfig, RoutingConfig, StrategyConfig,
};
pub use settings::{
    AllowedOrigins, ConnectionLimits, LimitsConfig, OnStoreFailure, ResumeConfig, TimeoutsConfig,
};
pub use state::{SentinelServers, ServerTemplate, Servers, SharedStateConfig, StateConfig};
pub use telemetry::{MetricsConfig, SpanNames, TracingConfig};
pub use tls::TlsConfig;
pub use unit::parse_address;
pub use upstream::UpstreamConfig;

use read::{Field, Reader, Section};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const ADMIN_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const HEARTBEAT: Duration = Duration::from_secs(15);
const DRAIN: Duration = Duration::from_secs(30);

/// The whole config, validated, with defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address for clients.
    pub listen: SocketAddr,
    /// The address for metrics, health and the dashboard.
    pub admin_listen: SocketAddr,
    /// TLS on `listen`. `None`: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// In the file's order.
    pub upstreams: Vec<Arc<UpstreamConfig>>,
    pub models: Models,
    /// For models without their own; already merged into [`ModelConfig::timeouts`].
    pub timeouts: TimeoutsConfig,
    /// The longest silence towards a client; above zero.
    pub heartbeat: Duration,
    /// The API keys. `None`: no authentication.
    pub keys: Option<Vec<KeyConfig>>,
    /// Whether serving without keys on a public address is allowed.
    pub open: bool,
    pub limits: LimitsConfig,
    /// Proxies whose `x-forwarded-for` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    pub resume: ResumeConfig,
    pub metrics: MetricsConfig,
    /// How long open streams may continue after a shutdown has begun.
    pub drain: Duration,
    pub state: StateConfig,
    pub on_store_failure: OnStoreFailure,
    /// Which web pages may call the gateway.
    pub origins: AllowedOrigins,
    /// The names, besides loopback, under which a listener without keys may be called.
    pub hosts: Vec<String>,
    pub tracing: TracingConfig,
}

/// Settings from the command line, which override the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    pub listen: Option<SocketAddr>,
    pub admin_listen: Option<SocketAddr>,
}

/// A valid config and its warnings.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    pub config: Config,
    /// In the order of their lines.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Whether a model has this upstream's model as a target: by its name or pattern, or by a pattern that
    /// stands for it.
    pub fn has_target(&self, upstream: &str, model: &str) -> bool {
        let targets = self.models.iter().flat_map(|model| &model.targets);
        let mut targets = targets.filter(|target| target.upstream.name == upstream);
        targets.any(|target| target.stands_for(model))
    }

    /// Loads the file at `path`, of at most 1 MiB.
    ///
    /// # Errors
    /// Every problem in the file, or that it cannot be read.
    pub fn load(
        path: &Path,
        env: Environment<'_>,
        overrides: &Overrides,
    ) -> Result<LoadedConfig, Problems> {
        let source = path.display().to_string();
        let mut bytes = Vec::new();
        // Reads one byte more than allowed, so that `parse` notices a file that is too large.
        let read = File::open(path).and_then(|file| {
            file.take(tree::MAX_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
        });
        let text = match read {
            Ok(_) => String::from_utf8(bytes).map_err(|_| "is not valid UTF-8".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(NO_FILE.to_owned()),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        match text {
            Ok(text) => Self::parse(&text, &source, env, overrides),
            Err(message) => Err(whole_file(&source, None, message)),
        }
    }

    /// Parses a config. `source` is its name in problems.
    ///
    /// # Errors
    /// Every problem in the text. If it is not YAML, that is the only one.
    pub fn parse(
        text: &str,
        source: &str,
        env: Environment<'_>,
        overrides: &Overrides,
    ) -> Result<LoadedConfig, Problems> {
        let mut root =
            tree::parse(text).map_err(|(line, message)| whole_file(source, line, message))?;
        let mut reader = Reader::new(source);
        expand::expand(
            &mut root,
            env,
            source,
            &mut reader.problems,
            &mut reader.warnings,
        );
        let config = read_config(&mut reader, &Field::root(&root), env, overrides);
        reader.problems.sort_by_key(|problem| problem.line);
        reader.warnings.sort_by_key(|warning| warning.line);
        if reader.problems.is_empty() {
            Ok(LoadedConfig {
                config,
                warnings: reader.warnings,
            })
        } else {
            Err(Problems(reader.problems))
        }
    }

    /// The config as YAML: the file's settings, presets and defaults, with every secret replaced by
    /// `<redacted>`. With its secrets put back it is itself a config.
    pub fn effective(&self) -> String {
        effective::write(self)
    }

    /// The upstream of that name.
    pub fn upstream(&self, name: &str) -> Option<&Arc<UpstreamConfig>> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }
}

fn whole_file(source: &str, line: Option<u64>, message: String) -> Problems {
    Problems(vec![Problem {
        source: source.to_owned(),
        line,
        path: String::new(),
        message,
    }])
}

/// A setting with a problem gets a placeholder; the config is then not returned.
fn read_config(
    reader: &mut Reader,
    root: &Field<'_>,
    env: Environment<'_>,
    overrides: &Overrides,
) -> Config {
    let section = reader.section(root, schema::ROOT);
    let listen = settings::read_address(reader, &section, "listen", LISTEN);
    let listen = overrides.listen.unwrap_or(listen);
    let admin_listen = settings::read_address(reader, &section, "admin_listen", ADMIN_LISTEN);
    let admin_listen = overrides.admin_listen.unwrap_or(admin_listen);
    if listen == admin_listen && listen.port() != 0 {
        let absent = section.field.missing("admin_listen");
        let at = section.get("admin_listen").unwrap_or(&absent);
        reader.add_problem(
            at,
            "must differ from `listen`, because clients must not reach the admin listener",
        );
    }
    let declared = upstream::read(reader, section.get("upstreams"), env);
    let timeouts =
        settings::read_timeouts(reader, section.get("timeouts"), &TimeoutsConfig::default());
    let models = models::read(reader, &section, &declared, &timeouts);
    let keys = keys::read(reader, section.get("keys"), &models);
    let open = reader.setting(&section, "open", false, unit::parse_switch);
    check_access(reader, &section, listen, open);
    Config {
        listen,
        admin_listen,
        tls: tls::read(reader, section.get("tls")),
        upstreams: declared
            .into_iter()
            .filter_map(|(_, upstream)| upstream)
            .collect(),
        models,
        timeouts,
        heartbeat: reader.setting(&section, "heartbeat", HEARTBEAT, unit::parse_interval),
        keys,
        open,
        limits: settings::read_limits(reader, section.get("limits")),
        trusted_proxies: settings::read_trusted_proxies(reader, &section),
        resume: settings::read_resume(reader, section.get("resume")),
        metrics: telemetry::read_metrics(reader, section.get("metrics")),
        drain: reader.setting(&section, "drain", DRAIN, unit::parse_duration),
        state: state::read(reader, &section),
        on_store_failure: settings::read_on_store_failure(reader, &section),
        origins: settings::read_cors(reader, section.get("cors")),
        hosts: settings::read_hosts(reader, &section),
        tracing: telemetry::read_tracing(reader, section.get("tracing")),
    }
}

/// Without keys, everyone who can connect can spend the operator's money.
fn check_access(reader: &mut Reader, section: &Section<'_>, listen: SocketAddr, open: bool) {
    match section.get("keys") {
        None if !open && !listen.ip().is_loopback() => reader.add_problem(
            &section.field.missing("keys"),
            format!(
                "is missing, and {listen} is not a loopback address; add a key \
                 (`sluicegate keys new`), or set `open: true` to serve without authentication"
            ),
        ),
        Some(_) if open => {
            // `open` is set here, because its default is off.
            if let Some(field) = section.get("open") {
                reader.add_warning(
                    field,
                    "has no effect because `keys` is set: every request needs a key; remove `open`",
                );
            }
        }
        None | Some(_) => {}
    }
}
