//! `tls`: the certificate and the key of the client listener.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::read::{Field, Reader, Section};
use super::schema;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// The protocols that clients may choose, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS on the client listener.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// PEM files: the certificate with its chain, and its private key.
    pub cert: PathBuf,
    pub key: PathBuf,
    pub server: Arc<ServerConfig>,
    /// Of the files' contents when they were loaded.
    pub digest: [u8; 32],
}

impl TlsConfig {
    /// The digest of what the files hold now; `None` if one cannot be read.
    pub fn current_digest(&self) -> Option<[u8; 32]> {
        let (cert, key) = (read_file(&self.cert).ok()?, read_file(&self.key).ok()?);
        Some(digest(&cert, &key))
    }
}

/// Reads `tls` and the files that it names.
pub fn read(reader: &mut Reader, field: Option<&Field<'_>>) -> Option<TlsConfig> {
    let section = reader.section(field?, schema::TLS);
    let cert = read_path(reader, &section, "cert");
    let key = read_path(reader, &section, "key");
    let ((cert_path, cert_field), (key_path, key_field)) = (cert?, key?);
    let cert = read_file(&cert_path).map_err(|error| format!("cannot be read: {error}"));
    let cert = cert.and_then(|bytes| Ok((parse_certificates(&bytes)?, bytes)));
    let key = read_file(&key_path).map_err(|error| format!("cannot be read: {error}"));
    let key = key.and_then(|bytes| Ok((parse_key(&bytes)?, bytes)));
    for (problem, field) in [
        (cert.as_ref().err(), cert_field),
        (key.as_ref().err(), key_field),
    ] {
        if let Some(problem) = problem {
            reader.add_problem(field, problem);
        }
    }
    let ((certificates, cert_bytes), (key, key_bytes)) = (cert.ok()?, key.ok()?);
    match server_config(certificates, key) {
        Ok(server) => Some(TlsConfig {
            cert: cert_path,
            key: key_path,
            server: Arc::new(server),
            digest: digest(&cert_bytes, &key_bytes),
        }),
        Err(error) => {
            let problem = format!("cannot be used with the certificate in `tls.cert`: {error}");
            reader.add_problem(key_field, problem);
            None
        }
    }
}

fn read_path<'a, 'b>(
    reader: &mut Reader,
    section: &'b Section<'a>,
    key: &str,
) -> Option<(PathBuf, &'b Field<'a>)> {
    let Some(field) = section.get(key) else {
        let missing = section.field.missing(key);
        reader.add_problem(&missing, "is missing: name a PEM file");
        return None;
    };
    Some((PathBuf::from(reader.text(field)?), field))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err("holds no certificate in PEM form".to_owned())
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is not a PEM file: {error}")),
    }
}

fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("holds no private key in PEM form: {error}"))
}

fn server_config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(server)
}

fn digest(cert: &[u8], key: &[u8]) -> [u8; 32] {
    let each = [cert, key].map(Sha256::digest);
    Sha256::digest(each.concat()).into()
}
