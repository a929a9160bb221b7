//! How a vendor differs from the protocol that it speaks. Data, so that a vendor is one row.

use super::FinishReason;

/// A vendor's deviations from its wire's own documentation. The default is no deviation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    /// The request field that bounds the output (`openai-chat`): `max_tokens` almost everywhere,
    /// `max_completion_tokens` at OpenAI itself.
    pub max_tokens_field: &'static str,
    /// Whether `stream_options: {"include_usage": true}` may be sent. Some vendors reject fields
    /// that they do not know and send usage without being asked.
    pub stream_options: bool,
    /// The request field for `seed` (`openai-chat`): `random_seed` at Mistral.
    pub seed_field: &'static str,
    /// Whether `user` may be sent (`openai-chat`); it is a hint.
    pub user: bool,
    /// The only length of a call's id that it accepts, in letters and digits (`openai-chat`).
    pub call_id_length: Option<usize>,
    /// Whether a message of the user may follow the results of tools (`openai-chat`).
    pub user_after_results: bool,
    /// Whether an earlier message with tool calls is sent with its reasoning (`openai-chat`): some
    /// vendors refuse such a message without.
    pub reasoning_beside_calls: bool,
    /// How a request asks it to continue an answer that has begun (`openai-chat`).
    pub prefill: Prefill,
    /// Words for the end of an answer by which this vendor means something else than others do.
    pub finish_words: &'static [(&'static str, FinishReason)],
    /// Whether reasoning comes as `<think>…</think>` inside the text and must be separated from it.
    pub think_tags: bool,
}

/// How a request asks the model to continue its last message, which is the assistant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefill {
    /// It cannot: the model would begin another answer.
    Never,
    /// By ending in that message.
    Message,
    /// With `continue_final_message: true` and `add_generation_prompt: false`.
    Flagged,
    /// With `prefix: true` in the message.
    Prefix,
}

impl Vendor {
    /// No deviation.
    pub const PLAIN: Self = Self {
        max_tokens_field: "max_tokens",
        stream_options: true,
        seed_field: "seed",
        user: true,
        call_id_length: None,
        user_after_results: true,
        reasoning_beside_calls: false,
        prefill: Prefill::Message,
        finish_words: &[],
        think_tags: false,
    };
}

impl Default for Vendor {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// Where a credential goes in a request to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialScheme {
    /// `authorization: Bearer …`
    Bearer,
    /// A header of its own, such as `x-api-key`.
    Header(&'static str),
    /// Requests are signed for this AWS service; an API key, where there is one instead, goes as
    /// [`CredentialScheme::Bearer`].
    SigV4 { service: &'static str },
}
