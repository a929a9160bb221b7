//! What an API accepts in a request, beyond the form of its protocol. Data: see [`super::adapt`], which
//! changes requests so that they fit.

/// The limits of one API. The default has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The names of tools.
    pub tool_name: NameLimit,
    /// The ids of calls.
    pub call_id: NameLimit,
    /// The longest name of a user, in characters; 0 if the API has no such setting, which is a hint.
    pub user: usize,
    /// The largest `temperature`.
    pub temperature: f64,
    /// The smallest and the largest `top_p`.
    pub top_p: (f64, f64),
    /// The smallest bound on the output, in tokens.
    pub min_max_tokens: u64,
    /// Whether a request must bound the output.
    pub requires_max_tokens: bool,
    /// Whether a stop sequence may consist of white space.
    pub blank_stops: bool,
    /// Whether a tool's result may hold images.
    pub images_in_results: bool,
    /// Whether a tool's result may hold files.
    pub files_in_results: bool,
    /// Whether the API can be asked for any JSON object, without a schema.
    pub json_object: bool,
    /// Whether the API refuses a strict schema whose objects have optional or further properties.
    pub strict_schemas: bool,
    /// Whether the API accepts tools together with a format of the answer.
    pub format_with_tools: bool,
    /// Whether the API can be made to call a tool.
    pub forced_calls: bool,
    /// Whether the conversation must begin with the user.
    pub begins_with_user: bool,
    /// Whether requests can mark where the prompt is cached.
    pub cache_points: bool,
    /// Whether the model is a Claude, whose thinking excludes other settings.
    pub claude_thinking: bool,
    /// Whether messages may hold files.
    pub files: bool,
    /// Whether a file needs a name: the wire makes one up.
    pub requires_file_names: bool,
    /// Whether a text may consist of white space: the wire leaves it out.
    pub blank_texts: bool,
    /// Whether a conversation with calls needs the tools: the wire makes them up.
    pub requires_called_tools: bool,
    /// Whether the API has these settings. They are hints: requests are sent without them.
    pub seed: bool,
    pub metadata: bool,
    pub parallel_calls: bool,
}

impl Limits {
    pub const NONE: Self = Self {
        tool_name: NameLimit::NONE,
        call_id: NameLimit::NONE,
        user: usize::MAX,
        temperature: f64::INFINITY,
        top_p: (f64::NEG_INFINITY, f64::INFINITY),
        min_max_tokens: 1,
        requires_max_tokens: false,
        blank_stops: true,
        images_in_results: true,
        files_in_results: true,
        json_object: true,
        strict_schemas: false,
        format_with_tools: true,
        forced_calls: true,
        begins_with_user: false,
        cache_points: false,
        claude_thinking: false,
        files: true,
        requires_file_names: false,
        blank_texts: true,
        requires_called_tools: false,
        seed: true,
        metadata: true,
        parallel_calls: true,
    };
}

/// Which names an API accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimit {
    /// The shortest and the longest length in bytes; see [`NameLimit::others`].
    pub min: usize,
    pub max: usize,
    /// The allowed characters beside ASCII letters and digits. `None` if all characters are allowed.
    pub others: Option<&'static str>,
    /// Whether the first character must be a letter or `_`.
    pub begins_with_letter: bool,
}

impl NameLimit {
    pub const NONE: Self = Self {
        min: 0,
        max: usize::MAX,
        others: None,
        begins_with_letter: false,
    };

    /// Names of up to `max` letters, digits, `_` and `-`.
    pub const fn word(max: usize) -> Self {
        Self {
            min: 1,
            max,
            others: Some("_-"),
            begins_with_letter: false,
        }
    }

    pub(super) fn is_allowed(&self, c: char) -> bool {
        self.others
            .is_none_or(|others| c.is_ascii_alphanumeric() || others.contains(c))
    }

    pub(super) fn accepts(&self, name: &str) -> bool {
        (self.min..=self.max).contains(&name.len())
            && name.chars().all(|c| self.is_allowed(c))
            && (!self.begins_with_letter || begins_with_letter(name))
    }
}

fn begins_with_letter(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}
