//! The settings of models and their targets.

use super::{COUNT, DURATION, Kind, Setting, TIMEOUTS, setting};

const AFFINITY: Kind = Kind::Scalar(&["auto", "off", "header:x-conversation"]);

pub const MODEL: &[Setting] = &[
    setting(
        "targets",
        Kind::Sections(TARGET),
        "The upstreams' models that answer. Lower priorities are tried first; equal ones share the requests.",
    ),
    setting(
        "strategy",
        Kind::Words(&["weighted", "fastest"]),
        "How targets of equal priority share requests: by `weight`, or the faster one by its recent time to the first content and its open requests. Default: weighted.",
    ),
    setting(
        "affinity",
        AFFINITY,
        "Which requests belong together, so that one target answers them from its prompt cache: `auto` finds the session in the request, `header:NAME` names the header that has it, `off` ignores sessions. Default: auto.",
    ),
    setting(
        "retry",
        Kind::SectionOr("off", RETRY),
        "When a target is asked again, after every other target failed.",
    ),
    setting(
        "breaker",
        Kind::SectionOr("off", BREAKER),
        "When a target that fails is not asked any more.",
    ),
    setting(
        "hedge",
        Kind::SectionOr("off", HEDGE),
        "When a second target is asked because the first is silent. Default: off.",
    ),
    setting(
        "timeouts",
        Kind::Section(TIMEOUTS),
        "The deadlines of this model.",
    ),
    setting(
        "continue",
        Kind::Switch,
        "Whether a stream that broke is continued on another target. Default: off.",
    ),
    setting(
        "reserve_tokens",
        COUNT,
        "Output tokens that are reserved from a key's limit if a request does not bound them. Default: 1024.",
    ),
    setting(
        "max_tokens",
        COUNT,
        "The bound on an answer, in tokens, where the client gives none and the upstream's protocol requires one. Default: the model's own bound if the gateway knows it, otherwise 4096.",
    ),
];

pub const RETRY: &[Setting] = &[
    setting(
        "attempts",
        COUNT,
        "How often one target is asked for one request; 1 is no second try. Default: 2.",
    ),
    setting(
        "backoff",
        DURATION,
        "The longest pause before the second try; it doubles with each further one. Default: 250ms.",
    ),
    setting(
        "max_backoff",
        DURATION,
        "The longest pause of all. If a target asks for a longer one, the request fails at once. Default: 4s.",
    ),
];

pub const BREAKER: &[Setting] = &[
    setting(
        "failures",
        COUNT,
        "How many failures within `window` open the breaker: in a row, or if at least half of the attempts failed; 100 at most. Default: 5.",
    ),
    setting(
        "window",
        DURATION,
        "The time in which failures are counted. Default: 30s.",
    ),
    setting(
        "open",
        DURATION,
        "How long the target is not asked, before one request is let through. Default: 15s.",
    ),
];

pub const HEDGE: &[Setting] = &[setting(
    "after",
    Kind::Scalar(&["800ms", "2s", "p95"]),
    "The silence after which a second target is asked; `p95` is the time within which 95 % of the first target's recent answers began.",
)];

pub const TARGET: &[Setting] = &[
    setting("upstream", Kind::Text, "The name of an upstream."),
    setting(
        "model",
        Kind::Text,
        "The upstream's name for the model; `*` stands for the text that the name's `*` matched.",
    ),
    setting(
        "priority",
        COUNT,
        "Lower values are tried first. Default: 0.",
    ),
    setting(
        "weight",
        COUNT,
        "The share among targets of equal priority. Default: 1.",
    ),
    setting(
        "reasoning",
        Kind::Words(&["adaptive", "budget", "effort", "none"]),
        "How the model takes a setting of its reasoning. Default: its name decides.",
    ),
];
