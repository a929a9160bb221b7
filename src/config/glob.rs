//! Patterns: names with `*`.

/// A pattern for model names. Every `*` matches any text, also none; everything else matches
/// itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut name) = name.strip_prefix(first) else {
            return false;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // Taking the leftmost match of each piece leaves the most text for the later ones. So no
        // backtracking is needed, and the time is bounded by the lengths.
        for piece in middle.split('*') {
            let Some(at) = name.find(piece) else {
                return false;
            };
            name = &name[at + piece.len()..];
        }
        name.ends_with(last)
    }
}

/// The text that the single `*` of `pattern` matches in `name`: at least one character. `None` if
/// the name does not match or the pattern has no `*`.
pub fn capture<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = pattern.split_once('*')?;
    name.strip_prefix(before)?
        .strip_suffix(after)
        .filter(|capture| !capture.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("fast", "fast"),
            ("*", ""),
            ("*", "anything"),
            ("local/*", "local/llama"),
            ("*-mini", "gpt-mini"),
            ("a*b*c", "a-b-b-c"),
            ("a**c", "abc"),
            ("*ab*", "aab"),
        ] {
            assert!(Glob::new(pattern).matches(name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("fast", "faster"),
            ("local/*", "remote/local/x"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("*-mini", "mini"),
        ] {
            assert!(!Glob::new(pattern).matches(name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_text_of_the_star_is_captured() {
        assert_eq!(capture("local/*", "local/llama"), Some("llama"));
        assert_eq!(capture("a*b", "axyb"), Some("xy"));
        assert_eq!(capture("local/*", "local/"), None);
        assert_eq!(capture("ab*ba", "aba"), None);
        assert_eq!(capture("fast", "fast"), None);
    }
}
