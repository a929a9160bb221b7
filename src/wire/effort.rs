//! Efforts as budgets, for the vendors that know only those.

/// What an effort may cost, in tokens; nothing for a word that all vendors do not share. Half of
/// what the client allows stays for the answer.
pub(super) fn budget(effort: &str, max_tokens: Option<u64>) -> Option<u64> {
    let budget: u64 = match effort {
        "minimal" => 1024,
        "low" => 2048,
        "medium" => 8192,
        "high" => 16384,
        _ => return None,
    };
    Some(budget.min(max_tokens.map_or(u64::MAX, |most| most / 2)))
}
