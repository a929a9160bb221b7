//! Failover: one target after another, until the first content commits to one.

use http::StatusCode;
use serde_json::json;
use sluicegate::fixture::{Fault, Options};

use super::client::{ClientRequest, outcome, text};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream, event, role};
use super::{REST, within_timeout};
use crate::fixture_server::{fast, serve};

fn broken(fault: Fault) -> Options {
    Options {
        fault: Some(fault),
        ..fast()
    }
}

fn status(status: u16) -> Fault {
    Fault::Status(StatusCode::from_u16(status).unwrap())
}

/// What a scripted upstream does before its first content.
type Script = fn(Exchange) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[tokio::test]
async fn a_target_that_fails_before_its_first_content_fails_over() {
    let good = serve(&fast());
    for fault in [
        Fault::Refuse,
        status(401),
        status(402),
        status(403),
        status(404),
        status(408),
        status(429),
        status(500),
        status(503),
        status(529),
        Fault::Hang,
        Fault::Stall { after: 0 },
        Fault::Truncate { after: 0 },
        Fault::Reset { after: 0 },
        Fault::Garbage { after: 0 },
    ] {
        let bad = serve(&broken(fault));
        let running = TestGateway::with_upstreams(
            &[bad.addr(), good.addr()],
            "timeouts: { first_token: 300ms }",
        );
        let before = good.request_count();
        let events = running.prompt().await.events().await;
        assert_eq!(outcome(&events), "", "{fault:?}");
        assert_eq!(events[0].data["upstream"], "b", "{fault:?}");
        let asked = u64::from(fault != Fault::Refuse);
        assert_eq!(bad.request_count(), asked, "{fault:?}");
        assert_eq!(good.request_count() - before, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn errors_and_nonsense_under_status_200_fail_over() {
    let good = serve(&fast());
    let scripts: &[(&str, Script)] = &[
        ("html", |mut exchange| {
            Box::pin(async move {
                let page = "<!doctype html><p>Login</p>";
                exchange
                    .answer(200, "content-type: text/html\r\n", page)
                    .await;
            })
        }),
        ("a JSON error", |mut exchange| {
            Box::pin(async move {
                exchange
                    .answer(200, "", "{\"error\":{\"message\":\"no\"}}")
                    .await;
            })
        }),
        ("other JSON", |mut exchange| {
            Box::pin(async move { exchange.answer(200, "", "{\"ok\":true}").await })
        }),
        ("nothing", |mut exchange| {
            Box::pin(async move { exchange.answer(200, "", "").await })
        }),
        ("an error event", |mut exchange| {
            Box::pin(async move {
                exchange.begin().await;
                exchange.chunk(role()).await;
                exchange
                    .chunk(event(&json!({"error": {"message": "busy"}})))
                    .await;
                exchange.closed().await;
            })
        }),
        ("a compressed body", |mut exchange| {
            Box::pin(async move {
                exchange
                    .answer(200, "content-encoding: gzip\r\n", "\u{1f}\u{8}")
                    .await;
            })
        }),
        ("a role and a reset", |mut exchange| {
            Box::pin(async move {
                exchange.begin().await;
                exchange.chunk(role()).await;
                exchange.reset();
            })
        }),
        ("no HTTP", |mut exchange| {
            Box::pin(async move { exchange.write("220 smtp ready\r\n\r\n").await })
        }),
        ("a closed connection", |exchange| {
            Box::pin(async move { drop(exchange) })
        }),
    ];
    for (what, script) in scripts {
        let bad = ScriptedUpstream::bind().await;
        let running = TestGateway::with_upstreams(&[bad.addr(), good.addr()], "");
        let answering = async { script(bad.request().await).await };
        let (mut answer, ()) = tokio::join!(running.prompt(), answering);
        let events = answer.events().await;
        assert_eq!(outcome(&events), "", "{what}");
        assert_eq!(events[0].data["upstream"], "b", "{what}");
        assert!(!bad.was_asked_again(), "{what}");
    }
}

#[tokio::test]
async fn an_answer_without_content_is_an_http_error() {
    let scripts: &[(&str, &str, Script)] = &[
        ("an empty body", "bad_upstream_data", |mut exchange| {
            Box::pin(async move { exchange.answer(200, "", "").await })
        }),
        ("no content", "bad_upstream_data", |mut exchange| {
            Box::pin(async move { exchange.write("HTTP/1.1 204 No Content\r\n\r\n").await })
        }),
        ("blank lines", "bad_upstream_data", |mut exchange| {
            Box::pin(async move { exchange.answer(200, "", "\n\n").await })
        }),
        ("a role", "upstream_unavailable", |mut exchange| {
            Box::pin(async move {
                exchange.begin().await;
                exchange.chunk(role()).await;
                exchange.end().await;
            })
        }),
        (
            "a role and a reset",
            "upstream_unavailable",
            |mut exchange| {
                Box::pin(async move {
                    exchange.begin().await;
                    exchange.chunk(role()).await;
                    exchange.reset();
                })
            },
        ),
    ];
    for (what, code, script) in scripts {
        let bad = ScriptedUpstream::bind().await;
        let running = TestGateway::with_upstreams(&[bad.addr()], "");
        let answering = async { script(bad.request().await).await };
        let (mut answer, ()) = tokio::join!(running.prompt(), answering);
        assert_eq!(answer.status(), 502, "{what}");
        let error = answer.error().await;
        assert_eq!(error["code"], *code, "{what}");
        assert_eq!(error["retryable"], true, "{what}");
    }
}

#[tokio::test]
async fn a_refused_request_does_not_fail_over() {
    for refused in [400, 413, 422] {
        let bad = serve(&broken(status(refused)));
        let good = serve(&fast());
        let running = TestGateway::with_upstreams(&[bad.addr(), good.addr()], "");
        let mut answer = running.prompt().await;
        assert_eq!(answer.status(), refused);
        let error = answer.error().await;
        assert_eq!(error["code"], "upstream_rejected");
        assert_eq!(error["origin"], "upstream");
        assert_eq!(error["retryable"], false);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("was told to answer"), "{message}");
        assert_eq!(good.request_count(), 0);
    }
}

#[tokio::test]
async fn if_all_targets_are_rate_limited_the_longest_wait_is_reported() {
    let limiting = async |after: &str| {
        let upstream = ScriptedUpstream::bind().await;
        let (addr, header) = (upstream.addr(), format!("retry-after: {after}\r\n"));
        let answering = async move {
            let mut exchange = upstream.request().await;
            exchange
                .answer(429, &header, "{\"error\":{\"message\":\"slow\"}}")
                .await;
        };
        (addr, answering)
    };
    let (a, first) = limiting("3").await;
    let (b, second) = limiting("41.2").await;
    let (c, third) = limiting("7").await;
    let running = TestGateway::with_upstreams(&[a, b, c], "");
    let (mut answer, ..) = tokio::join!(running.prompt(), first, second, third);
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.header("retry-after"), "42");
    let error = answer.error().await;
    assert_eq!(error["code"], "upstream_rate_limited");
    assert_eq!(error["retryable"], true);
}

#[tokio::test]
async fn a_mix_of_failures_is_not_reported_as_a_rate_limit() {
    for mix in [[429, 500], [500, 429]] {
        let targets = mix.map(|code| serve(&broken(status(code))));
        let addrs = [targets[0].addr(), targets[1].addr()];
        let mut answer = TestGateway::with_upstreams(&addrs, "").prompt().await;
        assert_eq!(answer.status(), 502, "{mix:?}");
        assert_eq!(answer.error().await["code"], "upstream_unavailable");
    }
}

#[tokio::test]
async fn a_refused_credential_is_not_reported_in_detail() {
    for code in [401, 402, 403] {
        let upstream = serve(&broken(status(code)));
        let mut answer = TestGateway::with_upstreams(&[upstream.addr()], "")
            .prompt()
            .await;
        assert_eq!(answer.status(), 502);
        assert!(!answer.has("www-authenticate"));
        let error = answer.error().await;
        assert_eq!(error["code"], "upstream_auth");
        assert!(
            !error["message"]
                .as_str()
                .unwrap()
                .contains("told to answer")
        );
    }
}

#[tokio::test]
async fn after_content_there_is_no_failover() {
    for fault in [
        Fault::Truncate { after: 10 },
        Fault::Reset { after: 10 },
        Fault::Garbage { after: 10 },
        Fault::Stall { after: 10 },
    ] {
        let bad = serve(&broken(fault));
        let good = serve(&fast());
        let running =
            TestGateway::with_upstreams(&[bad.addr(), good.addr()], "timeouts: { idle: 200ms }");
        let events = running.prompt().await.events().await;
        assert_eq!(events[0].data["upstream"], "a", "{fault:?}");
        assert!(!text(&events).is_empty(), "{fault:?}");
        assert_ne!(outcome(&events), "", "{fault:?}");
        assert_eq!(good.request_count(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_request_on_a_reused_connection_is_not_sent_twice() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin_and_stay().await;
        exchange.token("hello").await;
        exchange.finish().await;
        assert!(exchange.next_request().await);
        // The bytes of the second request arrived, so it may have been billed already.
        drop(exchange);
    };
    let asking = async {
        running.prompt().await.events().await;
        running.wait_idle().await;
        tokio::time::sleep(REST).await;
        let mut answer = running.prompt().await;
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.error().await["code"], "upstream_unavailable");
    };
    tokio::join!(answering, asking);
    assert!(!upstream.was_asked_again());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = serve(&fast());
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for code in [301, 307, 308] {
        let location = format!(
            "location: http://{}/v1/chat/completions\r\n",
            elsewhere.addr()
        );
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange.answer(code, &location, "").await;
        };
        let (mut answer, ()) = tokio::join!(running.prompt(), answering);
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.error().await["code"], "upstream_unavailable");
    }
    assert_eq!(elsewhere.request_count(), 0);
}

#[tokio::test]
async fn failover_continues_after_heartbeats() {
    let slow = serve(&broken(Fault::Hang));
    let good = serve(&fast());
    let running = TestGateway::with_upstreams(
        &[slow.addr(), good.addr()],
        "timeouts: { first_token: 300ms }\nheartbeat: 50ms",
    );
    let mut answer = running.ask(&ClientRequest::prompt("m")).await;
    let events = answer.events().await;
    assert_eq!(events[0].data["upstream"], "b");
    assert_eq!(outcome(&events), "");
    within_timeout(slow.closed_by_client(1)).await;
    let failures = "sluicegate_upstream_errors_total{upstream=\"a\",code=\"upstream_timeout\"}";
    assert_eq!(running.metric(failures).await, 1.0);
}
