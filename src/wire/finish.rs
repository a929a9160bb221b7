//! The words by which vendors say why an answer ended, for all wires.

use crate::model::{Error, ErrorCode, FinishReason, Vendor};

/// Words in lower case with `_` between them. A wire or a vendor that means something else by one of
/// them looks in its own table first.
const WORDS: &[(&str, FinishReason)] = &[
    ("stop", FinishReason::Stop),
    ("end", FinishReason::Stop),
    ("eos", FinishReason::Stop),
    ("eos_token", FinishReason::Stop),
    ("end_turn", FinishReason::Stop),
    ("complete", FinishReason::Stop),
    ("completed", FinishReason::Stop),
    ("finished", FinishReason::Stop),
    ("stop_sequence", FinishReason::Stop),
    ("stop_token", FinishReason::Stop),
    ("length", FinishReason::Length),
    ("max_length", FinishReason::Length),
    ("max_tokens", FinishReason::Length),
    ("max_output_tokens", FinishReason::Length),
    ("max_completion_tokens", FinishReason::Length),
    ("max_new_tokens", FinishReason::Length),
    ("model_length", FinishReason::Length),
    ("token_limit", FinishReason::Length),
    ("context_length_exceeded", FinishReason::Length),
    ("context_window_exceeded", FinishReason::Length),
    ("model_context_window_exceeded", FinishReason::Length),
    ("tool_calls", FinishReason::ToolCalls),
    ("tool_call", FinishReason::ToolCalls),
    ("tool_use", FinishReason::ToolCalls),
    ("function_call", FinishReason::ToolCalls),
    ("function_calls", FinishReason::ToolCalls),
    ("content_filter", FinishReason::ContentFilter),
    ("content_filtered", FinishReason::ContentFilter),
    ("guardrail_intervened", FinishReason::ContentFilter),
    ("moderation", FinishReason::ContentFilter),
    ("prohibited_content", FinishReason::ContentFilter),
    ("blocklist", FinishReason::ContentFilter),
    ("recitation", FinishReason::ContentFilter),
    ("risk", FinishReason::ContentFilter),
    ("safety", FinishReason::ContentFilter),
    ("sensitive", FinishReason::ContentFilter),
    ("refusal", FinishReason::Refusal),
    ("pause", FinishReason::Pause),
    ("pause_turn", FinishReason::Pause),
    ("compaction", FinishReason::Pause),
];

/// Words that say that the vendor failed.
const FAILURES: &[&str] = &[
    "abort",
    "aborted",
    "cancelled",
    "engine_error",
    "engine_overloaded",
    "error",
    "failed",
    "failure",
    "insufficient_system_resource",
    "internal_error",
    "model_error",
    "network_error",
    "overloaded",
    "server_error",
    "system_error",
    "timeout",
    "unknown_error",
    "upstream_error",
];

/// What a vendor's word for the end of an answer means; `None` where it is empty. A word that is in
/// no table is [`FinishReason::Other`].
///
/// # Errors
/// [`ErrorCode::UpstreamError`] for a word that says that the vendor failed.
pub(super) fn finish_reason(word: &str, vendor: &Vendor) -> Result<Option<FinishReason>, Error> {
    let plain = word.trim_ascii();
    if matches!(plain, "" | "null") {
        return Ok(None);
    }
    let own = vendor.finish_words.iter().find(|(own, _)| *own == plain);
    if let Some(&(_, reason)) = own {
        return Ok(Some(reason));
    }
    let plain = plain.to_ascii_lowercase().replace(['-', ' '], "_");
    if FAILURES.contains(&&*plain) {
        return Err(Error::new(
            ErrorCode::UpstreamError,
            format!("the upstream ended its answer with the reason {word:?}"),
        ));
    }
    let known = WORDS.iter().find(|(known, _)| *known == plain);
    Ok(Some(known.map_or(FinishReason::Other, |known| known.1)))
}

/// The finish after two were stated: one that says less never replaces one that says more.
pub(super) fn more_specific(before: Option<FinishReason>, later: FinishReason) -> FinishReason {
    let rank = |reason| match reason {
        FinishReason::Other => 0,
        FinishReason::Stop => 1,
        _ => 2,
    };
    match before {
        Some(before) if rank(before) > rank(later) => before,
        _ => later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_many_vendors_are_known() {
        let read = |word| finish_reason(word, &Vendor::PLAIN).ok().flatten();
        for (word, reason) in [
            ("stop", Some(FinishReason::Stop)),
            ("EOS", Some(FinishReason::Stop)),
            ("end-turn", Some(FinishReason::Stop)),
            ("MAX_TOKENS", Some(FinishReason::Length)),
            ("sensitive", Some(FinishReason::ContentFilter)),
            ("tool_use", Some(FinishReason::ToolCalls)),
            ("whatever", Some(FinishReason::Other)),
            ("", None),
        ] {
            assert_eq!(read(word), reason, "{word}");
        }
        for word in ["network_error", "ERROR", "engine_overloaded"] {
            assert!(finish_reason(word, &Vendor::PLAIN).is_err(), "{word}");
        }
    }

    #[test]
    fn a_row_of_a_vendor_comes_first() {
        let vendor = Vendor {
            finish_words: &[("abort", FinishReason::Stop)],
            ..Vendor::PLAIN
        };
        assert_eq!(
            finish_reason("abort", &vendor).ok(),
            Some(Some(FinishReason::Stop))
        );
    }

    #[test]
    fn a_finish_that_says_less_replaces_nothing() {
        use FinishReason::{Length, Other, Stop, ToolCalls};
        for (before, later, finish) in [
            (None, Other, Other),
            (Some(Stop), Other, Stop),
            (Some(ToolCalls), Stop, ToolCalls),
            (Some(Stop), Length, Length),
            (Some(ToolCalls), Length, Length),
        ] {
            assert_eq!(more_specific(before, later), finish);
        }
    }
}
