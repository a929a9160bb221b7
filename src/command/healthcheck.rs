//! `sluicegate healthcheck`: asks whether a gateway is ready, for containers without a shell.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::client::http_client;
use super::{FAILURE, SUCCESS};
use crate::config::parse_address;

/// Asks a running gateway whether it is ready. Exits with 0 if it is, else with 1.
#[derive(Debug, Clone, clap::Args)]
pub struct Healthcheck {
    /// The gateway's admin address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = parse_address)]
    pub admin: SocketAddr,
}

/// How long the answer may take.
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
                // A failed write cannot be reported anywhere.
                let _ = writeln!(err, "not ready: {error}");
                FAILURE
            }
        }
    }
}
