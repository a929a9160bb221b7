"""Anthropic's own Python client."""

import asyncio
import json

import anthropic
import pydantic
import pytest

HELLO = [{"role": "user", "content": "Hello?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Says what the weather is",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(url, key):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)


def ask(client, model, **more):
    return client.messages.create(**({"model": model, "max_tokens": 100, "messages": HELLO} | more))


def final(client, model, **more):
    with client.messages.stream(**({"model": model, "max_tokens": 100, "messages": HELLO} | more)) as stream:
        return stream.get_final_message()


def content(message):
    return [block.to_dict() for block in message.content]


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_every_wire_whole_and_streamed(client, wire):
    whole = ask(client, f"{wire}/text")
    streamed = final(client, f"{wire}/text")
    assert text(whole) == text(streamed) != ""
    assert whole.stop_reason == streamed.stop_reason == "end_turn"
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 0
    assert whole.usage.input_tokens == streamed.usage.input_tokens > 0
    for message in whole, streamed:
        assert message.id.startswith("msg_")
        # A verbatim answer keeps the vendor's name of the model.
        model = "sluice-opus-1" if wire == "anthropic-messages" else f"{wire}/text"
        assert (message.type, message.role, message.model) == ("message", "assistant", model)


def test_raw_events_open_and_close_block_by_block(client):
    open_block = None
    blocks = 0
    kinds = []
    for event in ask(client, "openai-chat/tool-call-interleaved", stream=True):
        kinds.append(event.type)
        if event.type == "content_block_start":
            assert open_block is None and event.index == blocks
            open_block, blocks = event.index, blocks + 1
        elif event.type == "content_block_delta":
            assert event.index == open_block
        elif event.type == "content_block_stop":
            assert event.index == open_block
            open_block = None
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert blocks == 2


def test_text_stream(client):
    with client.messages.stream(model="anthropic-messages/text", max_tokens=9, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        assert "".join(pieces) == text(stream.get_final_message())
    assert len(pieces) > 1


@pytest.mark.parametrize(
    "model, calls",
    [
        ("anthropic-messages/tool-use", [("get_weather", {"city": "Köln"})]),
        ("openai-chat/tool-call-interleaved", [("get_weather", {"city": "Genf"}), ("get_time", {"city": "Bern"})]),
    ],
)
def test_tool_use(client, model, calls):
    whole, streamed = ask(client, model, tools=[WEATHER]), final(client, model, tools=[WEATHER])
    assert content(whole) == content(streamed)
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    used = [block for block in whole.content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in used] == calls
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "sunny"} for block in used]
    turns = [*HELLO, {"role": "assistant", "content": whole.content}, {"role": "user", "content": results}]
    assert text(ask(client, "anthropic-messages/text", messages=turns, tools=[WEATHER]))
    assert text(ask(client, "openai-chat/text", messages=turns, tools=[WEATHER]))


def test_thinking_goes_there_and_back(client):
    whole, streamed = ask(client, "anthropic-messages/thinking"), final(client, "anthropic-messages/thinking")
    assert content(whole) == content(streamed)
    thinking, answer = whole.content
    assert (thinking.type, answer.type) == ("thinking", "text")
    assert thinking.thinking and thinking.signature
    turns = [*HELLO, {"role": "assistant", "content": streamed.content}, {"role": "user", "content": "Go on"}]
    budget = {"type": "enabled", "budget_tokens": 2000}
    again = ask(client, "anthropic-messages/text", messages=turns, thinking=budget, max_tokens=4000)
    assert again.stop_reason == "end_turn"


def test_redacted_thinking(client):
    whole, streamed = (get(client, "anthropic-messages/redacted-thinking") for get in (ask, final))
    assert content(whole) == content(streamed)
    assert whole.content[0].type == "redacted_thinking" and whole.content[0].data


def test_reasoning_of_other_vendors_is_thinking(client):
    thinking, answer = final(client, "openai-chat/reasoning-content").content
    assert (thinking.type, answer.type) == ("thinking", "text")


def test_citations(client):
    whole, streamed = (get(client, "anthropic-messages/server-tool-citations") for get in (ask, final))
    assert content(whole) == content(streamed)
    (citation,) = [citation for block in whole.content for citation in getattr(block, "citations", None) or ()]
    assert (citation.url, citation.title) == ("https://canals.example/north", "Canals of the north")


def test_cached_input_is_counted_apart(client):
    for message in ask(client, "anthropic-messages/usage-cached"), final(client, "anthropic-messages/usage-cached"):
        usage = message.usage
        counts = usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens
        assert counts == (4, 100, 2000), usage


@pytest.mark.parametrize(
    "model, reason",
    [
        ("anthropic-messages/max-tokens", "max_tokens"),
        ("openai-chat/length", "max_tokens"),
        ("anthropic-messages/refusal", "refusal"),
        ("openai-chat/content-filter", "refusal"),
        ("anthropic-messages/pause-turn", "pause_turn"),
        ("openai-chat/tool-call-finish-stop", "tool_use"),
    ],
)
def test_stop_reasons(client, model, reason):
    assert ask(client, model).stop_reason == final(client, model).stop_reason == reason


def test_what_the_client_asks_for_reaches_another_protocol(client):
    class Place(pydantic.BaseModel):
        city: str

    schema = {"type": "json_schema", "schema": Place.model_json_schema()}
    message = ask(
        client,
        "scripted/echo",
        system="Be brief",
        # Its newest models have none, so the client has no name for it.
        extra_body={"temperature": 0.5},
        stop_sequences=["END"],
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
        output_config={"format": schema},
        metadata={"user_id": "u1"},
    )
    asked = json.loads(text(message))
    assert asked["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (asked["temperature"], asked["stop"], asked["user"]) == (0.5, ["END"], "u1")
    assert asked["tools"][0]["function"]["parameters"] == WEATHER["input_schema"]
    assert asked["tool_choice"]["function"] == {"name": "get_weather"}
    assert asked["response_format"]["json_schema"]["schema"]["properties"] == {"city": {"title": "City", "type": "string"}}


def test_the_requests_id(client):
    message = ask(client, "openai-chat/text")
    assert message._request_id.startswith("req_")
    with pytest.raises(anthropic.NotFoundError) as raised:
        ask(client, "nothing")
    assert raised.value.request_id == raised.value.body["request_id"]
    assert raised.value.body["error"]["type"] == "not_found_error"


def test_refusals(url, key, narrow_key, limited_key, client):
    def as_key(name):
        return anthropic.Anthropic(base_url=url, api_key=name, max_retries=0)

    with pytest.raises(anthropic.AuthenticationError):
        ask(as_key("nobody's"), "openai-chat/text")
    with pytest.raises(anthropic.PermissionDeniedError):
        ask(as_key(narrow_key), "anthropic-messages/text")
    with pytest.raises(anthropic.RateLimitError) as raised:
        for _ in range(2):
            ask(as_key(limited_key), "openai-chat/text")
    assert int(raised.value.response.headers["retry-after"]) > 0
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content\[0\].text"):
        ask(client, "openai-chat/text", messages=[{"role": "user", "content": [{"type": "text"}]}])
    search = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]"):
        choice = {"type": "tool", "name": "web_search"}
        ask(client, "openai-chat/text", tools=[search], tool_choice=choice)
    # The model may use the search, but need not.
    assert ask(client, "openai-chat/text", tools=[search]).stop_reason == "end_turn"
    assert client.messages.count_tokens(model="openai-chat/text", messages=HELLO).input_tokens > 0


def test_a_bearer_token_is_a_key_too(url, key):
    client = anthropic.Anthropic(base_url=url, auth_token=key, api_key=None, max_retries=0)
    assert ask(client, "openai-chat/text").stop_reason == "end_turn"


def test_a_failed_upstream_is_asked_again(url, key):
    patient = anthropic.Anthropic(base_url=url, api_key=key, max_retries=2)
    with pytest.raises(anthropic.InternalServerError) as raised:
        ask(patient, "scripted/status-503", stream=True)
    assert "x-should-retry" not in raised.value.response.headers
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "2"


@pytest.mark.parametrize("model", ["openai-chat/truncated", "openai-chat/error-mid-stream", "anthropic-messages/truncated"])
def test_an_answer_that_breaks_raises(client, model):
    kinds = []
    with pytest.raises(anthropic.APIStatusError):
        for event in ask(client, model, stream=True):
            kinds.append(event.type)
    assert "content_block_delta" in kinds and "message_stop" not in kinds
    with pytest.raises(anthropic.APIStatusError):
        final(client, model)
    with pytest.raises(anthropic.APIStatusError):
        ask(client, model)


def test_leaving_cancels(client, left):
    with client.messages.stream(model="scripted/hold-anthropic", max_tokens=9, messages=HELLO) as stream:
        assert next(stream.text_stream) == "Wait"
    assert left("hold-anthropic")


def test_async(url, key):
    async def run():
        async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
            asked = {"model": "anthropic-messages/text", "max_tokens": 9, "messages": HELLO}
            whole = await client.messages.create(**asked)
            async with client.messages.stream(**asked) as stream:
                streamed = await stream.get_final_message()
            assert content(whole) == content(streamed)
            with pytest.raises(anthropic.APIStatusError):
                async with client.messages.stream(**asked | {"model": "openai-chat/truncated"}) as stream:
                    await stream.get_final_message()

    asyncio.run(run())
