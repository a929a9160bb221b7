//! What a stream reports at its end.

use std::time::Duration;

use crate::model::Usage;

/// How the stream of an answer ended.
#[derive(Debug, Clone, Default)]
pub struct StreamFacts {
    /// The beginning of its id: enough to find the stream, too little to read it.
    pub stream: String,
    pub outcome: &'static str,
    pub finish: Option<&'static str>,
    pub usage: Option<Usage>,
    pub first_token: Option<Duration>,
    /// The beginning of the answer's text, if traces have contents.
    pub text: Option<String>,
    /// How many bytes of the answer's stream were written for the client.
    pub bytes: u64,
}
