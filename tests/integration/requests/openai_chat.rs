//! Requests to OpenAI's chat API and its look-alikes.

use sluicegate::config::preset;

use super::*;

const WIRE: &str = "openai-chat";

#[test]
fn a_prompt_and_its_steering() {
    let sent = outgoing(WIRE, &steered()).expect("a request");
    assert_eq!(sent.path, "/chat/completions");
    assert_eq!(
        sent.body,
        json!({
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "max_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.25,
            "stop": ["END"],
            "seed": 7,
            "user": "u1"
        })
    );
}

#[test]
fn calls_and_results() {
    let mut request = tool_turns();
    request.tool_choice = Some(ToolChoice::Required);
    let body = body(WIRE, &request);
    assert_eq!(
        body["messages"][1]["tool_calls"],
        json!([
            {"id": "a", "type": "function",
                "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}},
            {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}}
        ])
    );
    assert_eq!(
        body["messages"][2],
        json!({"role": "tool", "tool_call_id": "a", "content": "sunny"})
    );
    assert_eq!(body["tool_choice"], "required");
    assert_eq!(body["tools"][0]["function"]["strict"], true);
}

#[test]
fn a_vendor_that_differs() {
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    let body = |name| {
        let vendor = &preset::by_name(name).expect("a preset").vendor;
        wire.request(&steered(), "m", vendor)
            .expect("a request")
            .body
    };
    let plain = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": true,
        "temperature": 0.5,
        "top_p": 0.25,
        "stop": ["END"],
    });
    let with = |more: Value| {
        let mut body = plain.clone();
        let all = body.as_object_mut().expect("an object");
        all.extend(more.as_object().expect("an object").clone());
        body
    };
    let usage = json!({"include_usage": true});
    for name in ["openai", "azure"] {
        let more = json!({"max_completion_tokens": 100, "stream_options": usage,
            "seed": 7, "user": "u1"});
        assert_eq!(body(name), with(more), "{name}");
    }
    let more = json!({"max_tokens": 100, "random_seed": 7});
    assert_eq!(body("mistral"), with(more));
    let more = json!({"max_tokens": 100, "seed": 7, "user": "u1"});
    assert_eq!(body("perplexity"), with(more));
    for name in ["groq", "deepseek", "xai", "openrouter", "vllm", "llamacpp"] {
        let more = json!({"max_tokens": 100, "stream_options": usage, "seed": 7, "user": "u1"});
        assert_eq!(body(name), with(more), "{name}");
    }
}

#[test]
fn a_conversation_of_several_turns() {
    let thought = Part::Reasoning {
        text: "Hm".to_owned(),
        signature: None,
    };
    let mut named = media(inline("application/pdf", "JVBERi0="));
    named.name = Some("a.pdf".to_owned());
    let request = asking(vec![
        message(Role::System, vec![text("Be brief")]),
        message(Role::User, vec![text("One")]),
        message(Role::Assistant, vec![thought, text("Yes?")]),
        message(Role::System, vec![text("Be kind")]),
        message(
            Role::User,
            vec![
                text("Two"),
                Part::Image(media(url())),
                Part::File(named),
                Part::File(media(MediaSource::Id("file_1".to_owned()))),
            ],
        ),
    ]);
    assert_eq!(
        body(WIRE, &request)["messages"],
        json!([
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "system", "content": "Be kind"},
            {"role": "user", "content": [
                {"type": "text", "text": "Two"},
                {"type": "image_url", "image_url": {"url": "https://example.com/x"}},
                {"type": "file", "file": {
                    "file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "file_1"}}
            ]}
        ])
    );
}

#[test]
fn reasoning_goes_back_beside_calls_where_the_vendor_wants_it() {
    let mut request = tool_turns();
    let thought = |text: &str| Part::Reasoning {
        text: text.to_owned(),
        signature: None,
    };
    request.messages[1].content.insert(0, thought("Two calls."));
    let answer = vec![thought("Easy."), text("Sunny.")];
    request.messages.push(message(Role::Assistant, answer));
    let wire = wire::by_name(WIRE).expect("a wire of that name");
    let sent = |name| {
        let vendor = &preset::by_name(name).expect("a preset").vendor;
        let sent = wire.request(&request, "m", vendor).expect("a request");
        let messages = &sent.body["messages"];
        [1, 5].map(|at: usize| messages[at]["reasoning_content"].clone())
    };
    for name in ["deepseek", "moonshot"] {
        assert_eq!(sent(name), [json!("Two calls."), Value::Null], "{name}");
    }
    for name in ["openai", "mistral", "vllm"] {
        assert_eq!(sent(name), [Value::Null, Value::Null], "{name}");
    }
}

#[test]
fn every_tool_choice() {
    let choice = |choice| {
        let mut request = tool_turns();
        request.tool_choice = choice;
        body(WIRE, &request)["tool_choice"].clone()
    };
    assert_eq!(choice(None), Value::Null);
    assert_eq!(choice(Some(ToolChoice::Auto)), "auto");
    assert_eq!(choice(Some(ToolChoice::None)), "none");
    assert_eq!(
        choice(Some(ToolChoice::Function("time".to_owned()))),
        json!({"type": "function", "function": {"name": "time"}})
    );
}

#[test]
fn formats_media_and_effort() {
    let mut request = thinking(Some("low"), None, None);
    request.response_format = Some(schema());
    request.messages[0].content.push(Part::Image(Media {
        detail: Some("low".to_owned()),
        ..media(inline("image/png", "iVBO"))
    }));
    let body = body(WIRE, &request);
    assert_eq!(body["reasoning_effort"], "low");
    assert_eq!(
        body["response_format"],
        json!({"type": "json_schema", "json_schema":
            {"name": "fruit", "schema": {"type": "object"}, "strict": true}})
    );
    assert_eq!(
        body["messages"][0]["content"][1],
        json!({"type": "image_url",
            "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}})
    );
}

#[test]
fn one_call_at_most() {
    let mut request = tool_turns();
    request.parallel_tool_calls = Some(false);
    assert_eq!(body(WIRE, &request)["parallel_tool_calls"], false);
    request.tools.clear();
    assert_eq!(body(WIRE, &request)["parallel_tool_calls"], Value::Null);
}
