//! Allows `${VAR}` without quotes inside `{ … }` and `[ … ]`, where YAML uses braces, brackets and
//! commas itself.
//!
//! Before the text is parsed as YAML, those characters inside each `${…}` are replaced by
//! noncharacters (U+FDD0 and following, which Unicode reserves for a program's internal use), one
//! for one, so that lines and columns stay the same. In every parsed string they are replaced back.

const MASKS: [(char, char); 5] = [
    ('{', '\u{fdd0}'),
    ('}', '\u{fdd1}'),
    ('[', '\u{fdd2}'),
    (']', '\u{fdd3}'),
    (',', '\u{fdd4}'),
];

/// Whether the text already contains one of the noncharacters.
pub fn is_masked(text: &str) -> bool {
    text.contains(MASKS.map(|(_, mask)| mask))
}

/// Masks YAML's characters inside every `${…}`. A reference ends at its `}`; text with a quote or a
/// line end before that is not a reference.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        masked.push_str(before);
        let end = reference
            .find(['}', '\n', '\r', '\'', '"'])
            .unwrap_or(reference.len());
        if !reference[end..].starts_with('}') {
            // This is not a reference; the YAML parser and the expansion decide what it is.
            masked.push_str(&reference[..end]);
            rest = &reference[end..];
            continue;
        }
        masked.extend(reference[..=end].chars().map(|c| swap(c, false)));
        rest = &reference[end + 1..];
    }
    masked.push_str(rest);
    masked
}

/// Reverts [`mask`].
pub fn unmask(text: &str) -> String {
    text.chars().map(|c| swap(c, true)).collect()
}

fn swap(c: char, back: bool) -> char {
    for (plain, mask) in MASKS {
        let (from, to) = if back { (mask, plain) } else { (plain, mask) };
        if c == from {
            return to;
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_are_masked_and_all_come_back() {
        for text in [
            "{ a: ${A}, b: [${B:-x,[y]}] }",
            "${A",
            "${A\n}",
            "$${A}",
            "a: {}",
        ] {
            let masked = mask(text);
            assert_eq!(unmask(&masked), text);
            assert_eq!(masked.chars().count(), text.chars().count());
        }
        assert_eq!(mask("{ a: $A, ${A\n} }"), "{ a: $A, ${A\n} }");
        assert!(!mask("${A:-{[,]}").contains(['{', '[', ',', ']', '}']));
    }
}
