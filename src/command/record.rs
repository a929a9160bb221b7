//! `sluicegate record`: saves one exchange with a real upstream as a fixture.

use std::fs;
use std::future::poll_fn;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::time::Instant;

use secrecy::SecretString;
use serde_json::json;

use super::serve::load;
use super::{FAILURE, NO_CONFIG, SUCCESS, USAGE_ERROR, config_path};
use crate::app::{build_upstream, connector};
use crate::config::Overrides;
use crate::dialect::NATIVE;
use crate::fixture::Exchange;
use crate::framing::Framing;
use crate::model::{Error, Request};
use crate::upstream::exchange::system_certificates;
use crate::upstream::{Trace, Upstream, mask};
use crate::wire::Outgoing;

/// Sends one request to a real upstream and saves the exchange as a fixture for `replay`: the
/// answer byte for byte with the timing of its chunks, without credentials and account ids.
#[derive(Debug, Clone, clap::Args)]
pub struct Record {
    /// The upstream's name in the config
    #[arg(long, value_name = "NAME")]
    pub upstream: String,

    /// The config file; without it, the file that SLUICEGATE_CONFIG names
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The folder for fixtures; the exchange is saved as DIR/<wire>/<case>/
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// The file of the request, `-` for stdin: a body for POST /v1/streams whose model is the
    /// upstream's name for it
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,

    /// The name of the case; the default is the model's name
    #[arg(long, value_name = "CASE")]
    pub name: Option<String>,
}

/// The largest answer that is recorded, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Why nothing was recorded: an exit status and a message.
type RecordError = (u8, String);

impl Record {
    pub async fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let written = match self.record().await {
            Ok(words) => writeln!(out, "{words}").map(|()| SUCCESS),
            Err((status, words)) => writeln!(err, "{words}").map(|()| status),
        };
        written.unwrap_or(FAILURE)
    }

    fn read_request(&self) -> io::Result<Vec<u8>> {
        if self.request.as_os_str() != "-" {
            return fs::read(&self.request);
        }
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        Ok(text)
    }

    async fn record(&self) -> Result<String, RecordError> {
        let wrong = |words: String| (USAGE_ERROR, words);
        let failed = |words: String| (FAILURE, words);
        let path = config_path(self.config.as_ref()).ok_or_else(|| wrong(NO_CONFIG.to_owned()))?;
        let loaded =
            load(&path, &Overrides::default()).map_err(|error| wrong(error.to_string()))?;
        let config = loaded.config;
        let Some(configured) = config.upstream(&self.upstream) else {
            let words = format!(
                "the config has no upstream `{}`; --upstream must name one of `upstreams`",
                self.upstream
            );
            return Err(wrong(words));
        };
        let certificates = system_certificates().map_err(|e| failed(e.to_string()))?;
        let connector = connector(configured, &certificates, config.timeouts.connect)
            .map_err(|e| failed(e.to_string()))?;
        let upstream = build_upstream(configured, &connector, config.limits.frame);
        let shown = self.request.display();
        let text = self
            .read_request()
            .map_err(|error| wrong(format!("{shown}: {error}")))?;
        let request = NATIVE
            .parse(&text.clone().into())
            .map_err(|error| wrong(format!("{shown}: {}", error.message())))?;
        let outgoing = encode_request(&upstream, &request)
            .map_err(|error| wrong(format!("{shown}: {}", error.message())))?;
        // The saved request is the one that a masked request encodes to: an account id may be in
        // the model's name, and from there in the path.
        let asked = mask(&String::from_utf8_lossy(&text), &upstream.secrets());
        let nameless = NATIVE
            .parse(&asked.clone().into())
            .and_then(|request| Ok((encode_request(&upstream, &request)?, request)));
        let (saved, request) =
            nameless.map_err(|error| wrong(format!("{shown}: {}", error.message())))?;
        let name = self.name.as_deref().unwrap_or(&request.model);
        let mut exchange = Exchange {
            wire: upstream.wire.name(),
            name: case_name(name),
            // It was parsed above, so it is JSON.
            request: serde_json::from_str(&asked).unwrap_or_default(),
            outgoing: json!({"path": saved.path, "body": saved.body}),
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: Vec::new(),
            chunks: Vec::new(),
        };
        let broke = receive(&upstream, outgoing, &mut exchange)
            .await
            .map_err(failed)?;
        let saved = exchange
            .save(&self.out)
            .map_err(|error| failed(format!("cannot save: {error}")))?;
        Ok(format!(
            "{}: status {}, {} bytes in {} chunks{}",
            saved.display(),
            exchange.status.as_u16(),
            exchange.body.len(),
            exchange.chunks.len(),
            if broke {
                ", then the connection broke"
            } else {
                ""
            },
        ))
    }
}

/// Adds the answer to the exchange. Returns whether the body broke off.
async fn receive(
    upstream: &Upstream,
    outgoing: Outgoing,
    exchange: &mut Exchange,
) -> Result<bool, String> {
    let mut last = Instant::now();
    let response = upstream.send(outgoing, &Trace::default()).await;
    let mut response = response.map_err(|error| error.explanation())?;
    exchange.status = response.status;
    exchange.headers.clone_from(&response.headers);
    let broke = loop {
        let read = poll_fn(|context| {
            response.body.poll_read(context, |bytes| {
                let now = Instant::now();
                exchange.chunks.push((now - last, bytes.len()));
                exchange.body.extend_from_slice(bytes);
                last = now;
            })
        });
        match read.await {
            Ok(true) => break false,
            Ok(false) => {}
            Err(_) => break true,
        }
        if exchange.body.len() > MAX_ANSWER_BYTES {
            return Err(format!(
                "the answer is larger than {MAX_ANSWER_BYTES} bytes"
            ));
        }
    };
    // Frames with checksums stay as they are; no vendor puts a key in them.
    let binary = upstream.wire.framing() == Framing::AwsEventStream && response.status.is_success();
    if !binary {
        exchange.body = mask_bytes(&exchange.body, &upstream.secrets());
    }
    Ok(broke)
}

fn encode_request(upstream: &Upstream, request: &Request) -> Result<Outgoing, Error> {
    upstream
        .wire
        .request(request, &request.model, &upstream.vendor)
}

/// [`mask`] for bytes that may not be UTF-8.
fn mask_bytes(body: &[u8], secrets: &[SecretString]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        out.extend_from_slice(mask(chunk.valid(), secrets).as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// Turns a name into a folder's name: model names contain slashes, colons and more.
fn case_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-._".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect::<String>()
        .trim_matches('.')
        .to_owned()
}
