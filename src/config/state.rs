//! `state`: where limits and resumable streams are kept.

use std::fmt;
use std::sync::Arc;

use redis::{Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, TlsCertificates};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::connection::{self, CaConfig, ClientCertConfig};
use super::expand::{self, FileAccess};
use super::read::{Field, Reader, Section};
use super::schema;
use super::unit;

/// Where limits and resumable streams are kept.
#[derive(Debug, Clone)]
pub enum StateConfig {
    /// In this process.
    Memory,
    /// In a Redis or Valkey that all replicas share.
    Shared(Box<SharedStateConfig>),
}

/// The shared state. Nothing is connected yet.
#[derive(Clone)]
pub struct SharedStateConfig {
    /// As in the config; it may contain a password.
    url: SecretString,
    sentinels: Vec<String>,
    sentinel_password: Option<SecretString>,
    cluster: bool,
    ca: Option<Arc<CaConfig>>,
    client_cert: Option<Arc<ClientCertConfig>>,
    pub servers: Servers,
}

/// Which server has the state.
#[derive(Debug, Clone)]
pub enum Servers {
    One(Box<Client>),
    /// The server that Sentinel names at the moment.
    Sentinel(Arc<SentinelServers>),
    /// The servers of a cluster, of which this is one.
    Cluster(Arc<ServerTemplate>),
}

/// Servers that Sentinel watches.
#[derive(Debug)]
pub struct SentinelServers {
    /// The name under which Sentinel knows the master.
    pub master: String,
    pub sentinels: Vec<Client>,
    pub template: ServerTemplate,
}

/// A client, from which clients for servers at other addresses are made.
#[derive(Debug)]
pub struct ServerTemplate(Client);

const SENTINEL_PORT: u16 = 26379;

impl From<Client> for Servers {
    fn from(server: Client) -> Self {
        Self::One(Box::new(server))
    }
}

impl ServerTemplate {
    pub fn client(&self) -> &Client {
        &self.0
    }

    /// A client for the server at this address, with the same certificates and credentials.
    ///
    /// # Errors
    /// The address is not valid.
    pub fn at(&self, host: String, port: u16) -> Result<Client, redis::RedisError> {
        let info = self.0.get_connection_info().clone();
        let addr = match info.addr().clone() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        Client::open(info.set_addr(addr))
    }
}

/// Reads `state`: a word, a URL, or a section.
pub fn read(reader: &mut Reader, section: &Section<'_>) -> StateConfig {
    let Some(field) = section.get("state") else {
        return StateConfig::Memory;
    };
    if field.is_word("memory") {
        return StateConfig::Memory;
    }
    let shared = if field.is_scalar() {
        reader.text(field).and_then(|text| {
            let servers = open(reader, field, text, None)?;
            Some(SharedStateConfig {
                url: SecretString::from(text),
                sentinels: Vec::new(),
                sentinel_password: None,
                cluster: false,
                ca: None,
                client_cert: None,
                servers: Servers::One(Box::new(servers)),
            })
        })
    } else {
        read_section(reader, field)
    };
    shared.map_or(StateConfig::Memory, |shared| {
        StateConfig::Shared(Box::new(shared))
    })
}

fn read_section(reader: &mut Reader, field: &Field<'_>) -> Option<SharedStateConfig> {
    let section = reader.section(field, schema::STATE);
    let Some(url_field) = section.get("url") else {
        reader.add_problem(
            &section.field.missing("url"),
            "is missing: name the server, such as `redis://host:6379/0`",
        );
        return None;
    };
    let text = reader.text(url_field)?;
    let ca = section
        .get("ca")
        .and_then(|field| connection::read_ca(reader, field));
    let client_cert = section
        .get("client_cert")
        .and_then(|field| connection::read_client_cert(reader, field));
    let certificates = read_certificates(ca.as_deref(), client_cert.as_deref());
    let template = open(reader, url_field, text, certificates.as_ref())?;
    let sentinel_password = section
        .get("sentinel_password")
        .and_then(|field| reader.secret(field));
    let sentinels = section.get("sentinels");
    let names = match sentinels {
        Some(field) => read_sentinels(reader, field)?,
        None => Vec::new(),
    };
    let cluster = reader.setting(&section, "cluster", false, unit::parse_switch);
    if cluster && sentinels.is_some() {
        reader.add_problem(
            &section.field,
            "has both `sentinels` and `cluster`; a cluster replaces its failed servers itself",
        );
        return None;
    }
    if cluster && template.get_connection_info().redis_settings().db() != 0 {
        reader.add_problem(
            url_field,
            "must not name a database: a cluster has only number 0",
        );
        return None;
    }
    let servers = match sentinels {
        None if cluster => Servers::Cluster(Arc::new(ServerTemplate(template))),
        None => Servers::One(Box::new(template)),
        Some(field) => {
            let url = Url::parse(text).ok()?;
            if url.port().is_some() {
                reader.add_problem(
                    url_field,
                    "must not have a port beside `sentinels`: its host is the name of the master that they watch",
                );
                return None;
            }
            let connect = |name: &String| {
                let sentinel = format!("{}://{name}", url.scheme());
                let info = sentinel.into_connection_info().ok()?;
                let mut settings = info.redis_settings().clone();
                if let Some(password) = &sentinel_password {
                    settings = settings.set_password(password.expose_secret());
                }
                let info = info.set_redis_settings(settings);
                match &certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates.clone()).ok(),
                    None => Client::open(info).ok(),
                }
            };
            let Some(clients) = names.iter().map(connect).collect::<Option<Vec<_>>>() else {
                reader.add_problem(field, "has an address that cannot be used");
                return None;
            };
            Servers::Sentinel(Arc::new(SentinelServers {
                master: url.host_str()?.to_owned(),
                sentinels: clients,
                template: ServerTemplate(template),
            }))
        }
    };
    Some(SharedStateConfig {
        url: SecretString::from(text),
        sentinels: names,
        sentinel_password,
        cluster,
        ca,
        client_cert,
        servers,
    })
}

/// Addresses with their ports.
fn read_sentinels(reader: &mut Reader, field: &Field<'_>) -> Option<Vec<String>> {
    let items = reader.items(field)?;
    if items.is_empty() {
        reader.add_problem(field, "must name at least one Sentinel");
        return None;
    }
    let parse = |text: &str| {
        let url = Url::parse(&format!("redis://{text}"));
        let url = url.ok().filter(|url| {
            url.has_host() && url.username().is_empty() && matches!(url.path(), "" | "/")
        });
        let url = url.ok_or("an address such as `sentinel-0:26379`")?;
        let host = url.host_str().unwrap_or_default();
        Ok(format!("{host}:{}", url.port().unwrap_or(SENTINEL_PORT)))
    };
    let count = items.len();
    let names: Vec<_> = items
        .iter()
        .filter_map(|item| reader.parse(item, parse))
        .collect();
    (names.len() == count).then_some(names)
}

/// The client for a URL. The value is not quoted in messages, because it may contain a password.
fn open(
    reader: &mut Reader,
    field: &Field<'_>,
    text: &str,
    certificates: Option<&TlsCertificates>,
) -> Option<Client> {
    // A fragment could be `#insecure`, which disables certificate checks.
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "redis" | "rediss"))
        .filter(|url| url.has_host() && url.fragment().is_none());
    let problem = match url {
        Some(url) if certificates.is_some() && url.scheme() != "rediss" => {
            "must begin with `rediss://` beside `ca` or `client_cert`: only TLS uses certificates"
        }
        Some(url) => {
            let client = match certificates {
                Some(certificates) => Client::build_with_tls(url, certificates.clone()),
                None => Client::open(url),
            };
            if let Ok(client) = client {
                return Some(client);
            }
            "is not the URL of a Redis or Valkey server such as `redis://host:6379/0`"
        }
        None => "is neither `memory` nor a URL such as `redis://host:6379/0`",
    };
    reader.add_problem(field, problem);
    None
}

/// The files' contents again, in the form that the connection needs.
fn read_certificates(
    ca: Option<&CaConfig>,
    client: Option<&ClientCertConfig>,
) -> Option<TlsCertificates> {
    let read = |path: &str, access| expand::read_file(path, access).ok().map(|(text, _)| text);
    let root_cert = ca.and_then(|ca| read(&ca.path, FileAccess::Public));
    let client_tls = client.and_then(|client| {
        Some(ClientTlsConfig {
            client_cert: read(&client.cert, FileAccess::Public)?.into_bytes(),
            client_key: read(&client.key, FileAccess::Secret)?.into_bytes(),
        })
    });
    (root_cert.is_some() || client_tls.is_some()).then(|| TlsCertificates {
        client_tls,
        root_cert: root_cert.map(String::into_bytes),
    })
}

impl StateConfig {
    /// The setting as in the config, with its passwords redacted.
    pub fn redacted(&self, redacted: &str) -> Value {
        match self {
            Self::Memory => json!("memory"),
            Self::Shared(shared) => shared.redacted(redacted),
        }
    }
}

impl SharedStateConfig {
    fn redacted(&self, redacted: &str) -> Value {
        let url = match Url::parse(self.url.expose_secret()) {
            Ok(mut url) if url.password().is_some() => {
                // This cannot fail: a URL with a password has a host.
                let _ = url.set_password(Some("redacted"));
                url.into()
            }
            Ok(url) => url.into(),
            // Unreachable for a validated config; nothing of the value is printed.
            Err(_) => redacted.to_owned(),
        };
        let mut section = serde_json::Map::new();
        if let Some(ca) = &self.ca {
            section.insert("ca".to_owned(), json!(ca.path));
        }
        if let Some(client) = &self.client_cert {
            let files = json!({ "cert": client.cert, "key": client.key });
            section.insert("client_cert".to_owned(), files);
        }
        if !self.sentinels.is_empty() {
            section.insert("sentinels".to_owned(), json!(self.sentinels));
        }
        if self.sentinel_password.is_some() {
            section.insert("sentinel_password".to_owned(), json!(redacted));
        }
        if self.cluster {
            section.insert("cluster".to_owned(), json!("on"));
        }
        if section.is_empty() {
            return json!(url);
        }
        section.insert("url".to_owned(), json!(url));
        Value::Object(section)
    }
}

/// Whether a connection of one may be kept for the other.
impl PartialEq for SharedStateConfig {
    fn eq(&self, other: &Self) -> bool {
        let secrets = |one: &Self| {
            let password = one.sentinel_password.as_ref();
            let password = password.map(|password| password.expose_secret().to_owned());
            (one.url.expose_secret().to_owned(), password)
        };
        secrets(self) == secrets(other)
            && self.sentinels == other.sentinels
            && self.cluster == other.cluster
            && self.ca == other.ca
            && self.client_cert == other.client_cert
    }
}

impl fmt::Debug for SharedStateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.redacted("<redacted>"))
    }
}
