//! The pages for browsers: their files, their headers, and that their content security policy permits what they do.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use sluicegate::app::Gateway;
use sluicegate::config::{Config, Overrides};
use sluicegate::server;
use tower::ServiceExt as _;

const KEYS: &str = "keys: [ { name: app, sha256: \
    fcb605cfc6b648db26c35253f4b5b7de8876d4753db67198e8bbf572b329ee89 } ]";

fn clients() -> Router {
    // As the program does at its start; fails only if it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = Config::parse(KEYS, "test", &|_| None, &Overrides::default()).unwrap();
    server::client_router(Arc::new(Gateway::new(loaded.config).unwrap()))
}

async fn ask(method: Method, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::empty()).unwrap();
    let (head, body) = clients().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (head.status, head.headers, text)
}

/// The values of every `name="…"` in `html`.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let mark = format!(" {name}=\"");
    let values = html.split(&mark).skip(1);
    values.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn the_page_needs_no_key_and_has_a_strict_policy() {
    let (status, headers, html) = ask(Method::GET, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    // The policy forbids these.
    assert!(!html.contains("<style"), "an inline style");
    assert!(attributes(&html, "style").is_empty(), "an inline style");
    assert!(!html.contains("<script>"), "an inline script");
}

#[tokio::test]
async fn the_page_loads_only_files_of_this_gateway() {
    let (_, _, html) = ask(Method::GET, "/").await;
    let mut files = attributes(&html, "src");
    files.extend(attributes(&html, "href"));
    // No icon, and links to places of the page itself.
    files.retain(|file| !["data:,", "/"].contains(file) && !file.starts_with('#'));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let (status, headers, text) = ask(Method::GET, file).await;
        assert_eq!(status, StatusCode::OK, "{file}");
        let kind = if file.ends_with(".js") {
            "text/javascript"
        } else {
            "text/css"
        };
        assert!(headers[CONTENT_TYPE].to_str().unwrap().starts_with(kind));
        assert!(!text.contains("://"), "{file} names another origin");
    }
}

#[tokio::test]
async fn the_browser_client_needs_no_key() {
    let (status, headers, script) = ask(Method::GET, "/sluicegate.js").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert!(script.contains("export function stream("));
}

/// The paths under `/v1` in the strings of `script`, with a stream's id where it inserts something.
fn paths(script: &str) -> Vec<String> {
    let stream = format!("st_{}", "a".repeat(26));
    let mut paths = Vec::new();
    for quote in ['"', '`'] {
        let mark = format!("{quote}/v1/");
        for rest in script.split(&mark).skip(1) {
            let path = rest.split([quote, '?']).next().unwrap();
            let mut filled = String::from("/v1/");
            for (at, part) in path.split("${").enumerate() {
                match (at, part.split_once('}')) {
                    (0, _) | (_, None) => filled.push_str(part),
                    (_, Some((_, rest))) => filled = filled + &stream + rest,
                }
            }
            paths.push(filled);
        }
    }
    paths
}

#[tokio::test]
async fn the_scripts_name_only_existing_paths() {
    let (_, _, script) = ask(Method::GET, "/sluicegate.js").await;
    let mut paths = paths(&script);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/playground");
    for entry in fs::read_dir(folder).unwrap() {
        paths.extend(self::paths(
            &fs::read_to_string(entry.unwrap().path()).unwrap(),
        ));
    }
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        // No route supports PATCH, and only an existing one answers 405.
        let (status, _, _) = ask(Method::PATCH, &path).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[test]
fn the_demo_s_cases_on_the_page_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("web/playground/demo-cases.js")).unwrap();
    let models = script.split("model: \"demo-").skip(1);
    let cases: Vec<_> = models.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(cases.len() > 5, "{cases:?}");
    for case in cases {
        let folder = root.join("proto-fixtures").join(case);
        assert!(folder.join("events.golden").exists(), "{case}");
    }
}

#[tokio::test]
async fn a_file_that_did_not_change_is_not_sent_again() {
    let (_, headers, _) = ask(Method::GET, "/sluicegate.js").await;
    let request = Request::get("/sluicegate.js").header(IF_NONE_MATCH, &headers[ETAG]);
    let request = request.body(Body::empty()).unwrap();
    let response = clients().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(response.headers()[ETAG], headers[ETAG]);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.is_empty());
}

#[tokio::test]
async fn a_wrong_method_is_refused_with_an_error_body() {
    for (method, path) in [(Method::POST, "/"), (Method::PUT, "/v1/streams")] {
        let (status, headers, body) = ask(method, path).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(headers.contains_key(ALLOW), "{path}");
        assert!(body.contains("\"code\":\"method_not_allowed\""), "{body}");
    }
}

/// Every page and file of the operator, over the admin listener's routes.
#[tokio::test]
async fn the_operators_pages_load_only_files_of_the_admin_listener() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = Config::parse("{}", "test", &|_| None, &Overrides::default()).unwrap();
    let router = server::admin_router(Arc::new(Gateway::new(loaded.config).unwrap()));
    let ask = async |path: &str| {
        let request = Request::builder().uri(path).header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    };
    let (head, _) = ask("/").await;
    assert_eq!(head.headers["location"], "/dashboard");
    for page in [
        "/dashboard",
        "/dashboard/streams",
        "/dashboard/announcements",
    ] {
        let (head, html) = ask(page).await;
        assert_eq!(head.status, StatusCode::OK, "{page}");
        let policy = head.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        assert!(
            attributes(&html, "style").is_empty() && !html.contains("<style"),
            "{page}"
        );
        let mut files = attributes(&html, "src");
        files.extend(attributes(&html, "href"));
        files.retain(|file| file.starts_with('/'));
        assert!(files.len() >= 5, "{files:?}");
        for file in files {
            assert_eq!(ask(file).await.0.status, StatusCode::OK, "{page}: {file}");
        }
    }
    assert_eq!(ask("/sluicegate.js").await.0.status, StatusCode::NOT_FOUND);
}
