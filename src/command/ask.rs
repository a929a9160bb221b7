//! `sluicegate ask`: sends one prompt to a running gateway and prints the answer.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{Event, EventStream};
use futures_core::Stream as _;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::BodyDataStream;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::client::http_client;
use super::{FAILURE, SUCCESS};

/// Sends a prompt to a running gateway and prints the answer as it arrives. Exits with 0 if the
/// answer is complete, else with 1.
#[derive(Debug, Clone, clap::Args)]
pub struct Ask {
    /// The model's name in the gateway's config
    pub model: String,

    /// The prompt
    pub prompt: String,

    /// The gateway's URL
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "SLUICEGATE_URL"
    )]
    pub url: String,

    /// The API key
    #[arg(
        long,
        value_name = "KEY",
        env = "SLUICEGATE_KEY",
        hide_env_values = true
    )]
    pub key: Option<SecretString>,
}

/// How long connecting may take.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Ask {
    pub async fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let Err(problem) = self.ask(out).await else {
            return SUCCESS;
        };
        // A failed write cannot be reported anywhere.
        let _ = writeln!(err, "{problem}");
        FAILURE
    }

    async fn ask(&self, out: &mut dyn Write) -> Result<(), String> {
        let failed = |error: reqwest::Error| format!("the gateway did not answer: {error}");
        let url = format!("{}/v1/streams", self.url.trim_end_matches('/'));
        let body = json!({"model": self.model, "prompt": self.prompt});
        let client = http_client(TIMEOUT).map_err(failed)?;
        let mut request = client.post(url).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.body(body.to_string()).send().await;
        let response = response.map_err(failed)?;
        if response.status() != StatusCode::OK {
            let refusal = response.bytes().await.map_err(failed)?;
            return Err(error_text(
                &serde_json::from_slice(&refusal).unwrap_or_default(),
            ));
        }
        let body = reqwest::Body::from(response);
        let mut events = EventStream::new(BodyDataStream::new(body));
        while let Some(event) = poll_fn(|context| Pin::new(&mut events).poll_next(context)).await {
            let event = event
                .map_err(|_| "the connection to the gateway broke before the end of the answer")?;
            if print_event(&event, out)? {
                return Ok(());
            }
        }
        Err("the gateway closed the answer without a terminal event".to_owned())
    }
}

/// Prints an event's text. `true` is the end of a complete answer.
///
/// # Errors
/// Why the answer is incomplete, or that it cannot be printed.
fn print_event(event: &Event, out: &mut dyn Write) -> Result<bool, String> {
    let write_error = |error: io::Error| format!("the answer cannot be written: {error}");
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    match event.event.as_str() {
        "token" => {
            let text = data["text"].as_str().unwrap_or_default();
            write!(out, "{text}").map_err(write_error)?;
            out.flush().map_err(write_error)?;
            Ok(false)
        }
        "complete" => writeln!(out).map(|()| true).map_err(write_error),
        "error" => {
            writeln!(out).map_err(write_error)?;
            Err(error_text(&data))
        }
        _ => Ok(false),
    }
}

/// An error as code and message.
fn error_text(data: &Value) -> String {
    let word = |field: &str| data["error"][field].as_str().unwrap_or("unknown");
    format!("{}: {}", word("code"), word("message"))
}
