//! A client's connection: TCP, or TLS over it.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How to connect.
pub struct Connector {
    target: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// With TLS where the file of a certificate is named; the server's must be this one.
    ///
    /// # Errors
    /// If the certificate cannot be read.
    pub fn new(target: SocketAddr, certificate: &str) -> Result<Self, Box<dyn Error>> {
        let tls = if certificate.is_empty() {
            None
        } else {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(certificate)?)?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Some(Arc::new(config))
        };
        Ok(Self { target, tls })
    }

    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection that does not block. The handshake does.
    ///
    /// # Errors
    /// If the server is not there, or the handshake fails.
    pub fn connect(&self) -> io::Result<Transport> {
        let mut stream = TcpStream::connect_timeout(&self.target, CONNECT)?;
        stream.set_nodelay(true)?;
        let tls = match &self.tls {
            None => None,
            Some(config) => {
                let name = ServerName::IpAddress(self.target.ip().into());
                let tls = ClientConnection::new(Arc::clone(config), name);
                let mut tls = Box::new(tls.map_err(io::Error::other)?);
                while tls.is_handshaking() {
                    tls.complete_io(&mut stream)?;
                }
                Some(tls)
            }
        };
        stream.set_nonblocking(true)?;
        Ok(Transport { stream, tls })
    }
}

pub struct Transport {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Transport {
    /// Reads what has come. Over TLS, a piece is smaller than `space`, so that nothing is left over of
    /// which epoll does not know.
    ///
    /// # Errors
    /// As a socket's.
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.stream.read(space);
        };
        tls.read_tls(&mut self.stream)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        tls.reader().read(space)
    }

    /// # Errors
    /// As a socket's.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.stream.write_all(bytes);
        };
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
