//! The pages for browsers: static files, compiled into the program. They call their own origin only.
//!
//! `web/<folder>/<file>` is served at that path. A debug build reads the files from the disk, so an
//! edit needs no new build.

use axum::Router;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "web"]
struct Files;

#[derive(RustEmbed)]
#[folder = "clients/js"]
struct BrowserClient;

type Lookup = fn(&str) -> Option<EmbeddedFile>;

/// The pages show text that models and clients wrote, so nothing may run or load but the files above.
/// `blob:` and `data:` images are the person's own attachments.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src blob: data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The playground and the browser client. They need no key: they hold nothing secret.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let pages = &[("/", "playground/index.html")];
    let router = files(&["shared", "playground"], pages);
    add(
        router,
        "/sluicegate.js",
        BrowserClient::get,
        "sluicegate.js",
    )
}

/// The operator's pages, for the admin listener.
pub(super) fn admin_router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let pages = &[
        ("/dashboard", "admin/dashboard.html"),
        ("/dashboard/streams", "admin/streams.html"),
        ("/dashboard/announcements", "admin/announcements.html"),
    ];
    files(&["shared", "admin"], pages).route("/", get(|| async { Redirect::to("/dashboard") }))
}

/// The files of these folders of `web`, and `pages`: further paths of files.
fn files<S: Clone + Send + Sync + 'static>(
    folders: &[&str],
    pages: &[(&str, &'static str)],
) -> Router<S> {
    let mut router = Router::new();
    for name in Files::iter() {
        let folder = name.split('/').next().unwrap_or_default();
        if folders.contains(&folder) {
            router = add(router, &format!("/web/{name}"), Files::get, &name);
        }
    }
    for (path, name) in pages {
        router = add(router, path, Files::get, name);
    }
    router
}

fn add<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    path: &str,
    lookup: Lookup,
    name: &str,
) -> Router<S> {
    let name = name.to_owned();
    let handler = move |headers: HeaderMap| async move { answer(lookup(&name), &name, &headers) };
    router.route(path, get(handler))
}

fn answer(file: Option<EmbeddedFile>, name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = file else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = tag(&file);
    let fixed = [
        (CONTENT_TYPE, content_type(name)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Browsers must load the new page after an update.
        (CACHE_CONTROL, "no-cache"),
    ];
    let known = headers.get(IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fixed, [(ETAG, tag)]).into_response();
    }
    (fixed, [(ETAG, tag)], file.data).into_response()
}

/// The first half of the content's hash.
fn tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
