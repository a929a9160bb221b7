//! Anthropic's form, <https://platform.claude.com/docs/en/api/models-list>.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::model::Error;

/// The most models of one page, and how many it has without a `limit`.
const MAX_LIMIT: usize = 1_000;

/// One page of the list.
///
/// # Errors
/// [`crate::model::ErrorCode::InvalidRequest`], naming the parameter.
pub(super) fn list(names: &[&str], query: &HashMap<String, String>) -> Result<Value, Error> {
    let limit = limit(query)?;
    let position = |parameter: &str| -> Result<Option<usize>, Error> {
        let Some(id) = query.get(parameter) else {
            return Ok(None);
        };
        let found = names.iter().position(|name| name == id);
        let missing = || Error::invalid(parameter, "there is no model with this id in the list");
        found.map(Some).ok_or_else(missing)
    };
    let (page, has_more) = match (position("after_id")?, position("before_id")?) {
        (Some(_), Some(_)) => {
            let problem = "cannot be combined with after_id; send one of the two";
            return Err(Error::invalid("before_id", problem));
        }
        (None, Some(before)) => {
            let start = before.saturating_sub(limit);
            (&names[start..before], start > 0)
        }
        (after, None) => {
            let rest = &names[after.map_or(0, |after| after + 1)..];
            (&rest[..rest.len().min(limit)], rest.len() > limit)
        }
    };
    Ok(json!({
        "data": page.iter().map(|name| model(name)).collect::<Vec<_>>(),
        "has_more": has_more,
        "first_id": page.first(),
        "last_id": page.last(),
    }))
}

/// One model. The API gives a model whose date of release is not known an epoch value.
pub(super) fn model(name: &str) -> Value {
    json!({
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    })
}

fn limit(query: &HashMap<String, String>) -> Result<usize, Error> {
    let Some(limit) = query.get("limit") else {
        return Ok(MAX_LIMIT);
    };
    match limit.parse() {
        Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(Error::invalid(
            "limit",
            format_args!("must be a whole number from 1 to {MAX_LIMIT}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn page(parameters: &[(&str, &str)]) -> Result<Value, String> {
        let owned = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        list(&NAMES, &owned.collect()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn pages_follow_and_precede_a_cursor() {
        for (parameters, ids, has_more) in [
            (&[][..], "abcde", false),
            (&[("limit", "1000")], "abcde", false),
            (&[("limit", "2")], "ab", true),
            (&[("limit", "2"), ("after_id", "b")], "cd", true),
            (&[("limit", "2"), ("after_id", "d")], "e", false),
            (&[("after_id", "e")], "", false),
            (&[("limit", "2"), ("before_id", "d")], "bc", true),
            (&[("limit", "3"), ("before_id", "d")], "abc", false),
            (&[("before_id", "a")], "", false),
        ] {
            let page = page(parameters).unwrap();
            let entries = page["data"].as_array().unwrap();
            let found: String = entries.iter().map(|m| m["id"].as_str().unwrap()).collect();
            assert_eq!(found, ids, "{parameters:?}");
            assert_eq!(page["has_more"], has_more, "{parameters:?}");
            let ends = [ids.chars().next(), ids.chars().next_back()];
            let ends = ends.map(|id| id.map(String::from));
            assert_eq!(page["first_id"], json!(ends[0]));
            assert_eq!(page["last_id"], json!(ends[1]));
        }
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (parameters, field) in [
            (&[("limit", "0")][..], "limit"),
            (&[("limit", "1001")], "limit"),
            (&[("limit", "x")], "limit"),
            (&[("limit", "")], "limit"),
            (&[("after_id", "f")], "after_id"),
            (&[("before_id", "f")], "before_id"),
            (&[("before_id", "a"), ("after_id", "b")], "before_id"),
        ] {
            let problem = page(parameters).unwrap_err();
            assert!(problem.starts_with(&format!("{field}: ")), "{problem}");
        }
    }
}
