//! The URL of a request, from the upstream's base URL and the wire's path.

use url::{Position, Url};

use crate::model::{Error, ErrorCode};

/// The path and query of [`join_url`]. Most need no URL parser, which takes longer than all else that is
/// done for a request's head.
pub(super) fn target(base_url: &str, path: &str) -> Result<String, Error> {
    let authority = base_url.split_once("://").map_or("", |(_, rest)| rest);
    if is_plain_path(path) && !base_url.contains('?') {
        let base = authority.find('/').map_or("", |at| &authority[at..]);
        return Ok(format!("{base}{path}"));
    }
    let url = join_url(base_url, path)?;
    Ok(url[Position::BeforePath..Position::AfterQuery].to_owned())
}

/// Appends `path` to `base_url`; either may have a query.
///
/// # Errors
/// [`ErrorCode::Internal`] if that is not a URL.
pub(super) fn join_url(base_url: &str, path: &str) -> Result<Url, Error> {
    let url = match base_url.split_once('?') {
        None => Url::parse(&format!("{base_url}{path}")),
        Some((base, query)) => {
            let separator = if path.contains('?') { '&' } else { '?' };
            Url::parse(&format!("{base}{path}{separator}{query}"))
        }
    };
    url.map_err(|_| Error::new(ErrorCode::Internal, "the upstream's address is not a URL"))
}

/// Whether a URL parser leaves a path and its query as they are: it begins with a slash, no character is
/// encoded, and no segment is `.` or `..`.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~:?=&".contains(&byte);
    path.starts_with('/') && path.bytes().all(is_plain) && !path.contains("/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_the_one_of_the_url() {
        let bases = [
            "http://h",
            "http://h/",
            "https://h:8443/v1",
            "https://h/a%20b/v1",
            "http://[::1]:1/d",
            "http://h/d?api-version=1",
        ];
        let paths = [
            "/chat/completions",
            "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
            "/model/a.b-c:0/converse-stream",
            "/a//b",
            "/./a",
            "/../a",
            "/a/..",
            "/a/.b",
            "/a/%2e%2e/b",
            "/a b",
            "/é",
            "/a?b=c d",
            "/a?b='c'",
            "/a?b?c=/../d",
            "/a#b",
            "/a\\b",
            "/a;b@c",
            "?a=b",
            "",
        ];
        for base in bases {
            // As an upstream has it.
            let base = Url::parse(base).unwrap();
            let base = base.as_str().trim_end_matches('/');
            for path in paths {
                let url = join_url(base, path).unwrap();
                let expected = &url[Position::BeforePath..Position::AfterQuery];
                assert_eq!(target(base, path).unwrap(), expected, "{base} {path}");
            }
        }
    }

    #[test]
    fn a_query_is_appended_after_the_path() {
        for (base_url, path, expected) in [
            ("http://h/v1", "/x", "http://h/v1/x"),
            ("http://h", "/x?alt=sse", "http://h/x?alt=sse"),
            (
                "http://h/d?api-version=1",
                "/x",
                "http://h/d/x?api-version=1",
            ),
            (
                "http://h/d?api-version=1",
                "/x?alt=sse",
                "http://h/d/x?alt=sse&api-version=1",
            ),
        ] {
            assert_eq!(join_url(base_url, path).unwrap().as_str(), expected);
        }
    }
}
