//! `sluicegate connect`: what to set so that a client uses a gateway.

use std::io::{self, Write};

use url::Url;

use super::{FAILURE, SUCCESS, USAGE_ERROR};

/// Prints what to set so that a client uses this gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Connect {
    /// The client
    pub client: Client,
    /// The gateway's address
    #[arg(long, default_value = "http://localhost:8080")]
    pub url: Url,
    /// The API key of the client; a gateway without keys accepts any
    #[arg(long, default_value = "YOUR_KEY")]
    pub key: String,
    /// A model of the gateway
    #[arg(long, default_value = "fast")]
    pub model: String,
}

/// A client that the command knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    ClaudeCode,
    Codex,
    Opencode,
    Aider,
    OpenaiSdk,
    AnthropicSdk,
    AiSdk,
    Langchain,
    OpenWebui,
    Curl,
}

impl Client {
    /// What to set, with `{url}`, `{key}` and `{model}`.
    fn text(self) -> &'static str {
        match self {
            Self::ClaudeCode => include_str!("claude-code.txt"),
            Self::Codex => include_str!("codex.txt"),
            Self::Opencode => include_str!("opencode.txt"),
            Self::Aider => include_str!("aider.txt"),
            Self::OpenaiSdk => include_str!("openai-sdk.txt"),
            Self::AnthropicSdk => include_str!("anthropic-sdk.txt"),
            Self::AiSdk => include_str!("ai-sdk.txt"),
            Self::Langchain => include_str!("langchain.txt"),
            Self::OpenWebui => include_str!("open-webui.txt"),
            Self::Curl => include_str!("curl.txt"),
        }
    }
}

impl Connect {
    pub fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let printed = match self.problem() {
            Some(problem) => writeln!(err, "{problem}").map(|()| USAGE_ERROR),
            None => out.write_all(self.text().as_bytes()).map(|()| SUCCESS),
        };
        match printed {
            Ok(status) => status,
            // A closed pipe, such as that of `head`, is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
            Err(_) => FAILURE,
        }
    }

    /// The values stand in quotes of shells, JSON, TOML and programs, where these characters would mean
    /// something.
    fn problem(&self) -> Option<String> {
        let is_plain = |c: char| c.is_ascii_graphic() && !"\"'\\$`{}".contains(c);
        let values = [
            ("--url", self.url.as_str()),
            ("--key", &self.key),
            ("--model", &self.model),
        ];
        for (name, value) in values {
            if value.is_empty() || !value.chars().all(is_plain) {
                return Some(format!(
                    "{name}: must have ASCII characters without spaces, quotes, braces, `$`, backticks and backslashes"
                ));
            }
        }
        let is_address = matches!(self.url.scheme(), "http" | "https") && self.url.has_host();
        let problem = "--url: must be the gateway's address, such as http://localhost:8080";
        (!is_address).then(|| problem.to_owned())
    }

    fn text(&self) -> String {
        // SDKs differ in whether their base URL has the version, and the texts add it where it belongs.
        let url = self.url.as_str().trim_end_matches('/');
        let url = url.strip_suffix("/v1").unwrap_or(url);
        let text = self.client.text().replace("{url}", url);
        text.replace("{key}", &self.key)
            .replace("{model}", &self.model)
    }
}
