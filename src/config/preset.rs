//! Vendors as data: a vendor that speaks a known wire is one row.
//!
//! Base URLs are the vendors' own, from their API references; every field can be overridden in
//! the config.

use crate::model::{CredentialScheme, Prefill, Vendor};

/// The settings that a vendor's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    pub wire: &'static str,
    /// The base URL of `wire`. `None`: every customer has an own address. `{region}` is replaced by
    /// the upstream's `region`.
    pub base_url: Option<&'static str>,
    /// Other wires that the vendor serves, each with its base URL.
    pub also: &'static [(&'static str, &'static str)],
    /// Where the credential goes, if it differs from the wire's default.
    pub credential: Option<CredentialScheme>,
    /// Whether the vendor's answers keep to a protocol that many others speak in forms of their own, so
    /// that clients can read them as they are.
    pub keeps_to_protocol: bool,
    /// Whether the vendor serves Claude, so that it accepts the signatures of the others that do.
    pub serves_claude: bool,
    /// Whether the vendor refuses requests without a key.
    pub needs_key: bool,
    pub vendor: Vendor,
}

/// The preset of that name.
pub fn by_name(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

/// The vendors that accept each other's signatures of reasoning, with their wires; none if `preset` is
/// not among them.
pub fn signature_family(preset: Option<&str>) -> Vec<(&'static str, &'static str)> {
    let family = ALL.iter().filter(|preset| preset.serves_claude);
    let family: Vec<_> = family.map(|preset| (preset.wire, preset.name)).collect();
    match family.iter().any(|(_, name)| Some(*name) == preset) {
        true => family,
        false => Vec::new(),
    }
}

impl Preset {
    /// The base URL at which the vendor serves `wire`, if known.
    pub fn base_url_of(&self, wire: &str) -> Option<&'static str> {
        if wire == self.wire {
            return self.base_url;
        }
        self.also
            .iter()
            .find(|(name, _)| *name == wire)
            .map(|(_, base_url)| *base_url)
    }
}

/// A public service that is not known to continue an answer that has begun.
const HOSTED: Vendor = Vendor {
    prefill: Prefill::Never,
    ..Vendor::PLAIN
};

/// Continues from a last message of the assistant: <https://console.groq.com/docs/prefilling>,
/// <https://openrouter.ai/docs/api-reference/overview>.
const CONTINUES: Vendor = Vendor::PLAIN;

/// <https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>; SGLang does the same.
const CONTINUES_WITH_FLAG: Vendor = Vendor {
    prefill: Prefill::Flagged,
    ..Vendor::PLAIN
};

/// <https://platform.openai.com/docs/api-reference/chat/create>: `max_tokens` is deprecated, and
/// reasoning models refuse it.
const OPENAI: Vendor = Vendor {
    max_tokens_field: "max_completion_tokens",
    ..HOSTED
};

/// <https://docs.mistral.ai/api/endpoint/chat>: refuses every field that it does not know,
/// including OpenAI's `stream_options`, `seed` and `user`. Sends usage without being asked. An id of a
/// call "must be a-z, A-Z, 0-9, with a length of 9"; "Unexpected role 'user' after role 'tool'".
const MISTRAL: Vendor = Vendor {
    stream_options: false,
    seed_field: "random_seed",
    user: false,
    call_id_length: Some(9),
    user_after_results: false,
    prefill: Prefill::Prefix,
    ..Vendor::PLAIN
};

/// <https://api-docs.deepseek.com/guides/thinking_mode>,
/// <https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model>: tool calls of a thinking
/// model are accepted back only with the reasoning before them.
const REASONING_WITH_CALLS: Vendor = Vendor {
    reasoning_beside_calls: true,
    ..HOSTED
};

/// Is not known to accept `stream_options`. Sends usage without being asked.
const SENDS_USAGE_UNASKED: Vendor = Vendor {
    stream_options: false,
    ..HOSTED
};

/// A vendor's public service that speaks OpenAI Chat and needs a key.
const fn hosted(name: &'static str, base_url: &'static str) -> Preset {
    Preset {
        name,
        wire: "openai-chat",
        base_url: Some(base_url),
        also: &[],
        credential: None,
        keeps_to_protocol: false,
        serves_claude: false,
        needs_key: true,
        vendor: HOSTED,
    }
}

/// A self-hosted server at its default port that speaks OpenAI Chat and needs no key by default.
const fn local(name: &'static str, base_url: &'static str) -> Preset {
    Preset {
        needs_key: false,
        vendor: Vendor::PLAIN,
        ..hosted(name, base_url)
    }
}

/// A vendor's public service that speaks another wire than OpenAI Chat.
const fn on_wire(name: &'static str, wire: &'static str, base_url: &'static str) -> Preset {
    Preset {
        wire,
        ..hosted(name, base_url)
    }
}

/// Every preset.
pub static ALL: &[Preset] = &[
    Preset {
        also: &[("openai-responses", "https://api.openai.com/v1")],
        keeps_to_protocol: true,
        vendor: OPENAI,
        ..hosted("openai", "https://api.openai.com/v1")
    },
    Preset {
        serves_claude: true,
        ..on_wire(
            "anthropic",
            "anthropic-messages",
            "https://api.anthropic.com",
        )
    },
    on_wire(
        "gemini",
        "gemini",
        "https://generativelanguage.googleapis.com",
    ),
    // Credentials from the environment are accepted instead of an API key.
    Preset {
        serves_claude: true,
        ..on_wire(
            "bedrock",
            "bedrock-converse",
            "https://bedrock-runtime.{region}.amazonaws.com",
        )
    },
    on_wire("cohere", "cohere-chat", "https://api.cohere.com"),
    Preset {
        needs_key: false,
        also: &[("openai-chat", "http://127.0.0.1:11434/v1")],
        ..on_wire("ollama", "ollama-chat", "http://127.0.0.1:11434")
    },
    // base_url: https://{resource}.openai.azure.com/openai/v1
    Preset {
        base_url: None,
        credential: Some(CredentialScheme::Header("api-key")),
        keeps_to_protocol: true,
        vendor: OPENAI,
        ..hosted("azure", "")
    },
    Preset {
        vendor: MISTRAL,
        ..hosted("mistral", "https://api.mistral.ai/v1")
    },
    Preset {
        vendor: CONTINUES,
        ..hosted("groq", "https://api.groq.com/openai/v1")
    },
    Preset {
        also: &[
            ("openai-responses", "https://api.deepseek.com"),
            ("anthropic-messages", "https://api.deepseek.com/anthropic"),
        ],
        vendor: REASONING_WITH_CALLS,
        ..hosted("deepseek", "https://api.deepseek.com")
    },
    Preset {
        also: &[("openai-responses", "https://api.x.ai/v1")],
        ..hosted("xai", "https://api.x.ai/v1")
    },
    Preset {
        vendor: CONTINUES,
        ..hosted("openrouter", "https://openrouter.ai/api/v1")
    },
    hosted("together", "https://api.together.xyz/v1"),
    hosted("fireworks", "https://api.fireworks.ai/inference/v1"),
    Preset {
        vendor: SENDS_USAGE_UNASKED,
        ..hosted("perplexity", "https://api.perplexity.ai")
    },
    hosted("cerebras", "https://api.cerebras.ai/v1"),
    hosted("nvidia", "https://integrate.api.nvidia.com/v1"),
    hosted("huggingface", "https://router.huggingface.co/v1"),
    hosted("sambanova", "https://api.sambanova.ai/v1"),
    hosted("deepinfra", "https://api.deepinfra.com/v1/openai"),
    hosted("hyperbolic", "https://api.hyperbolic.xyz/v1"),
    hosted("baseten", "https://inference.baseten.co/v1"),
    hosted("scaleway", "https://api.scaleway.ai/v1"),
    hosted("siliconflow", "https://api.siliconflow.com/v1"),
    hosted("github", "https://models.github.ai/inference"),
    Preset {
        also: &[("anthropic-messages", "https://api.moonshot.ai/anthropic")],
        vendor: REASONING_WITH_CALLS,
        ..hosted("moonshot", "https://api.moonshot.ai/v1")
    },
    Preset {
        also: &[("anthropic-messages", "https://api.minimax.io/anthropic")],
        ..hosted("minimax", "https://api.minimax.io/v1")
    },
    Preset {
        also: &[("anthropic-messages", "https://api.z.ai/api/anthropic")],
        ..hosted("zai", "https://api.z.ai/api/paas/v4")
    },
    hosted(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ),
    Preset {
        vendor: CONTINUES_WITH_FLAG,
        ..local("vllm", "http://127.0.0.1:8000/v1")
    },
    local("llamacpp", "http://127.0.0.1:8080/v1"),
    local("lmstudio", "http://127.0.0.1:1234/v1"),
    Preset {
        vendor: CONTINUES_WITH_FLAG,
        ..local("sglang", "http://127.0.0.1:30000/v1")
    },
    local("localai", "http://127.0.0.1:8080/v1"),
    local("litellm", "http://127.0.0.1:4000/v1"),
];
