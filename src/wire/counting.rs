//! Upstreams that count the tokens of a prompt.

use super::{Outgoing, VerbatimRequest};

/// How an upstream is asked how many tokens a prompt has.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    /// The request that counts, made from the request for an answer of that model.
    pub request: fn(Outgoing, &str) -> Outgoing,
    /// As [`super::Wire::verbatim_request`], for that model.
    pub verbatim: Option<fn(&str) -> VerbatimRequest>,
    /// The member of the answer that holds the count.
    pub member: &'static str,
}

/// Keeps the members that `names` lists, for vendors that refuse others.
pub(super) fn retain_members(outgoing: &mut Outgoing, names: &[&str]) {
    if let Some(members) = outgoing.body.as_object_mut() {
        members.retain(|name, _| names.contains(&name.as_str()));
    }
}
