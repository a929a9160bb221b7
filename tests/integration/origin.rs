//! Listeners without keys: which browsers and which host names they serve.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use sluicegate::app::Gateway;
use sluicegate::config::{Config, Overrides};
use sluicegate::server;
use tower::ServiceExt as _;

const KEYS: &str = "keys: [ { name: app, sha256: \
    8b1a9953c4611296a827abf8c47804d7b1a9953c4611296a827abf8c47804d71 } ]";

fn gateway(config: &str) -> Arc<Gateway> {
    // As the program does at its start; a second call finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loaded = Config::parse(config, "test", &|_| None, &Overrides::default()).unwrap();
    Arc::new(Gateway::new(loaded.config).unwrap())
}

async fn ask(
    router: Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, String) {
    let peer = SocketAddr::from(([127, 0, 0, 1], 4000));
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

const REBOUND: &[(&str, &str)] = &[("host", "attacker.example")];
const CROSS_ORIGIN: &[(&str, &str)] = &[
    ("host", "localhost:8080"),
    ("origin", "https://attacker.example"),
];
const CROSS_SITE: &[(&str, &str)] = &[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")];

#[tokio::test]
async fn every_path_of_a_gateway_without_keys_is_protected() {
    let gateway = gateway("{}");
    for headers in [REBOUND, CROSS_ORIGIN, CROSS_SITE] {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/v1/models"),
            (Method::GET, "/v1/streams?model=demo&prompt=Hello"),
            (Method::POST, "/v1/streams"),
            (Method::POST, "/v1/chat/completions"),
            (Method::GET, "/no/such/path"),
        ] {
            let router = server::client_router(Arc::clone(&gateway));
            let (status, body) = ask(router, method.clone(), path, headers).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {headers:?}");
            assert!(body.contains("forbidden"), "{body}");
        }
    }
}

#[tokio::test]
async fn a_gateway_with_keys_or_open_to_all_is_not_restricted() {
    for config in [KEYS, "open: true"] {
        let gateway = gateway(config);
        for headers in [REBOUND, CROSS_ORIGIN, CROSS_SITE] {
            let router = server::client_router(Arc::clone(&gateway));
            let (status, _) = ask(router, Method::GET, "/", headers).await;
            assert_eq!(status, StatusCode::OK, "{config} {headers:?}");
        }
    }
}

#[tokio::test]
async fn the_admin_listener_is_protected_and_its_probes_are_not() {
    let gateway = gateway(KEYS);
    for headers in [REBOUND, CROSS_ORIGIN, CROSS_SITE] {
        for (path, expected) in [
            ("/metrics", StatusCode::FORBIDDEN),
            ("/livez", StatusCode::OK),
            ("/readyz", StatusCode::OK),
        ] {
            let router = server::admin_router(Arc::clone(&gateway));
            let (status, _) = ask(router, Method::GET, path, headers).await;
            assert_eq!(status, expected, "{path} {headers:?}");
        }
    }
    // Prometheus comes by the pod's address.
    let router = server::admin_router(gateway);
    let (status, _) = ask(
        router,
        Method::GET,
        "/metrics",
        &[("host", "10.0.3.7:9090")],
    )
    .await;
    assert_eq!(status, StatusCode::OK);
}
