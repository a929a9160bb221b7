//! Reasoning efforts as token budgets, for vendors that accept only budgets.

/// The token budget of an effort, `None` for a vendor's own word. At least half of `max_tokens` is left
/// for the answer.
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
