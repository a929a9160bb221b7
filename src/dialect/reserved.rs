//! Members of an upstream's request that only the gateway may set, because it decides or counts
//! what they say: the model, the prompt, bounds on tokens, the number of answers, the report of
//! usage. Clients could otherwise use them to get around a key's limits and its list of models.

use serde_json::{Map, Value};

use crate::model::{Error, Request};

/// Why a member is reserved, as a refusal says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Model,
    Stream,
    Prompt,
    TokenBound,
    AnswerCount,
    UsageReport,
    Routing,
}

/// Names as [`canonical`] writes them, so that `max_output_tokens` and `maxOutputTokens` are one.
const RESERVED: &[(Reason, &[&str])] = &[
    (Reason::Model, &["model"]),
    (Reason::Stream, &["stream"]),
    (
        Reason::Prompt,
        &[
            "chathistory",
            "contents",
            "input",
            "inputs",
            "instructions",
            "message",
            "messages",
            "preamble",
            "prompt",
            "system",
            "systeminstruction",
        ],
    ),
    (
        Reason::TokenBound,
        &[
            "maxcompletiontokens",
            "maxgenlen",
            "maxlength",
            "maxnewtokens",
            "maxoutputtokens",
            "maxtokens",
            "maxtokenstosample",
            "numpredict",
        ],
    ),
    (
        Reason::AnswerCount,
        &[
            "bestof",
            "candidatecount",
            "n",
            "numgenerations",
            "numreturnsequences",
        ],
    ),
    (Reason::UsageReport, &["includeusage", "streamoptions"]),
    (
        Reason::Routing,
        &["fallbacks", "models", "preset", "provider", "route"],
    ),
];

/// Objects that the wires write bounds into: a value of another type would replace them.
const SETTINGS: [&str; 3] = ["generationconfig", "inferenceconfig", "options"];

/// Objects whose members have names that the client or its tools chose, or that bound nothing but a
/// part of the answer.
const OPAQUE: [&str; 9] = [
    "jsonschema",
    "metadata",
    "outputconfig",
    "reasoning",
    "responseformat",
    "schema",
    "text",
    "toolchoice",
    "tools",
];

/// Checks the native dialect's `extra`, which is merged into the upstream's body.
///
/// # Errors
/// [`crate::model::ErrorCode::InvalidRequest`], naming the member.
pub(super) fn check_extra(extra: &Map<String, Value>) -> Result<(), Error> {
    check(extra, "extra.", &[])
}

/// Checks members of another dialect that an upstream of its protocol gets as they are, except for
/// those in `own`, which the dialect parses.
///
/// # Errors
/// As [`check_extra`].
pub(super) fn check_members(members: &Map<String, Value>, own: &[&str]) -> Result<(), Error> {
    // Which upstream answers is for `check_routing`, which knows whose request it is.
    let routing = RESERVED
        .iter()
        .filter(|(reason, _)| *reason == Reason::Routing);
    let allowed = routing.flat_map(|(_, names)| names.iter());
    let allowed: Vec<&str> = own.iter().chain(allowed).copied().collect();
    check(members, "", &allowed)
}

/// Checks that the upstream is not told to choose another model or provider, which a key with a
/// list of models must not do.
///
/// # Errors
/// As [`check_extra`].
pub fn check_routing(request: &Request) -> Result<(), Error> {
    let native = request.native_fields.as_ref();
    let members = native.iter().flat_map(|native| &native.fields);
    check_routing_members(members.map(|(name, value)| (name.as_str(), value.is_null())))
}

/// As [`check_routing`], for members by name, each with whether it is null.
///
/// # Errors
/// As [`check_extra`].
pub fn check_routing_members<'a>(
    members: impl Iterator<Item = (&'a str, bool)>,
) -> Result<(), Error> {
    for (name, is_null) in members {
        if !is_null && reason_of(&canonical(name)) == Some(Reason::Routing) {
            return Err(refusal(name, Reason::Routing));
        }
    }
    Ok(())
}

fn check(members: &Map<String, Value>, place: &str, allowed: &[&str]) -> Result<(), Error> {
    for (name, value) in members {
        // In `extra` a null would replace what the gateway wrote; elsewhere it says nothing.
        let is_unset = value.is_null() && place.is_empty();
        if is_unset || allowed.contains(&name.as_str()) {
            continue;
        }
        let canonical = canonical(name);
        let field = format!("{place}{name}");
        if let Some(reason) = reason_of(&canonical) {
            return Err(refusal(&field, reason));
        }
        check_nested(value, &canonical, &field)?;
    }
    Ok(())
}

/// Checks an object within the body: bounds stand in several vendors' objects of settings.
fn check_nested(value: &Value, canonical_name: &str, field: &str) -> Result<(), Error> {
    if OPAQUE.contains(&canonical_name) {
        return Ok(());
    }
    let Value::Object(members) = value else {
        return match SETTINGS.contains(&canonical_name) {
            true => Err(Error::invalid(field, "must be an object")),
            false => Ok(()),
        };
    };
    for (name, value) in members {
        let canonical = canonical(name);
        let field = format!("{field}.{name}");
        match reason_of(&canonical) {
            Some(reason @ (Reason::TokenBound | Reason::AnswerCount | Reason::UsageReport)) => {
                return Err(refusal(&field, reason));
            }
            _ => check_nested(value, &canonical, &field)?,
        }
    }
    Ok(())
}

/// Without case and separators.
fn canonical(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

fn reason_of(canonical: &str) -> Option<Reason> {
    let found = RESERVED
        .iter()
        .find(|(_, names)| names.contains(&canonical));
    found.map(|(reason, _)| *reason)
}

fn refusal(field: &str, reason: Reason) -> Error {
    let why = match reason {
        Reason::Model => "the route chooses the model",
        Reason::Stream => "the gateway always streams",
        Reason::Prompt => "the prompt goes into the fields of this API, where it is counted",
        Reason::TokenBound => "use this API's own field for the bound on tokens",
        Reason::AnswerCount => "there is one answer per stream",
        Reason::UsageReport => "the gateway always asks for the usage",
        Reason::Routing => "the gateway's configuration chooses models and providers",
    };
    Error::invalid(field, format_args!("cannot be set: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn extra_cannot_set_what_the_gateway_decides_or_counts() {
        for (extra, field) in [
            (json!({"messages": []}), "extra.messages"),
            (json!({"contents": []}), "extra.contents"),
            (json!({"systemInstruction": {}}), "extra.systemInstruction"),
            (json!({"max_tokens": 9}), "extra.max_tokens"),
            (json!({"max_tokens": null}), "extra.max_tokens"),
            (json!({"maxOutputTokens": 9}), "extra.maxOutputTokens"),
            (
                json!({"generationConfig": {"topK": 1, "maxOutputTokens": 9}}),
                "extra.generationConfig.maxOutputTokens",
            ),
            (
                json!({"generation_config": {"candidate_count": 9}}),
                "extra.generation_config.candidate_count",
            ),
            (json!({"generationConfig": null}), "extra.generationConfig"),
            (
                json!({"inferenceConfig": {"maxTokens": 9}}),
                "extra.inferenceConfig.maxTokens",
            ),
            (
                json!({"additionalModelRequestFields": {"max_tokens": 9}}),
                "extra.additionalModelRequestFields.max_tokens",
            ),
            (
                json!({"options": {"num_predict": -1}}),
                "extra.options.num_predict",
            ),
            (
                json!({"stream_options": {"include_usage": false}}),
                "extra.stream_options",
            ),
            (json!({"models": ["other"]}), "extra.models"),
            (json!({"route": "fallback"}), "extra.route"),
            (json!({"provider": {"only": []}}), "extra.provider"),
            (json!({"fallbacks": []}), "extra.fallbacks"),
            (json!({"preset": "p"}), "extra.preset"),
            (json!({"model": "other"}), "extra.model"),
            (json!({"stream": false}), "extra.stream"),
            (json!({"n": 2}), "extra.n"),
            (json!({"best_of": 2}), "extra.best_of"),
        ] {
            let error = check_extra(&object(extra)).unwrap_err();
            let message = error.message();
            assert!(message.starts_with(&format!("{field}: ")), "{message}");
        }
    }

    #[test]
    fn extra_may_set_everything_else() {
        let extra = json!({
            "top_k": 3,
            "logit_bias": {"50256": -100},
            "generationConfig": {"topK": 3},
            "options": {"num_ctx": 4096},
            "metadata": {"n": 1, "max_tokens": "x"},
            "reasoning": {"max_tokens": 512},
            "response_format": {"schema": {"properties": {"n": {}}}},
            "tools": [{"name": "t", "parameters": {"properties": {"max_tokens": {}}}}],
        });
        assert_eq!(check_extra(&object(extra)), Ok(()));
    }

    #[test]
    fn members_of_a_dialect_are_its_own() {
        let body = object(json!({"model": "m", "max_tokens": 1, "messages": [], "provider": {}}));
        let own = ["model", "max_tokens", "messages"];
        assert_eq!(check_members(&body, &own), Ok(()));
        let nulls = object(json!({"prompt": null, "max_output_tokens": null}));
        assert_eq!(check_members(&nulls, &own), Ok(()));
        let error = check_members(&body, &["model", "messages"]).unwrap_err();
        assert!(error.message().starts_with("max_tokens: "));
    }
}
