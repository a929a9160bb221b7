//! Look-alikes of Chat Completions whose answers are repaired: members that the gateway does not know
//! reach clients of the same protocol.

use serde_json::{Value, json};

use super::client::ClientRequest;
use super::harness::TestGateway;
use super::scripted::ScriptedUpstream;

/// What a vendor might send: members of its own at every level, some on every chunk, some on one.
const CHUNKS: [&str; 9] = [
    r#"{"id":"c1","object":"chat.completion.chunk","model":"t","provider":"P","region":"eu","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    r#"{"id":"c1","provider":"P","choices":[{"index":0,"delta":{"content":"One"},"native":null}]}"#,
    r#"{"id":"c1","provider":"P","choices":[{"index":0,"delta":{"content":" two"},"native":null}]}"#,
    r#"{"id":"c1","provider":"P","choices":[{"index":0,"delta":{"content":" three","channel":"x"},"native":null,"token_ids":[7,8]}]}"#,
    r#"{"id":"c1","provider":"P","choices":[{"index":0,"delta":{"content":" four","channel":"y"},"native":null,"token_ids":[9]}]}"#,
    r#"{"id":"c1","provider":"P","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"k1","type":"function","function":{"name":"f","arguments":"{}"},"mcp_server":"s"}]},"native":null}]}"#,
    r#"{"id":"c1","provider":"Q","choices":[{"index":0,"delta":{},"finish_reason":"stop","native":"eos"}]}"#,
    r#"{"id":"c1","provider":"Q","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"cost":0.25,"prompt_tokens_details":{"audio_tokens":2}},"citations":["http://a.example"]}"#,
    "[DONE]",
];

async fn ask(body: &Value) -> (TestGateway, String) {
    let upstream = ScriptedUpstream::bind().await;
    let addr = upstream.addr();
    let running = TestGateway::start(&format!(
        "upstreams:\n  u: {{ wire: openai-chat, base_url: 'http://{addr}/v1' }}\n\
         models:\n  m: {{ targets: [ {{ upstream: u, model: theirs }} ] }}\n"
    ));
    let request = ClientRequest {
        body: body.to_string().into_bytes(),
        ..ClientRequest::new("POST", "/v1/chat/completions")
    };
    let answering = async {
        let mut exchange = upstream.request().await;
        exchange.begin().await;
        for chunk in CHUNKS {
            exchange.chunk(format!("data: {chunk}\n\n")).await;
        }
        exchange.end().await;
    };
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let got = String::from_utf8(answer.body().await).unwrap();
    (running, got)
}

#[tokio::test]
async fn a_stream_of_a_look_alike_keeps_members_that_are_not_known() {
    let body = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let (_running, got) = ask(&body).await;
    let chunks = got.lines().filter_map(|line| line.strip_prefix("data: "));
    let chunks: Vec<Value> = chunks
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    let having = |text: &str| {
        let mut found = chunks.iter();
        found
            .find(|chunk| chunk["choices"][0]["delta"]["content"] == text)
            .unwrap()
    };
    assert!(chunks.iter().any(|chunk| chunk["region"] == "eu"), "{got}");
    for text in ["One", " two", " three", " four"] {
        let chunk = having(text);
        assert_eq!(chunk["provider"], "P", "{got}");
        let choice = chunk["choices"][0].as_object().unwrap();
        assert_eq!(choice.get("native"), Some(&Value::Null), "{got}");
    }
    assert!(having("One").get("region").is_none(), "{got}");
    assert!(
        having(" two")["choices"][0].get("token_ids").is_none(),
        "{got}"
    );
    assert_eq!(having(" three")["choices"][0]["token_ids"], json!([7, 8]));
    assert_eq!(having(" three")["choices"][0]["delta"]["channel"], "x");
    assert_eq!(having(" four")["choices"][0]["token_ids"], json!([9]));
    assert_eq!(having(" four")["choices"][0]["delta"]["channel"], "y");
    let has_call =
        |chunk: &Value| chunk["choices"][0]["delta"]["tool_calls"][0]["mcp_server"] == "s";
    assert!(chunks.iter().any(has_call), "{got}");
    let finish = chunks
        .iter()
        .find(|chunk| chunk["choices"][0]["finish_reason"].is_string());
    let finish = finish.unwrap();
    assert_eq!(finish["choices"][0]["native"], "eos");
    assert!(finish["choices"][0].get("token_ids").is_none());
    let usage = chunks.last().unwrap();
    assert_eq!(usage["usage"]["cost"], 0.25);
    assert_eq!(usage["usage"]["prompt_tokens_details"]["audio_tokens"], 2);
    assert_eq!(usage["usage"]["total_tokens"], 7);
    assert_eq!(usage["provider"], "Q");
    assert_eq!(usage["citations"], json!(["http://a.example"]));
}

#[tokio::test]
async fn a_whole_answer_of_a_look_alike_keeps_members_that_are_not_known() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    let (_running, got) = ask(&body).await;
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["provider"], "Q");
    assert_eq!(got["region"], "eu");
    assert_eq!(got["citations"], json!(["http://a.example"]));
    let choice = &got["choices"][0];
    assert_eq!(choice["native"], "eos");
    assert_eq!(choice["token_ids"], json!([7, 8, 9]));
    assert_eq!(choice["message"]["channel"], "y");
    assert_eq!(choice["message"]["content"], "One two three four");
    assert_eq!(choice["message"]["tool_calls"][0]["mcp_server"], "s");
    assert_eq!(got["usage"]["cost"], 0.25);
}

/// The client's bytes, where `first` and then `second` are asked and answer with these chunks.
async fn ask_two(first: &[&str], second: &[&str]) -> (String, String) {
    let upstreams = [
        ScriptedUpstream::bind().await,
        ScriptedUpstream::bind().await,
    ];
    let [a, b] = upstreams.each_ref().map(ScriptedUpstream::addr);
    let running = TestGateway::start(&format!(
        "upstreams:\n  a: {{ wire: openai-chat, base_url: 'http://{a}/v1' }}\n  \
         b: {{ wire: openai-chat, base_url: 'http://{b}/v1' }}\n\
         models:\n  m: {{ targets: [ {{ upstream: a, model: x }}, {{ upstream: b, model: y, priority: 1 }} ] }}\n"
    ));
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true});
    let request = ClientRequest {
        body: body.to_string().into_bytes(),
        ..ClientRequest::new("POST", "/v1/chat/completions")
    };
    let answering = async {
        for (upstream, chunks) in upstreams.iter().zip([first, second]) {
            if chunks.is_empty() {
                continue;
            }
            let mut exchange = upstream.request().await;
            exchange.begin().await;
            for chunk in chunks {
                exchange.chunk(format!("data: {chunk}\n\n")).await;
            }
            exchange.try_end().await;
        }
    };
    let (mut answer, ()) = tokio::join!(running.ask(&request), answering);
    let attempts = answer.header("x-sluicegate-attempts").to_owned();
    (String::from_utf8(answer.body().await).unwrap(), attempts)
}

const OPENING: &str = r#"{"id":"c1","provider":"P","choices":[{"index":0,"delta":{"role":"assistant","content":""},"native":null}]}"#;
const GOOD: [&str; 2] = [
    r#"{"id":"c2","choices":[{"index":0,"delta":{"content":"Good"},"finish_reason":"stop"}]}"#,
    "[DONE]",
];

#[tokio::test]
async fn members_before_the_first_content_do_not_prevent_a_failover() {
    let error = r#"{"error":{"message":"overloaded","code":502}}"#;
    let (got, attempts) = ask_two(&[OPENING, error], &GOOD).await;
    assert!(got.contains("Good") && !got.contains("\"P\""), "{got}");
    assert_eq!(attempts, "a/x=upstream_error,b/y=ok");
}

#[tokio::test]
async fn a_chunk_that_is_repaired_has_its_members_once() {
    let half = r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"\ud83d","channel":"z"},"token_ids":[77]}]}"#;
    let (got, _) = ask_two(&[OPENING, half, GOOD[0], GOOD[1]], &[]).await;
    assert!(got.contains("\u{fffd}") && got.contains("[DONE]"), "{got}");
    assert_eq!(got.matches("[77]").count(), 1, "{got}");
    assert_eq!(got.matches("channel").count(), 1, "{got}");
}

#[tokio::test]
async fn lists_of_a_choice_come_once_and_long_members_are_not_repeated() {
    let long = "l".repeat(3000);
    let last = format!(
        r#"{{"id":"c1","long":"{long}","choices":[{{"index":0,"delta":{{"content":"One","reasoning_content":"R"}},"token_ids":[9],"finish_reason":"stop"}}]}}"#
    );
    let (got, _) = ask_two(&[OPENING, &last, "[DONE]"], &[]).await;
    assert_eq!(got.matches("[9]").count(), 1, "{got}");
    assert_eq!(got.matches(&long).count(), 1, "{got}");
}
