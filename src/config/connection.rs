//! How an upstream is reached: `proxy`, `ca`, `client_cert` and `reuse`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::SecretString;
use url::Url;

use super::expand::{self, FileAccess};
use super::read::{Field, Reader, Section};
use super::schema;
use super::unit;

/// How connections to an upstream are opened and reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    pub proxy: Option<ProxyConfig>,
    /// Certificates that are trusted beside the system's.
    pub ca: Option<Arc<CaConfig>>,
    /// The certificate that the gateway presents.
    pub client_cert: Option<Arc<ClientCertConfig>>,
    /// `None`: no connection is reused.
    pub reuse: Option<ReuseConfig>,
}

/// An HTTP proxy. `Debug` prints no password.
#[derive(Clone)]
pub struct ProxyConfig {
    /// Without user and password.
    pub url: Url,
    /// User and password, percent-decoded.
    pub credential: Option<(String, SecretString)>,
    /// The value of `proxy-authorization`.
    pub authorization: Option<SecretString>,
}

/// A file of trusted certificates.
#[derive(Debug, PartialEq, Eq)]
pub struct CaConfig {
    pub path: String,
    pub certificates: Vec<CertificateDer<'static>>,
}

/// A client certificate and its key. `Debug` prints no key.
pub struct ClientCertConfig {
    pub cert: String,
    pub key: String,
    pub chain: Vec<CertificateDer<'static>>,
    pub private_key: PrivateKeyDer<'static>,
}

/// How often and how long a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReuseConfig {
    pub requests: u32,
    pub age: Duration,
}

impl Default for ReuseConfig {
    fn default() -> Self {
        Self {
            requests: 1000,
            age: Duration::from_secs(600),
        }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            proxy: None,
            ca: None,
            client_cert: None,
            reuse: Some(ReuseConfig::default()),
        }
    }
}

/// Reads the settings of one upstream.
pub fn read(reader: &mut Reader, section: &Section<'_>) -> ConnectionConfig {
    ConnectionConfig {
        proxy: section
            .get("proxy")
            .and_then(|field| read_proxy(reader, field)),
        ca: section.get("ca").and_then(|field| read_ca(reader, field)),
        client_cert: section
            .get("client_cert")
            .and_then(|field| read_client_cert(reader, field)),
        reuse: read_reuse(reader, section.get("reuse")),
    }
}

/// The value is not quoted in messages, because it may contain a password.
fn read_proxy(reader: &mut Reader, field: &Field<'_>) -> Option<ProxyConfig> {
    let text = reader.text(field)?;
    match parse_proxy(text) {
        Ok(proxy) => Some(proxy),
        Err(problem) => {
            reader.add_problem(field, problem);
            None
        }
    }
}

fn parse_proxy(text: &str) -> Result<ProxyConfig, &'static str> {
    const URL: &str = "is not the URL of an HTTP proxy such as `http://proxy.example.com:3128`";
    let mut url = Url::parse(text).map_err(|_| URL)?;
    if url.scheme() != "http" {
        return Err(
            "must begin with `http://`: the gateway speaks plain HTTP to proxies and TLS through them",
        );
    }
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.has_host() {
        return Err(URL);
    }
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from)
            .map_err(|_| "has a user or password that is not valid UTF-8")
    };
    let user = decode(url.username())?;
    let password = decode(url.password().unwrap_or_default())?;
    if user.contains(':') {
        return Err("must not have a `:` in the user");
    }
    let has_credential = !user.is_empty() || !password.is_empty();
    let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    // These cannot fail: the URL has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(ProxyConfig {
        url,
        credential: has_credential.then(|| (user, SecretString::from(password))),
        authorization: has_credential.then(|| SecretString::from(authorization)),
    })
}

pub(super) fn read_ca(reader: &mut Reader, field: &Field<'_>) -> Option<Arc<CaConfig>> {
    let path = reader.text(field)?;
    let certificates = read_certificates(reader, field, path)?;
    Some(Arc::new(CaConfig {
        path: path.to_owned(),
        certificates,
    }))
}

pub(super) fn read_client_cert(
    reader: &mut Reader,
    field: &Field<'_>,
) -> Option<Arc<ClientCertConfig>> {
    let section = reader.section(field, schema::CLIENT_CERT);
    let mut file = |name: &str| match section.get(name) {
        Some(field) => Some((field, reader.text(field)?)),
        None => {
            reader.add_problem(
                &field.missing(name),
                "is missing; `client_cert` needs the files `cert` and `key`",
            );
            None
        }
    };
    let (cert, key) = (file("cert"), file("key"));
    let ((cert_field, cert), (key_field, key)) = (cert?, key?);
    let chain = read_certificates(reader, cert_field, cert);
    let private_key = read_key(reader, key_field, key);
    let (chain, private_key) = (chain?, private_key?);
    let provider = ring::default_provider();
    if CertifiedKey::from_der(chain.clone(), private_key.clone_key(), &provider).is_err() {
        reader.add_problem(
            field,
            "has a `key` that does not belong to the certificate in `cert`, or is of an unknown kind",
        );
        return None;
    }
    Some(Arc::new(ClientCertConfig {
        cert: cert.to_owned(),
        key: key.to_owned(),
        chain,
        private_key,
    }))
}

fn read_certificates(
    reader: &mut Reader,
    field: &Field<'_>,
    path: &str,
) -> Option<Vec<CertificateDer<'static>>> {
    let text = match expand::read_file(path, FileAccess::Public) {
        Ok((text, _)) => text,
        Err(problem) => {
            reader.add_problem(field, format!("`{path}`: {problem}"));
            return None;
        }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        _ => {
            reader.add_problem(field, format!("`{path}` has no certificate in PEM form"));
            None
        }
    }
}

fn read_key(reader: &mut Reader, field: &Field<'_>, path: &str) -> Option<PrivateKeyDer<'static>> {
    match expand::read_file(path, FileAccess::Secret) {
        Ok((text, warning)) => {
            if let Some(warning) = warning {
                reader.add_warning(field, format!("`{path}`: {warning}"));
            }
            let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok();
            if key.is_none() {
                reader.add_problem(field, format!("`{path}` has no private key in PEM form"));
            }
            key
        }
        Err(problem) => {
            reader.add_problem(field, format!("`{path}`: {problem}"));
            None
        }
    }
}

fn read_reuse(reader: &mut Reader, field: Option<&Field<'_>>) -> Option<ReuseConfig> {
    let base = ReuseConfig::default();
    let Some(field) = field else {
        return Some(base);
    };
    if field.is_word("off") {
        return None;
    }
    let section = reader.section(field, schema::REUSE);
    Some(ReuseConfig {
        requests: reader.setting(&section, "requests", base.requests, unit::parse_small_count),
        age: reader.setting(&section, "age", base.age, unit::parse_interval),
    })
}

impl ProxyConfig {
    /// The setting as in the config, its password redacted.
    pub fn redacted(&self, redacted: &str) -> String {
        let address = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        match &self.credential {
            None => format!("http://{address}"),
            Some((user, _)) => format!("http://{user}:{redacted}@{address}"),
        }
    }
}

impl PartialEq for ProxyConfig {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        let secret = |proxy: &Self| {
            proxy
                .authorization
                .as_ref()
                .map(|secret| secret.expose_secret().to_owned())
        };
        self.url == other.url && secret(self) == secret(other)
    }
}

impl Eq for ProxyConfig {}

impl fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted("<redacted>"))
    }
}

impl PartialEq for ClientCertConfig {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.private_key == other.private_key
    }
}

impl Eq for ClientCertConfig {}

impl fmt::Debug for ClientCertConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertConfig")
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
