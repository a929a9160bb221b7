//! Models: the names that clients use, and their targets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::glob::capture;
use super::read::{Field, Reader, Section};
use super::routing::{self, RoutingConfig};
use super::schema;
use super::settings::{self, TimeoutsConfig};
use super::unit;
use super::upstream::{DeclaredUpstreams, UpstreamConfig};
use crate::model::ReasoningStyle;

/// A name that clients use, with at most one `*`, and its targets.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    pub name: String,
    /// Sorted by priority; never empty.
    pub targets: Vec<TargetConfig>,
    /// The model's own deadlines; those of the config where it has none.
    pub timeouts: TimeoutsConfig,
    pub routing: RoutingConfig,
    /// Whether a stream that broke is continued on another target.
    pub continues: bool,
    /// Output tokens that are reserved from a key's limit if a request does not bound them.
    pub reserve_tokens: u64,
    /// The bound on an answer where the client gives none and the upstream's protocol requires one.
    pub max_tokens: Option<u64>,
}

/// A model at an upstream.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    pub upstream: Arc<UpstreamConfig>,
    /// The upstream's name for the model, or a pattern for it.
    model: String,
    /// Lower values are tried first.
    pub priority: u32,
    /// The share among targets of equal priority; at least 1.
    pub weight: u32,
    /// How the model takes a setting of its reasoning; otherwise its name decides.
    pub reasoning: Option<ReasoningStyle>,
}

/// Every model.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// In the file's order.
    all: Vec<Arc<ModelConfig>>,
    exact: HashMap<String, Arc<ModelConfig>>,
    /// Those with the longest literal text first.
    patterns: Vec<Arc<ModelConfig>>,
}

/// How many targets a model may have.
const MAX_TARGETS: usize = 64;
/// A few pages of text; most answers have less.
const RESERVE_TOKENS: u64 = 1024;

impl TargetConfig {
    /// The upstream's name for the model. `capture` is the text that the model's `*` matched.
    pub fn model(&self, capture: &str) -> Cow<'_, str> {
        match self.model.split_once('*') {
            Some((before, after)) => Cow::Owned(format!("{before}{capture}{after}")),
            None => Cow::Borrowed(&self.model),
        }
    }

    /// Whether it has this name or pattern, or a pattern that matches this name.
    pub(super) fn stands_for(&self, model: &str) -> bool {
        let is_name = !model.contains('*');
        self.model == model || (is_name && capture(&self.model, model).is_some())
    }

    /// The name as in the config, with its `*`.
    pub fn pattern(&self) -> &str {
        &self.model
    }
}

impl Models {
    /// Finds the model for the name that a client sent, and the text that its `*` matched (empty if
    /// it has none). An exact name wins over patterns; among patterns the one with the longest
    /// literal text wins.
    pub fn find<'n>(&self, name: &'n str) -> Option<(&Arc<ModelConfig>, &'n str)> {
        if let Some(model) = self.exact.get(name) {
            return Some((model, ""));
        }
        self.patterns
            .iter()
            .find_map(|model| Some((model, capture(&model.name, name)?)))
    }

    /// Every model in the file's order, patterns included.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<ModelConfig>> {
        self.all.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn new(all: Vec<Arc<ModelConfig>>) -> Self {
        let is_pattern = |model: &&Arc<ModelConfig>| model.name.contains('*');
        let exact = all
            .iter()
            .filter(|model| !is_pattern(model))
            .map(|model| (model.name.clone(), Arc::clone(model)))
            .collect();
        let mut patterns: Vec<_> = all.iter().filter(is_pattern).cloned().collect();
        patterns.sort_by_key(|model| std::cmp::Reverse(model.name.len()));
        Self {
            all,
            exact,
            patterns,
        }
    }
}

/// Reads `models`.
pub fn read(
    reader: &mut Reader,
    section: &Section<'_>,
    upstreams: &DeclaredUpstreams<'_>,
    timeouts: &TimeoutsConfig,
) -> Models {
    let absent = section.field.missing("models");
    let field = section.get("models");
    let entries = field.map_or_else(Vec::new, |field| reader.entries(field));
    if entries.is_empty() {
        let at = field.unwrap_or(&absent);
        reader.add_warning(
            at,
            "no models are defined, so every request will be refused; add at least one",
        );
    }
    let models = entries.into_iter().filter_map(|(name, field)| {
        read_one(reader, name, &field, upstreams, timeouts).map(Arc::new)
    });
    Models::new(models.collect())
}

fn read_one(
    reader: &mut Reader,
    name: &str,
    field: &Field<'_>,
    upstreams: &DeclaredUpstreams<'_>,
    timeouts: &TimeoutsConfig,
) -> Option<ModelConfig> {
    if name.is_empty() || name.contains(char::is_control) {
        reader.add_problem(
            field,
            "is not a valid model name: it must not be empty or contain control characters",
        );
    }
    let stars = name.matches('*').count();
    if stars > 1 {
        reader.add_problem(
            field,
            "has more than one `*`; a model name may have at most one",
        );
    }
    let section = reader.section(field, schema::MODEL);
    let timeouts = settings::read_timeouts(reader, section.get("timeouts"), timeouts);
    let continues = reader.setting(&section, "continue", false, unit::parse_switch);
    let reserve_tokens = reader.setting(
        &section,
        "reserve_tokens",
        RESERVE_TOKENS,
        unit::parse_count,
    );
    let max_tokens = reader.setting(&section, "max_tokens", None, |text| {
        unit::parse_count(text).map(Some)
    });
    let routing = routing::read(reader, &section);
    let targets = read_targets(reader, &section, upstreams, stars > 0)?;
    Some(ModelConfig {
        name: name.to_owned(),
        targets,
        timeouts,
        routing,
        continues,
        reserve_tokens,
        max_tokens,
    })
}

fn read_targets(
    reader: &mut Reader,
    section: &Section<'_>,
    upstreams: &DeclaredUpstreams<'_>,
    under_pattern: bool,
) -> Option<Vec<TargetConfig>> {
    let Some(field) = section.get("targets") else {
        reader.add_problem(
            &section.field.missing("targets"),
            "is missing; list at least one target",
        );
        return None;
    };
    let items = reader.items(field)?;
    if items.is_empty() {
        reader.add_problem(
            field,
            "must not be empty; a model needs at least one target",
        );
    }
    if items.len() > MAX_TARGETS {
        reader.add_problem(
            field,
            format!(
                "has {} targets; at most {MAX_TARGETS} are allowed",
                items.len()
            ),
        );
    }
    let mut targets: Vec<_> = items
        .iter()
        .filter_map(|item| read_target(reader, item, upstreams, under_pattern))
        .collect();
    targets.sort_by_key(|target| target.priority);
    Some(targets)
}

fn read_target(
    reader: &mut Reader,
    field: &Field<'_>,
    upstreams: &DeclaredUpstreams<'_>,
    under_pattern: bool,
) -> Option<TargetConfig> {
    let section = reader.section(field, schema::TARGET);
    let upstream = read_target_upstream(reader, &section, upstreams);
    let model = read_target_model(reader, &section, under_pattern);
    let priority = reader.setting(&section, "priority", 0, |text| {
        text.parse().map_err(|_| "a whole number from 0")
    });
    let weight = reader.setting(&section, "weight", 1, unit::parse_small_count);
    let reasoning = reader.setting(&section, "reasoning", None, |text| {
        parse_reasoning(text).map(Some)
    });
    Some(TargetConfig {
        upstream: upstream?,
        model: model?,
        priority,
        weight,
        reasoning,
    })
}

fn parse_reasoning(text: &str) -> Result<ReasoningStyle, &'static str> {
    match text {
        "adaptive" => Ok(ReasoningStyle::Adaptive),
        "budget" => Ok(ReasoningStyle::Budget),
        "effort" => Ok(ReasoningStyle::Effort),
        "none" => Ok(ReasoningStyle::None),
        _ => Err("`adaptive`, `budget`, `effort` or `none`"),
    }
}

fn read_target_upstream(
    reader: &mut Reader,
    section: &Section<'_>,
    upstreams: &DeclaredUpstreams<'_>,
) -> Option<Arc<UpstreamConfig>> {
    let Some(field) = section.get("upstream") else {
        reader.add_problem(
            &section.field.missing("upstream"),
            "is missing; name one of `upstreams`",
        );
        return None;
    };
    let wanted = reader.text(field)?;
    match upstreams.iter().find(|(name, _)| *name == wanted) {
        // `None` if the upstream has a problem, which was reported at its declaration.
        Some((_, upstream)) => upstream.clone(),
        None => {
            reader.add_unknown_name(field, "upstream", upstreams.iter().map(|(name, _)| *name));
            None
        }
    }
}

fn read_target_model(
    reader: &mut Reader,
    section: &Section<'_>,
    under_pattern: bool,
) -> Option<String> {
    let Some(field) = section.get("model") else {
        reader.add_problem(
            &section.field.missing("model"),
            "is missing; set the upstream's name for the model",
        );
        return None;
    };
    let model = reader.text(field)?;
    let message = match model.matches('*').count() {
        0 => return Some(model.to_owned()),
        1 if under_pattern => return Some(model.to_owned()),
        1 => "has a `*`, but the name of the model in `models` has none",
        _ => "has more than one `*`; at most one is allowed",
    };
    reader.add_problem(field, message);
    None
}
