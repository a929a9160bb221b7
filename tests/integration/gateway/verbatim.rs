//! Clients that speak the upstream's own protocol: they lose nothing compared with the vendor itself.

use serde_json::{Value, json};

use super::client::{Answer, ClientRequest};
use super::harness::TestGateway;
use super::scripted::{Exchange, ScriptedUpstream};

/// The model `m` with these upstreams as its targets, which have the settings `upstream`.
fn gateway(upstreams: &[&ScriptedUpstream], upstream: &str, settings: &str) -> TestGateway {
    let mut declared = String::new();
    let mut targets = String::new();
    for (at, one) in upstreams.iter().enumerate() {
        let addr = one.addr();
        declared.push_str(&format!(
            "  u{at}: {{ {upstream}, base_url: 'http://{addr}/v1', api_key: k-{at}-secret }}\n"
        ));
        targets.push_str(&format!(
            "{{ upstream: u{at}, model: theirs, priority: {at} }}, "
        ));
    }
    TestGateway::start(&format!(
        "upstreams:\n{declared}models:\n  m: {{ targets: [ {targets} ], retry: off }}\n{settings}\n"
    ))
}

const OPENAI: &str = "preset: openai";
const ANTHROPIC: &str = "wire: anthropic-messages";
const RESPONSES: &str = "wire: openai-responses";

fn asked(path: &str, body: &str) -> ClientRequest {
    ClientRequest {
        body: body.as_bytes().to_vec(),
        ..ClientRequest::new("POST", path)
    }
}

/// Everything that the client gets, without the gateway's heartbeats.
async fn rest(answer: &mut Answer) -> String {
    let mut rest = String::new();
    while let Some(chunk) = answer.chunk().await {
        rest.push_str(&chunk);
    }
    rest.replace(": keep-alive\n\n", "").replace(PING, "")
}

/// How many answers had a first token.
const FIRST_TOKENS: &str = "sluicegate_first_token_seconds_count";

const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

async fn answer_with(exchange: &mut Exchange, body: &str) {
    exchange.begin().await;
    exchange.chunk(body).await;
    exchange.end().await;
}

const CHAT: &str = concat!(
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"theirs-2\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"obfuscation\":\"x7\"}\n\n",
    "data: {\"id\":\"c1\", \"new\":{\"a\":1.0}, \"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\\u00e9\"},\"logprobs\":null}]}\n\n",
    "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"service_tier\":\"flex\"}\n\n",
);
const CHAT_USAGE: &str = "data: {\"id\":\"c1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[tokio::test]
async fn chunks_reach_a_chat_client_as_they_are() {
    for usage_wanted in [false, true] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[&upstream], OPENAI, "");
        let options = if usage_wanted {
            r#","stream_options":{"include_usage":true}"#
        } else {
            ""
        };
        let body = format!(
            r#"{{ "stream":true, "temperature": 1.0, "model":"m", "messages":[{{"role":"developer","content":"\u00e9"}}], "seed":12345678901234567{options} }}"#
        );
        let request = asked("/v1/chat/completions", &body).header("openai-beta", "x=v1");
        let answering = async {
            let mut exchange = upstream.request().await;
            assert!(exchange.head.contains("\r\nopenai-beta: x=v1\r\n"));
            let sent = String::from_utf8(exchange.body.clone()).unwrap();
            assert_eq!(
                sent,
                r#"{"stream":true,"temperature":1.0,"model":"theirs","messages":[{"role":"developer","content":"\u00e9"}],"seed":12345678901234567,"stream_options":{"include_usage":true}}"#
            );
            answer_with(&mut exchange, &[CHAT, CHAT_USAGE, DONE].concat()).await;
        };
        let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
        let expected = if usage_wanted {
            [CHAT, CHAT_USAGE, DONE].concat()
        } else {
            [CHAT, DONE].concat()
        };
        assert_eq!(rest(&mut answer).await, expected);
        let (_, metrics) = running.admin("/metrics").await;
        let counted = metrics
            .lines()
            .any(|line| line.starts_with("sluicegate_tokens_total{") && line.ends_with(" 3"));
        assert!(counted, "the usage is counted all the same: {metrics}");
        assert_eq!(running.metric(FIRST_TOKENS).await, 1.0);
    }
}

#[tokio::test]
async fn a_whole_chat_answer_has_the_vendors_fields() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], OPENAI, "");
    let request = asked(
        "/v1/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#,
    );
    let answering = async {
        let mut exchange = upstream.request().await;
        answer_with(&mut exchange, &[CHAT, CHAT_USAGE, DONE].concat()).await;
    };
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let whole: Value = serde_json::from_slice(&answer.body().await).unwrap();
    let expected = json!({
        "id": "c1",
        "object": "chat.completion",
        "model": "theirs-2",
        "new": {"a": 1.0},
        "service_tier": "flex",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "Hi\u{e9}"},
            "logprobs": null,
            "finish_reason": "stop",
        }],
    });
    assert_eq!(whole, expected);
}

const MESSAGE_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"theirs-2\",\"content\":[],\"usage\":{\"input_tokens\":3,\"service_tier\":\"standard\"}}}\n\n";
const MESSAGE: &str = concat!(
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"server_tool_use\",\"id\":\"s1\",\"name\":\"web_search\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"query\\\":1.0}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"s1\",\"content\":[{\"type\":\"web_search_result\",\"url\":\"https://example.com\",\"encrypted_content\":\"abc\"}]}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
    "event: novelty\ndata: {\"type\":\"novelty\",\"more\":true}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"END\"},\"usage\":{\"output_tokens\":5,\"server_tool_use\":{\"web_search_requests\":1}},\"context_management\":{\"applied_edits\":[]}}\n\n",
);
const MESSAGE_STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn hello(stream: bool) -> ClientRequest {
    let body = format!(
        r#"{{"model":"m","max_tokens":9,"stream":{stream},"messages":[{{"role":"user","content":"Hi"}}]}}"#
    );
    asked("/v1/messages", &body)
}

#[tokio::test]
async fn events_reach_a_client_of_messages_as_they_are() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], ANTHROPIC, "");
    let request = hello(true)
        .header("anthropic-version", "2024-01-01")
        .header("anthropic-beta", "a,b")
        .header("anthropic-novelty", "yes");
    let answering = async {
        let mut exchange = upstream.request().await;
        for header in [
            "anthropic-version: 2024-01-01",
            "anthropic-beta: a,b",
            "anthropic-novelty: yes",
        ] {
            let line = format!("\r\n{header}\r\n");
            assert!(exchange.head.contains(&line), "{}", exchange.head);
        }
        answer_with(
            &mut exchange,
            &[MESSAGE_START, MESSAGE, MESSAGE_STOP].concat(),
        )
        .await;
    };
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = rest(&mut answer).await;
    assert_eq!(got, [MESSAGE_START, MESSAGE, MESSAGE_STOP].concat());
}

#[tokio::test]
async fn a_whole_message_has_the_vendors_fields() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], ANTHROPIC, "");
    let answering = async {
        let mut exchange = upstream.request().await;
        answer_with(
            &mut exchange,
            &[MESSAGE_START, MESSAGE, MESSAGE_STOP].concat(),
        )
        .await;
    };
    let request = hello(false);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let text = String::from_utf8(answer.body().await).unwrap();
    assert!(text.contains(r#""input":{"query":1.0}"#), "{text}");
    let whole: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "theirs-2",
        "content": [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": 1.0}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [
                {"type": "web_search_result", "url": "https://example.com", "encrypted_content": "abc"},
            ]},
            {"type": "text", "text": "Hi"},
        ],
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "usage": {
            "input_tokens": 3,
            "service_tier": "standard",
            "output_tokens": 5,
            "server_tool_use": {"web_search_requests": 1},
        },
        "context_management": {"applied_edits": []},
    });
    assert_eq!(whole, expected);
}

#[tokio::test]
async fn a_broken_answer_ends_in_an_error_and_not_in_the_vendors_end() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], ANTHROPIC, "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk([MESSAGE_START, MESSAGE].concat()).await;
        exchange.reset();
    };
    let request = hello(true);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = rest(&mut answer).await;
    let end = got
        .strip_prefix(&[MESSAGE_START, MESSAGE].concat())
        .unwrap();
    assert!(
        end.starts_with(
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""
        ),
        "{end}"
    );
    assert_eq!(end.matches("event: ").count(), 1, "{end}");
}

#[tokio::test]
async fn the_vendors_own_error_event_is_the_only_one() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Busy\"},\"request_id\":\"r\"}\n\n";
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], ANTHROPIC, "");
    let answering = async {
        let mut exchange = upstream.request().await;
        answer_with(&mut exchange, &[MESSAGE_START, MESSAGE, error].concat()).await;
    };
    let request = hello(true);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = rest(&mut answer).await;
    assert_eq!(got, [MESSAGE_START, MESSAGE, error].concat());
}

#[tokio::test]
async fn opening_events_are_held_back_for_the_next_target() {
    let [first, second] = [
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    ];
    let running = gateway(&[&first, &second], ANTHROPIC, "");
    let answering = async {
        let mut exchange = first.request().await;
        exchange.begin().await;
        let opening = MESSAGE_START.replace("msg_1", "msg_0");
        exchange.chunk(opening).await;
        exchange.end().await;
        let mut exchange = second.request().await;
        answer_with(
            &mut exchange,
            &[MESSAGE_START, MESSAGE, MESSAGE_STOP].concat(),
        )
        .await;
    };
    let request = hello(true);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = rest(&mut answer).await;
    assert_eq!(got, [MESSAGE_START, MESSAGE, MESSAGE_STOP].concat());
}

#[tokio::test]
async fn opening_events_are_passed_on_with_the_first_heartbeat() {
    let [first, second] = [
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    ];
    let running = gateway(&[&first, &second], ANTHROPIC, "heartbeat: 50ms");
    let answering = async {
        let mut exchange = first.request().await;
        exchange.begin().await;
        exchange.chunk(MESSAGE_START).await;
        exchange
    };
    let request = hello(true);
    let (mut answer, exchange) = tokio::join!(running.ask(&request), answering);
    let mut opening = String::new();
    while !opening.contains("message_start") {
        opening.push_str(&answer.chunk().await.unwrap());
    }
    assert_eq!(opening.replace(PING, ""), MESSAGE_START);
    // From here on this target is the answer's.
    exchange.reset();
    let end = rest(&mut answer).await;
    assert!(end.starts_with("event: error\n"), "{end}");
    assert!(!second.was_asked_again());
    running.wait_idle().await;
    assert_eq!(running.metric(FIRST_TOKENS).await, 0.0, "no token came");
}

#[tokio::test]
async fn a_refusal_keeps_its_status_body_and_retry_advice() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], ANTHROPIC, "");
    let body = r#"{"type":"error", "error":{"type":"overloaded_error","message":"Busy k-0-secret"},"request_id":"req_v"}"#;
    let headers =
        "retry-after: 7\r\nx-should-retry: true\r\nretry-after-ms: 6500\r\nset-cookie: a=b\r\n";
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.answer(529, headers, body).await;
    };
    let request = hello(true);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    assert_eq!(answer.status(), 529);
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.header("retry-after-ms"), "6500");
    assert_eq!(answer.header("x-should-retry"), "true");
    assert!(!answer.has("set-cookie"));
    let got = String::from_utf8(answer.body().await).unwrap();
    assert_eq!(got, body.replace("k-0-secret", "[redacted]"));
}

#[tokio::test]
async fn a_refusal_of_the_gateways_credential_stays_the_gateways() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], OPENAI, "");
    let body = r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.answer(401, "", body).await;
    };
    let request = asked(
        "/v1/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#,
    );
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    assert_eq!(answer.status(), 502);
    assert!(!answer.has("x-should-retry"), "trying again may help");
    let got: Value = serde_json::from_slice(&answer.body().await).unwrap();
    assert_eq!(got["error"]["code"], "upstream_auth");
}

const RESPONSE: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"model\":\"theirs-2\",\"output\":[]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,\"item\":{\"id\":\"mc_1\",\"type\":\"mcp_call\",\"namespace\":\"tools\",\"name\":\"find\"}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":2,\"output_index\":1,\"item\":{\"id\":\"m_1\",\"type\":\"message\",\"phase\":\"final\",\"role\":\"assistant\",\"content\":[]}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":3,\"item_id\":\"m_1\",\"output_index\":1,\"content_index\":0,\"delta\":\"Hi\",\"logprobs\":[]}\n\n",
    "event: response.novelty\ndata: {\"type\":\"response.novelty\",\"sequence_number\":4}\n\n",
);
const RESPONSE_OBJECT: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"theirs-2","output":[{"id":"mc_1","type":"mcp_call"},{"id":"m_1","type":"message","phase":"final","role":"assistant","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4},"novelty":1.0}"#;

fn response_end() -> String {
    format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":5,\"response\":{RESPONSE_OBJECT}}}\n\n"
    )
}

#[tokio::test]
async fn events_reach_a_client_of_responses_as_they_are() {
    for stream in [true, false] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[&upstream], RESPONSES, "");
        let body = format!(r#"{{"model":"m","input":"Hi","stream":{stream}}}"#);
        let request = asked("/v1/responses", &body);
        let sent = [RESPONSE, &response_end()].concat();
        let answering = async {
            let mut exchange = upstream.request().await;
            answer_with(&mut exchange, &sent).await;
        };
        let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
        if stream {
            assert_eq!(rest(&mut answer).await, sent);
        } else {
            let got = String::from_utf8(answer.body().await).unwrap();
            assert_eq!(got, RESPONSE_OBJECT);
        }
    }
}

/// The same events from a server that sends no names of events.
fn without_names(events: &str) -> String {
    let lines = events.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("event: ")).collect()
}

#[tokio::test]
async fn a_whole_response_needs_no_names_of_events() {
    for end in [
        response_end(),
        "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"message\"}}\n\n\
         data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"t\":1.0,\"output\":[]}}\n\n"
            .to_owned(),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[&upstream], RESPONSES, "");
        let request = asked("/v1/responses", r#"{"model":"m","input":"Hi"}"#);
        let sent = without_names(&[RESPONSE, &end].concat());
        let answering = async {
            let mut exchange = upstream.request().await;
            answer_with(&mut exchange, &sent).await;
        };
        let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
        let got = String::from_utf8(answer.body().await).unwrap();
        let filled = r#"{"id":"resp_1","t":1.0,"output":[{"type":"message"}]}"#;
        assert!(got == RESPONSE_OBJECT || got == filled, "{got}");
    }
}

#[tokio::test]
async fn a_failed_response_without_a_name_is_the_only_error() {
    let failed = "data: {\"type\":\"response.failed\",\"response\":{\"id\":\"resp_1\",\"error\":{\"code\":\"server_error\",\"message\":\"Busy\"}}}\n\n";
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], RESPONSES, "");
    let sent = [&without_names(RESPONSE), failed].concat();
    let answering = async {
        let mut exchange = upstream.request().await;
        answer_with(&mut exchange, &sent).await;
    };
    let request = asked(
        "/v1/responses",
        r#"{"model":"m","input":"Hi","stream":true}"#,
    );
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    assert_eq!(rest(&mut answer).await, sent);
}

#[tokio::test]
async fn a_redirect_of_the_upstream_is_not_passed_on() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], ANTHROPIC, "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.answer(307, "location: /other\r\n", "").await;
    };
    let request = hello(true);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    assert_eq!(answer.status(), 502);
    let got: Value = serde_json::from_slice(&answer.body().await).unwrap();
    let message = got["error"]["message"].as_str().unwrap();
    assert!(message.contains("correct its base_url"), "{got}");
}

#[tokio::test]
async fn a_broken_response_continues_the_vendors_numbers() {
    let upstream = ScriptedUpstream::bind().await;
    let running = gateway(&[&upstream], RESPONSES, "");
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        exchange.chunk(RESPONSE).await;
        exchange.reset();
    };
    let request = asked(
        "/v1/responses",
        r#"{"model":"m","input":"Hi","stream":true}"#,
    );
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = rest(&mut answer).await;
    let end = got.strip_prefix(RESPONSE).unwrap();
    let data: Vec<Value> = end
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    assert_eq!(data.len(), 2, "{end}");
    assert_eq!(data[0]["type"], "error");
    assert_eq!(data[0]["sequence_number"], 5);
    assert_eq!(data[1]["type"], "response.failed");
    assert_eq!(data[1]["sequence_number"], 6);
    assert_eq!(data[1]["response"]["id"], "resp_1");
    assert_eq!(data[1]["response"]["status"], "failed");
}

#[tokio::test]
async fn fidelity_decides_and_look_alikes_are_repaired() {
    for (settings, verbatim) in [
        ("wire: openai-chat", false),
        ("wire: openai-chat, fidelity: verbatim", true),
        ("preset: azure", true),
        ("preset: openai, fidelity: repaired", false),
    ] {
        let upstream = ScriptedUpstream::bind().await;
        let running = gateway(&[&upstream], settings, "");
        let request = asked(
            "/v1/chat/completions",
            r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#,
        );
        let answering = async {
            let mut exchange = upstream.request().await;
            answer_with(&mut exchange, &[CHAT, DONE].concat()).await;
        };
        let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
        let got = rest(&mut answer).await;
        assert_eq!(got == [CHAT, DONE].concat(), verbatim, "{settings}: {got}");
        assert_eq!(
            got.contains("\"model\":\"m\""),
            !verbatim,
            "{settings}: {got}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_another_target_may_continue_is_not_verbatim() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::start(&format!(
        "upstreams:\n  u: {{ {ANTHROPIC}, base_url: 'http://{}' }}\n\
         models:\n  m: {{ continue: on, targets: [ {{ upstream: u, model: theirs }} ] }}\n",
        upstream.addr()
    ));
    let answering = async {
        let mut exchange = upstream.request().await;
        answer_with(
            &mut exchange,
            &[MESSAGE_START, MESSAGE, MESSAGE_STOP].concat(),
        )
        .await;
    };
    let request = hello(true);
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = rest(&mut answer).await;
    assert!(got.contains("\"model\":\"m\""), "{got}");
    assert!(!got.contains("novelty"), "{got}");
}
