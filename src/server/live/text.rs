//! Parses the metrics' text format, as this program writes it.

/// One value of a metric.
#[derive(Debug, PartialEq)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    labels: &'a str,
    pub(super) value: f64,
}

/// Every value in `text`; comments are skipped.
pub(super) fn parse(text: &str) -> impl Iterator<Item = Series<'_>> {
    text.lines().filter_map(|line| {
        let end = line.find(['{', ' ']).filter(|_| !line.starts_with('#'))?;
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            // A label's value may hold braces, the number behind the last one does not.
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.trim_start()),
        };
        Some(Series {
            name,
            labels,
            value: value.parse().ok()?,
        })
    })
}

impl Series<'_> {
    /// The value of a label; the empty string where there is none.
    pub(super) fn label(&self, name: &str) -> String {
        let mut rest = self.labels;
        while let Some((key, text)) = rest.split_once("=\"") {
            let mut value = String::new();
            let mut chars = text.chars();
            loop {
                match chars.next() {
                    None | Some('"') => break,
                    Some('\\') => match chars.next() {
                        Some('n') => value.push('\n'),
                        Some(other) => value.push(other),
                        None => break,
                    },
                    Some(other) => value.push(other),
                }
            }
            if key.trim_start_matches(',') == name {
                return value;
            }
            rest = chars.as_str();
        }
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_labels_are_parsed() {
        let text = "# TYPE a counter\na_total 2\n\
                    b{x=\"1\",y=\"a \\\"}\\\\ \\n\",z=\"\"} 0.5\nnonsense\n# EOF\n";
        let all: Vec<Series<'_>> = parse(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].name, all[0].value), ("a_total", 2.0));
        assert_eq!((all[1].name, all[1].value), ("b", 0.5));
        let labels = ["x", "y", "z", "none"].map(|name| all[1].label(name));
        assert_eq!(labels, ["1", "a \"}\\ \n", "", ""]);
    }
}
