//! All sections except upstreams, models and keys.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::read::{Field, Reader, Section};
use super::schema;
use super::unit;
use crate::model::Rate;

/// The four deadlines of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutsConfig {
    /// Connecting, TLS included.
    pub connect: Duration,
    /// From sending the request to its first content.
    pub first_token: Duration,
    /// The longest silence between bytes.
    pub idle: Duration,
    /// For the whole stream. `None`: unlimited.
    pub total: Option<Duration>,
}

/// The limits of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Streams that may be open at once.
    pub streams: u64,
    pub connections: ConnectionLimits,
    /// Clients that may listen to notifications at once.
    pub listeners: u64,
    /// Requests of one client address, before authentication.
    pub per_ip: Option<Rate>,
    /// Request bodies and heads that are held at once, in bytes.
    pub memory: usize,
    /// The largest request body, in bytes.
    pub body: usize,
    /// The largest frame of an upstream's stream, in bytes.
    pub frame: usize,
}

/// How many connections of clients may be open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub total: usize,
    /// Connections of one address. `None`: as many as `total`.
    pub per_ip: Option<usize>,
}

/// How long and how much of a stream is kept for clients that reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeConfig {
    /// Zero: nothing is kept.
    pub window: Duration,
    /// In bytes, for each stream.
    pub buffer: usize,
}

/// What happens to a request while the shared state cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// Only the limits of this replica apply.
    Local,
    /// It is refused.
    Deny,
}

/// Which web pages may call the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    Any,
    /// Serialized origins, such as `https://app.example.com`, and [`LOOPBACK`].
    These(Vec<String>),
}

/// Stands for every origin whose host is a loopback address.
const LOOPBACK: &str = "loopback";

impl AllowedOrigins {
    /// Whether pages of this origin may call.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(origins) => origins.iter().any(|allowed| {
                allowed == origin || (allowed == LOOPBACK && is_loopback_origin(origin))
            }),
        }
    }
}

fn is_loopback_origin(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else {
        return false;
    };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: None,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            streams: 10_000,
            connections: ConnectionLimits {
                total: 15_000,
                per_ip: None,
            },
            listeners: 10_000,
            per_ip: None,
            memory: 512 * 1024 * 1024,
            body: 10 * 1024 * 1024,
            frame: 16 * 1024 * 1024,
        }
    }
}

impl Default for ResumeConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            buffer: 1024 * 1024,
        }
    }
}

/// Reads `timeouts`; missing ones are taken from `base`.
pub fn read_timeouts(
    reader: &mut Reader,
    field: Option<&Field<'_>>,
    base: &TimeoutsConfig,
) -> TimeoutsConfig {
    let Some(field) = field else {
        return *base;
    };
    let section = reader.section(field, schema::TIMEOUTS);
    TimeoutsConfig {
        connect: reader.setting(&section, "connect", base.connect, unit::parse_interval),
        first_token: reader.setting(
            &section,
            "first_token",
            base.first_token,
            unit::parse_interval,
        ),
        idle: reader.setting(&section, "idle", base.idle, unit::parse_interval),
        total: reader.setting(&section, "total", base.total, unit::parse_interval_or_none),
    }
}

/// Reads `limits`.
pub fn read_limits(reader: &mut Reader, field: Option<&Field<'_>>) -> LimitsConfig {
    let base = LimitsConfig::default();
    let Some(field) = field else {
        return base;
    };
    let section = reader.section(field, schema::LIMITS);
    let per_ip = section.get("per_ip").and_then(|field| {
        let section = reader.section(field, schema::PER_IP);
        read_rate(reader, &section, "requests")
    });
    let connections = section
        .get("connections")
        .map(|field| read_connections(reader, field, base.connections));
    let limits = LimitsConfig {
        streams: reader.setting(&section, "streams", base.streams, unit::parse_count),
        connections: connections.unwrap_or(base.connections),
        listeners: reader.setting(&section, "listeners", base.listeners, unit::parse_count),
        per_ip,
        memory: reader.setting(&section, "memory", base.memory, unit::parse_size),
        body: reader.setting(&section, "body", base.body, unit::parse_size),
        frame: reader.setting(&section, "frame", base.frame, unit::parse_size),
    };
    let set = section.get("memory").or_else(|| section.get("body"));
    if let Some(field) = set.filter(|_| limits.memory < limits.body) {
        reader.add_warning(
            field,
            format!(
                "a body of more than `limits.memory` ({} bytes) is always refused with 503, although \
                 `limits.body` allows {} bytes; raise `limits.memory` or lower `limits.body`",
                limits.memory, limits.body
            ),
        );
    }
    limits
}

fn read_connections(
    reader: &mut Reader,
    field: &Field<'_>,
    base: ConnectionLimits,
) -> ConnectionLimits {
    let section = reader.section(field, schema::CONNECTIONS);
    let parse = unit::parse_connections;
    ConnectionLimits {
        total: reader.setting(&section, "total", base.total, parse),
        per_ip: reader.setting(&section, "per_ip", base.per_ip, |text| match text {
            "none" => Ok(None),
            text => parse(text).map(Some),
        }),
    }
}

/// Reads an optional rate.
pub fn read_rate(reader: &mut Reader, section: &Section<'_>, key: &str) -> Option<Rate> {
    reader.setting(section, key, None, |text| unit::parse_rate(text).map(Some))
}

/// Reads `resume`.
pub fn read_resume(reader: &mut Reader, field: Option<&Field<'_>>) -> ResumeConfig {
    let base = ResumeConfig::default();
    let Some(field) = field else {
        return base;
    };
    let section = reader.section(field, schema::RESUME);
    ResumeConfig {
        window: reader.setting(&section, "window", base.window, unit::parse_duration),
        buffer: reader.setting(&section, "buffer", base.buffer, unit::parse_size),
    }
}

/// Reads an address to listen on.
pub fn read_address(
    reader: &mut Reader,
    section: &Section<'_>,
    key: &str,
    default: SocketAddr,
) -> SocketAddr {
    reader.setting(section, key, default, unit::parse_address)
}

/// Reads `on_store_failure`.
pub fn read_on_store_failure(reader: &mut Reader, section: &Section<'_>) -> OnStoreFailure {
    reader.setting(
        section,
        "on_store_failure",
        OnStoreFailure::Local,
        |text| match text {
            "local" => Ok(OnStoreFailure::Local),
            "deny" => Ok(OnStoreFailure::Deny),
            _ => Err("`local` or `deny`"),
        },
    )
}

/// Reads `cors`.
pub fn read_cors(reader: &mut Reader, field: Option<&Field<'_>>) -> AllowedOrigins {
    let none = AllowedOrigins::These(Vec::new());
    let Some(field) = field else {
        return none;
    };
    let section = reader.section(field, schema::CORS);
    let Some(items) = section.get("origins").and_then(|field| reader.items(field)) else {
        return none;
    };
    let mut origins = Vec::with_capacity(items.len());
    let mut any = false;
    for item in &items {
        match reader.text(item) {
            Some("*") => any = true,
            Some(LOOPBACK) => origins.push(LOOPBACK.to_owned()),
            Some(_) => origins.extend(reader.parse(item, parse_origin)),
            None => {}
        }
    }
    if any {
        AllowedOrigins::Any
    } else {
        AllowedOrigins::These(origins)
    }
}

/// Reads `hosts`: names without a scheme and without a port.
pub fn read_hosts(reader: &mut Reader, section: &Section<'_>) -> Vec<String> {
    let Some(items) = section.get("hosts").and_then(|field| reader.items(field)) else {
        return Vec::new();
    };
    let name = |text: &str| match text
        .contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c))
    {
        false if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("a host name without a port, such as `gateway.internal`"),
    };
    items
        .iter()
        .filter_map(|item| reader.parse(item, name))
        .collect()
}

/// Reads `trusted_proxies`: networks, or single addresses.
pub fn read_trusted_proxies(reader: &mut Reader, section: &Section<'_>) -> Vec<IpNet> {
    let Some(items) = section
        .get("trusted_proxies")
        .and_then(|field| reader.items(field))
    else {
        return Vec::new();
    };
    let network = |text: &str| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| "a network such as `10.0.0.0/8`, or an address")
    };
    items
        .iter()
        .filter_map(|item| reader.parse(item, network))
        .collect()
}

/// Parses an origin as browsers send it: scheme, host, and a port that is not the scheme's default.
fn parse_origin(text: &str) -> Result<String, &'static str> {
    const ORIGIN: &str = "an origin such as `https://app.example.com`, `loopback` or `*`";
    let url = Url::parse(text).map_err(|_| ORIGIN)?;
    let bare = matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().filter(|_| bare).ok_or(ORIGIN)?;
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{}://{host}{port}", url.scheme()))
}
