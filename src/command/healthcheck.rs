//! `sluicegate healthcheck`: is the gateway there ready? For a container without a shell.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::client::http_client;
use super::{FAILURE, SUCCESS};

/// Asks a running gateway whether it is ready: exit status 0 if it is, else 1.
#[derive(Debug, Clone, clap::Args)]
pub struct Healthcheck {
    /// The gateway's admin address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
}

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

impl Healthcheck {
    pub async fn run(&self, err: &mut dyn Write) -> u8 {
        let url = format!("http://{}/readyz", self.admin);
        let asked = async {
            let response = http_client(TIMEOUT)?.get(url).timeout(TIMEOUT).send();
            response.await?.error_for_status()
        };
        match asked.await {
            Ok(_) => SUCCESS,
            Err(error) => {
                // Nobody is left to tell if this cannot be written.
                let _ = writeln!(err, "not ready: {error}");
                FAILURE
            }
        }
    }
}
