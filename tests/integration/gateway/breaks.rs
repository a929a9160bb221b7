//! Answers that break, or continue after their end: exactly one terminal event, nothing invented,
//! nothing lost.

use sluicegate::fixture::{Fault, Options};
use sluicegate::wire;

use super::answers::every_wire;
use super::client::{Answer, ClientRequest, outcome, text};
use super::harness::{TestGateway, targets};
use super::scripted::{Exchange, ScriptedUpstream, finish, role, token};
use super::within_timeout;
use crate::fixture_server::{fast, serve};

/// Answers one request with a script.
async fn played(
    running: &TestGateway,
    upstream: &ScriptedUpstream,
    script: impl AsyncFn(Exchange),
) -> Answer {
    let answering = async { script(upstream.request().await).await };
    tokio::join!(running.prompt(), answering).0
}

#[tokio::test]
async fn a_broken_stream_of_any_wire_ends_in_an_error() {
    let whole = serve(&fast());
    let running = TestGateway::start(&every_wire(whole.addr(), ""));
    let mut answers = Vec::new();
    for wire in wire::ALL {
        let asked = ClientRequest::prompt(&format!("{}/text", wire.name()));
        answers.push((
            asked.clone(),
            text(&running.ask(&asked).await.events().await),
        ));
    }
    for (fault, code) in [
        (Fault::Truncate { after: 6 }, "stream_interrupted"),
        (Fault::Reset { after: 6 }, "stream_interrupted"),
        (Fault::Garbage { after: 6 }, "bad_upstream_data"),
        (Fault::Stall { after: 6 }, "stream_stalled"),
    ] {
        let upstream = serve(&Options {
            fault: Some(fault),
            ..fast()
        });
        let running = TestGateway::start(&every_wire(upstream.addr(), "timeouts: { idle: 200ms }"));
        for (asked, whole) in &answers {
            let events = running.ask(asked).await.events().await;
            let what = format!("{fault:?} of {}", events[0].data["model"]);
            assert_eq!(outcome(&events), code, "{what}");
            let text = text(&events);
            assert!(
                !text.is_empty() && whole.starts_with(&text),
                "{what}: {text}"
            );
            assert_ne!(&text, whole, "{what}");
        }
        running.wait_idle().await;
    }
}

#[tokio::test]
async fn content_before_a_break_in_the_same_read_is_delivered() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let breaks: [(&str, &str); 4] = [
        ("data: {\"choices\":\n\n", "bad_upstream_data"),
        ("data: <html>hello</html>\n\n", "bad_upstream_data"),
        (
            "data: {\"error\":{\"message\":\"busy\"}}\n\n",
            "upstream_error",
        ),
        (
            "error: {\"code\":500,\"message\":\"busy\"}\n\n",
            "upstream_error",
        ),
    ];
    for (broken, code) in breaks {
        let mut answer = played(&running, &upstream, async |mut exchange| {
            exchange.begin().await;
            let all = role() + &token("one ") + &token("two") + broken + &token("three");
            exchange.chunk(all + &finish()).await;
            exchange.closed().await;
        })
        .await;
        let events = answer.events().await;
        assert_eq!(text(&events), "one two");
        assert_eq!(outcome(&events), code, "{broken}");
        let message = events.last().unwrap().data["error"]["message"].to_string();
        assert!(!message.contains("hello"), "{message}");
    }
}

#[tokio::test]
async fn every_early_end_is_an_interruption() {
    let scripts: [(&str, &str); 5] = [
        ("between two events", ""),
        ("inside an event", "data: {\"choices\":[{\"del"),
        (
            "before the blank line of a token",
            "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n",
        ),
        ("inside a character", "data: \u{fffd}"),
        ("behind a comment", ": PROCESSING\n\n"),
    ];
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (what, rest) in scripts {
        let mut answer = played(&running, &upstream, async |mut exchange| {
            exchange.begin().await;
            exchange.token("one").await;
            if !rest.is_empty() {
                exchange.chunk(rest).await;
            }
            exchange.end().await;
        })
        .await;
        let events = answer.events().await;
        assert_eq!(
            (text(&events).as_str(), outcome(&events)),
            ("one", "stream_interrupted"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_break_inside_the_transfer_coding_is_an_interruption() {
    let scripts: [(&str, &str, &str); 4] = [
        ("no last chunk", "transfer-encoding: chunked", ""),
        (
            "half a chunk",
            "transfer-encoding: chunked",
            "40\r\ndata: {",
        ),
        ("no chunk at all", "transfer-encoding: chunked", "zz\r\n"),
        ("less than promised", "content-length: 100000", ""),
    ];
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (what, coding, rest) in scripts {
        let mut answer = played(&running, &upstream, async |mut exchange| {
            exchange
                .write(format!("HTTP/1.1 200 OK\r\n{coding}\r\n\r\n"))
                .await;
            if coding.contains("chunked") {
                exchange.token("one").await;
            } else {
                exchange.write(token("one")).await;
            }
            exchange.write(rest).await;
        })
        .await;
        let events = answer.events().await;
        assert_eq!(
            (text(&events).as_str(), outcome(&events)),
            ("one", "stream_interrupted"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn events_after_the_end_are_ignored() {
    let trailing = [
        finish(),
        "data: [DONE]\n\n".repeat(3),
        token("ghost"),
        "data: {{{\n\n".to_owned(),
        "data: {\"error\":{\"message\":\"late\"}}\n\n".to_owned(),
        "\u{0}".repeat(1000),
    ];
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for rest in &trailing {
        for together in [true, false] {
            let mut answer = played(&running, &upstream, async |mut exchange| {
                exchange.begin().await;
                exchange.token("one").await;
                if together {
                    exchange.chunk(finish() + rest).await;
                } else {
                    exchange.chunk(finish()).await;
                    // The gateway may have closed the connection already.
                    exchange.try_chunk(rest).await;
                }
            })
            .await;
            let events = answer.events().await;
            assert_eq!((text(&events).as_str(), outcome(&events)), ("one", ""));
        }
    }
}

#[tokio::test]
async fn the_terminal_event_ends_a_stream_whatever_the_upstream_does() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(token("one") + &finish()).await;
        exchange
    };
    let (mut answer, mut exchange) = tokio::join!(running.prompt(), answering);
    // The upstream's body is still open.
    assert_eq!(outcome(&answer.events().await), "");
    running.wait_idle().await;
    // An endless body is cut off.
    let endless = token("ghost").repeat(100);
    within_timeout(async { while exchange.try_chunk(&endless).await {} }).await;
}

#[tokio::test]
async fn broken_utf8_is_repaired_and_counted() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut answer = played(&running, &upstream, async |mut exchange| {
        exchange.begin().await;
        exchange
            .chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xffb\"}}]}\n\n")
            .await;
        exchange.finish().await;
    })
    .await;
    let events = answer.events().await;
    assert_eq!(
        (text(&events).as_str(), outcome(&events)),
        ("a\u{fffd}b", "")
    );
    running.wait_idle().await;
    assert_eq!(running.metric("sluicegate_repaired_lines_total").await, 1.0);
}

#[tokio::test]
async fn frames_that_are_not_json_are_skipped_and_counted_up_to_a_bound() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let skipped = async |wanted: f64| {
        running.wait_idle().await;
        let name = "sluicegate_skipped_frames_total{upstream=\"a\"}";
        assert_eq!(running.metric(name).await, wanted);
    };
    let ping = "data: ping\n\n";
    let mut answer = played(&running, &upstream, async |mut exchange| {
        exchange.begin().await;
        let pings = ping.repeat(16);
        let all = role() + &token("one ") + &pings + &token("two") + &pings + &finish();
        exchange.chunk(all).await;
        exchange.finish().await;
    })
    .await;
    let events = answer.events().await;
    assert_eq!((text(&events).as_str(), outcome(&events)), ("one two", ""));
    skipped(32.0).await;
    let mut answer = played(&running, &upstream, async |mut exchange| {
        exchange.begin().await;
        exchange
            .chunk(role() + &token("one") + &ping.repeat(17))
            .await;
        exchange.closed().await;
    })
    .await;
    let events = answer.events().await;
    assert_eq!(text(&events), "one");
    assert_eq!(outcome(&events), "bad_upstream_data");
    skipped(49.0).await;
}

#[tokio::test]
async fn reasoning_is_taken_out_of_the_text_where_the_config_says_so() {
    let upstream = ScriptedUpstream::bind().await;
    let said = ["<th", "ink>Hm.</thi", "nk>", "Four."];
    for (setting, words, thought) in [
        ("think_tags: reasoning", "Four.", "Hm."),
        ("think_tags: text", "<think>Hm.</think>Four.", ""),
    ] {
        let config = targets(&[upstream.addr()], "");
        let running = TestGateway::start(&config.replace(
            "wire: openai-chat,",
            &format!("wire: openai-chat, {setting},"),
        ));
        let mut answer = played(&running, &upstream, async |mut exchange| {
            exchange.begin().await;
            for piece in said {
                exchange.chunk(token(piece)).await;
            }
            exchange.chunk(finish()).await;
            exchange.finish().await;
        })
        .await;
        let events = answer.events().await;
        assert_eq!(
            (text(&events).as_str(), outcome(&events)),
            (words, ""),
            "{setting}"
        );
        let reasoning = events.iter().filter(|event| event.name == "reasoning");
        let reasoning: String = reasoning
            .filter_map(|event| event.data["text"].as_str())
            .collect();
        assert_eq!(reasoning, thought, "{setting}");
    }
}

#[tokio::test]
async fn a_compressed_answer_is_refused() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for encoding in ["gzip", "br", "deflate", "zstd"] {
        let mut answer = played(&running, &upstream, async |mut exchange| {
            assert!(exchange.head.contains("\r\naccept-encoding: identity\r\n"));
            let headers = format!("content-encoding: {encoding}\r\n");
            exchange
                .answer(200, &headers, "data: secret words\n\n")
                .await;
        })
        .await;
        assert_eq!(answer.status(), 502);
        let error = answer.error().await;
        assert_eq!(error["code"], "bad_upstream_data");
        assert!(!error.to_string().contains("secret words"));
    }
}

#[tokio::test]
async fn a_body_that_is_no_stream_is_reported_without_quoting_it() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    for (body, code) in [
        ("<html>internal page</html>", "bad_upstream_data"),
        ("{\"internal\":\"page\"}", "bad_upstream_data"),
        ("internal page", "bad_upstream_data"),
        ("{\"error\":{\"message\":\"too busy\"}}", "upstream_error"),
    ] {
        let mut answer = played(&running, &upstream, async |mut exchange| {
            exchange.answer(200, "", body).await;
        })
        .await;
        assert_eq!(answer.status(), 502);
        let error = answer.error().await;
        assert_eq!(error["code"], code, "{body}");
        assert!(!error.to_string().contains("internal page"), "{error}");
        assert_eq!(error["message"] == "too busy", code == "upstream_error");
    }
}

#[tokio::test]
async fn an_unstreamed_answer_becomes_one_token() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut answer = played(&running, &upstream, async |mut exchange| {
        let body = "{\"choices\":[{\"message\":{\"content\":\"All of it.\"},\
                    \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
        exchange.answer(200, "content-type: application/json\r\n", body).await;
    })
    .await;
    let events = answer.events().await;
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["start", "token", "complete"]);
    assert_eq!(text(&events), "All of it.");
    assert_eq!(events[2].data["usage"]["output_tokens"], 4);
}

#[tokio::test]
async fn a_frame_over_the_cap_ends_the_stream() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "limits: { frame: 64KiB }");
    for many_lines in [false, true] {
        let mut answer = played(&running, &upstream, async |mut exchange| {
            exchange.begin().await;
            exchange.token("one").await;
            let piece = if many_lines {
                "data: x\n".repeat(1000)
            } else {
                "x".repeat(8000)
            };
            exchange.chunk("data: ").await;
            while exchange.try_chunk(&piece).await {}
        })
        .await;
        let events = answer.events().await;
        assert_eq!(
            (text(&events).as_str(), outcome(&events)),
            ("one", "bad_upstream_data")
        );
    }
}

#[tokio::test]
async fn a_line_of_4_mebibytes_passes() {
    let long = "0123456789abcdef".repeat(256 * 1024);
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut answer = played(&running, &upstream, async |mut exchange| {
        exchange.begin().await;
        for piece in token(&long).as_bytes().chunks(16 * 1024) {
            exchange.chunk(piece).await;
        }
        exchange.finish().await;
    })
    .await;
    let events = answer.events().await;
    assert!(text(&events) == long);
    assert_eq!(outcome(&events), "");
}

#[tokio::test]
async fn single_bytes_decode_to_the_same_answer() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let mut answer = played(&running, &upstream, async |mut exchange| {
        exchange.begin().await;
        let all = format!("\u{feff}{}{}{}", role(), token("é, 语 and 🦀"), finish());
        for byte in all.replace('\n', "\r").as_bytes() {
            exchange.chunk([*byte]).await;
        }
        exchange.end().await;
    })
    .await;
    let events = answer.events().await;
    assert_eq!(
        (text(&events).as_str(), outcome(&events)),
        ("é, 语 and 🦀", "")
    );
}
