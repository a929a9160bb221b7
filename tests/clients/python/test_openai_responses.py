"""OpenAI's own Python client, over the Responses API."""

import asyncio
import json

import openai
import pydantic
import pytest

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Says what the weather is",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture
def client(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def ask(client, model, **more):
    return client.responses.create(**({"model": model, "input": "Hello?"} | more))


def final(client, model, **more):
    with client.responses.stream(**({"model": model, "input": "Hello?"} | more)) as stream:
        return stream.get_final_response()


def output(response):
    """The items, but for the ids that each answer gives anew and what the client itself adds."""
    added = {"id": True, "parsed_arguments": True, "content": {"__all__": {"parsed"}}}
    return [item.model_dump(exclude=added) for item in response.output]


def test_every_wire_whole_and_streamed(client, wire):
    whole, streamed = ask(client, f"{wire}/text"), final(client, f"{wire}/text")
    assert whole.output_text == streamed.output_text != ""
    assert whole.status == streamed.status == "completed"
    assert whole.usage == streamed.usage
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
    for response in whole, streamed:
        assert response.id.startswith("resp_") and response.object == "response"
        # A verbatim answer keeps the vendor's name of the model.
        expected = "sluice-large-2" if wire == "openai-responses" else f"{wire}/text"
        assert response.model == expected


def test_raw_events_count_up_and_items_do_not_overlap(client):
    for model in "openai-chat/tool-call-interleaved", "anthropic-messages/thinking", "openai-chat/refusal":
        open_item, done = None, []
        kinds = []
        for number, event in enumerate(ask(client, model, stream=True)):
            assert event.sequence_number == number
            kinds.append(event.type)
            if event.type == "response.output_item.added":
                assert open_item is None and event.output_index == len(done)
                open_item = event.item.id
            elif event.type == "response.output_item.done":
                assert event.item.id == open_item
                open_item = None
                done.append(event.item)
            elif hasattr(event, "item_id"):
                assert event.item_id == open_item and event.output_index == len(done)
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        assert event.response.output == done


def test_text_deltas_are_the_text(client):
    with client.responses.stream(model="openai-chat/text", input="Hello?") as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(pieces) == stream.get_final_response().output_text
    assert len(pieces) > 1


def test_tools(client):
    for model, calls in [
        ("anthropic-messages/tool-use", [("get_weather", {"city": "Köln"})]),
        ("openai-chat/tool-call-interleaved", [("get_weather", {"city": "Genf"}), ("get_time", {"city": "Bern"})]),
    ]:
        whole, streamed = ask(client, model, tools=[WEATHER]), final(client, model, tools=[WEATHER])
        assert output(whole) == output(streamed)
        used = [item for item in whole.output if item.type == "function_call"]
        assert [(call.name, json.loads(call.arguments)) for call in used] == calls
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in used]
        turns = [{"role": "user", "content": "Weather?"}, *whole.output, *results]
        for other in "anthropic-messages/text", "openai-chat/text":
            assert ask(client, other, input=turns, tools=[WEATHER]).output_text


def test_calls_of_one_answer_are_one_turn_elsewhere(client):
    answer = ask(client, "openai-chat/tool-call-interleaved", tools=[WEATHER])
    results = [{"type": "function_call_output", "call_id": item.call_id, "output": "1"} for item in answer.output]
    turns = [{"role": "user", "content": "Weather?"}, *answer.output, *results]
    asked = json.loads(ask(client, "scripted/echo", input=turns, instructions="Be brief").output_text)
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert len(asked["messages"][2]["tool_calls"]) == 2


def test_structured_output_is_parsed(client):
    class Asked(pydantic.BaseModel):
        model: str
        response_format: dict

    with client.responses.stream(model="scripted/echo", input="Hello?", text_format=Asked) as stream:
        streamed = stream.get_final_response().output_parsed
    whole = client.responses.parse(model="scripted/echo", input="Hello?", text_format=Asked).output_parsed
    for parsed in whole, streamed:
        assert parsed.model == "echo"
        assert parsed.response_format["json_schema"]["name"] == "Asked"


@pytest.mark.parametrize("model", ["anthropic-messages/thinking", "openai-responses/reasoning-summary"])
def test_reasoning_and_its_seal(client, model):
    whole, streamed = (get(client, model) for get in (ask, final))
    assert output(whole) == output(streamed)
    reasoning, message = whole.output
    assert (reasoning.type, message.type) == ("reasoning", "message")
    assert reasoning.summary[0].text and reasoning.encrypted_content
    turns = [{"role": "user", "content": "Hello?"}, *whole.output, {"role": "user", "content": "Go on"}]
    assert ask(client, model, input=turns).output_text


def test_citations_are_annotations(client):
    for get in ask, final:
        (annotation,) = get(client, "anthropic-messages/server-tool-citations").output[0].content[0].annotations
        assert (annotation.type, annotation.url) == ("url_citation", "https://canals.example/north")


def test_a_refusal_is_one(client):
    for get in ask, final:
        (part,) = get(client, "openai-chat/refusal").output[0].content
        assert part.type == "refusal" and part.refusal


@pytest.mark.parametrize(
    "model, reason", [("openai-chat/length", "max_output_tokens"), ("openai-chat/content-filter", "content_filter")]
)
def test_an_incomplete_response(client, model, reason):
    whole = ask(client, model)
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", reason)
    *_, last = ask(client, model, stream=True)
    assert last.type == "response.incomplete" and last.response.incomplete_details.reason == reason


def test_settings_are_repeated(client):
    response = ask(client, "openai-chat/text", metadata={"a": "b"}, temperature=0.5, instructions="Be brief", tools=[WEATHER])
    assert (response.metadata, response.temperature, response.instructions) == ({"a": "b"}, 0.5, "Be brief")
    assert response.tools[0].name == "get_weather"


def test_refusals(url, narrow_key, limited_key, client):
    def as_key(name):
        return openai.OpenAI(base_url=f"{url}/v1", api_key=name, max_retries=0)

    with pytest.raises(openai.AuthenticationError):
        ask(as_key("nobody's"), "openai-chat/text")
    with pytest.raises(openai.PermissionDeniedError):
        ask(as_key(narrow_key), "anthropic-messages/text")
    with pytest.raises(openai.RateLimitError) as raised:
        for _ in range(2):
            ask(as_key(limited_key), "openai-chat/text")
    assert int(raised.value.response.headers["retry-after"]) > 0
    with pytest.raises(openai.NotFoundError) as raised:
        ask(client, "nothing")
    assert raised.value.code == "not_found"
    for field, more in {
        "previous_response_id": {"previous_response_id": "resp_1"},
        "tool_choice": {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
        r"input\[0\]": {"input": [{"type": "item_reference", "id": "msg_1"}]},
        r"input\[0\].content\[0\].text": {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
    }.items():
        with pytest.raises(openai.BadRequestError, match=field):
            ask(client, "openai-chat/text", **more)
    # The model may use the search, but need not.
    assert ask(client, "openai-chat/text", tools=[{"type": "web_search"}]).status == "completed"


def test_a_failed_upstream_is_asked_again(url, key):
    patient = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=2)
    with pytest.raises(openai.InternalServerError) as raised:
        ask(patient, "scripted/status-503")
    assert "x-should-retry" not in raised.value.response.headers
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "2"


@pytest.mark.parametrize("model", ["openai-chat/truncated", "openai-chat/error-mid-stream", "anthropic-messages/truncated"])
def test_an_answer_that_breaks_raises(client, model):
    kinds = []
    with pytest.raises(openai.APIError):
        for event in ask(client, model, stream=True):
            kinds.append(event.type)
    assert "response.output_text.delta" in kinds and "response.completed" not in kinds
    with pytest.raises(openai.APIError):
        final(client, model)
    with pytest.raises(openai.APIError):
        ask(client, model)


def test_leaving_cancels(client, left):
    with ask(client, "scripted/hold-responses", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    assert left("hold-responses")


def test_async(url, key):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            asked = {"model": "openai-chat/text", "input": "Hello?"}
            whole = await client.responses.create(**asked)
            async with client.responses.stream(**asked) as stream:
                streamed = await stream.get_final_response()
            assert whole.output_text == streamed.output_text

    asyncio.run(run())
