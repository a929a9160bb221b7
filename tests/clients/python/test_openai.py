"""OpenAI's own Python client, over Chat Completions."""

import asyncio
import json
import threading

import httpx
import openai
import pydantic
import pytest

HELLO = [{"role": "user", "content": "Hello?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
# The fixture of one call, where it is not named `tool-call`.
TOOL_CALLS = {
    "anthropic-messages": "tool-use",
    "bedrock-converse": "tool-use",
}


@pytest.fixture
def client(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def refused(call, kind):
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def test_models(client, url, narrow_key):
    assert "openai-chat/*" in {model.id for model in client.models.list()}
    assert client.models.retrieve("openai-chat/text").id == "openai-chat/text"
    refused(lambda: client.models.retrieve("nobody's"), openai.NotFoundError)
    narrow = openai.OpenAI(base_url=f"{url}/v1", api_key=narrow_key, max_retries=0)
    assert [model.id for model in narrow.models.list()] == []
    assert narrow.models.retrieve("openai-chat/text").object == "model"


def test_streamed_and_whole_are_the_same_answer(client, wire):
    whole = client.chat.completions.create(model=f"{wire}/text", messages=HELLO)
    chunks = list(
        client.chat.completions.create(
            model=f"{wire}/text", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert whole.object == "chat.completion" and whole.model == f"{wire}/text"
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens > 0
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    content = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in content] == [None] * (len(content) - 1) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage


def test_usage_comes_only_if_asked_for(client):
    stream = client.chat.completions.create(model="openai-chat/text", messages=HELLO, stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in stream)


def test_reasoning(client):
    for model in ("anthropic-messages/thinking", "openai-chat/reasoning"):
        message = client.chat.completions.create(model=model, messages=HELLO).choices[0].message
        stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
        deltas = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in stream]
        assert message.reasoning_content == "".join(delta or "" for delta in deltas) != ""


def test_tool_calls(client, wire):
    asked = {"model": f"{wire}/{TOOL_CALLS.get(wire, 'tool-call')}", "messages": HELLO, "tools": TOOLS}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    [call], [heard] = whole.message.tool_calls, final.message.tool_calls
    assert (call.type, call.function.name) == ("function", heard.function.name)
    # Where the upstream knows no ids, each answer has its own.
    assert call.id and heard.id and (call.id == heard.id or call.id.startswith("call_"))
    assert json.loads(call.function.arguments) == json.loads(heard.function.arguments)
    # And back again, with the result.
    answered = HELLO + [whole.message, {"role": "tool", "tool_call_id": call.id, "content": "Sun"}]
    assert client.chat.completions.create(model=f"{wire}/text", messages=answered, tools=TOOLS).choices


def test_tool_calls_by_turns(client):
    asked = {"model": "openai-chat/tool-call-interleaved", "messages": HELLO, "tools": TOOLS}
    with client.chat.completions.stream(**asked) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Genf"}, {"city": "Bern"}]


def test_a_structured_answer_is_parsed(client):
    class Request(pydantic.BaseModel):
        model: str
        stream: bool

    # The scripted upstream says what it was asked, which is JSON.
    parsed = client.chat.completions.parse(model="scripted/echo", messages=HELLO, response_format=Request)
    assert parsed.choices[0].message.parsed == Request(model="echo", stream=True)
    sent = json.loads(parsed.choices[0].message.content)
    assert sent["response_format"]["json_schema"]["name"] == "Request"
    with client.chat.completions.stream(model="scripted/echo", messages=HELLO, response_format=Request) as stream:
        assert stream.get_final_completion().choices[0].message.parsed.model == "echo"


def test_fields_reach_an_upstream_of_the_same_protocol(client):
    answer = client.chat.completions.create(
        model="scripted/echo",
        messages=[{"role": "user", "name": "Ada", "content": "Hello?"}],
        tools=TOOLS,
        parallel_tool_calls=False,
        prompt_cache_key="k",
        extra_body={"novelty": [1]},
    )
    sent = json.loads(answer.choices[0].message.content)
    assert sent["messages"] == [{"role": "user", "name": "Ada", "content": "Hello?"}]
    assert sent["tools"] == TOOLS
    assert (sent["parallel_tool_calls"], sent["prompt_cache_key"], sent["novelty"]) == (False, "k", [1])


def test_logprobs(client):
    asked = {"model": "openai-chat/logprobs", "messages": HELLO, "logprobs": True, "top_logprobs": 1}
    whole = client.chat.completions.create(**asked).choices[0]
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    error = refused(
        lambda: client.chat.completions.create(model="anthropic-messages/text", messages=HELLO, logprobs=True),
        openai.BadRequestError,
    )
    assert error.param == "logprobs"


def test_a_refusal(client):
    choice = client.chat.completions.create(model="openai-chat/refusal", messages=HELLO).choices[0]
    assert choice.message.refusal and choice.message.content is None and choice.finish_reason == "stop"
    choice = client.chat.completions.create(model="anthropic-messages/refusal-without-text", messages=HELLO).choices[0]
    assert choice.finish_reason == "content_filter"


def test_async(url, key, wire):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            streams = [
                client.chat.completions.create(model=f"{wire}/text", messages=HELLO, stream=True) for _ in range(5)
            ]
            return [[chunk async for chunk in stream] for stream in await asyncio.gather(*streams)]

    answers = asyncio.run(ask())
    texts = {"".join(chunk.choices[0].delta.content or "" for chunk in chunks) for chunks in answers}
    assert len(texts) == 1 and texts != {""}
    assert len({chunks[0].id for chunks in answers}) == 5


def test_leaving_closes_the_upstream(client, left):
    stream = client.chat.completions.create(model="scripted/hold-openai", messages=HELLO, stream=True)
    texts = (chunk.choices[0].delta.content for chunk in stream)
    assert next(text for text in texts if text) == "Wait"
    stream.close()
    assert left("hold-openai")


def test_leaving_a_whole_answer_closes_the_upstream(url, key, asked, left):
    """The client gives up before it has anything."""

    async def give_up():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            asking = client.chat.completions.create(model="scripted/hold-openai-whole", messages=HELLO)
            asking = asyncio.create_task(asking)
            assert await asyncio.to_thread(asked, "hold-openai-whole")
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(give_up())
    assert left("hold-openai-whole")


def test_refusals_raise_their_own_classes(client, url, narrow_key, limited_key):
    def asking(client, model="openai-chat/text", **more):
        return lambda: client.chat.completions.create(model=model, messages=HELLO, **more)

    nobody = openai.OpenAI(base_url=f"{url}/v1", api_key="nobody's", max_retries=0)
    narrow = openai.OpenAI(base_url=f"{url}/v1", api_key=narrow_key, max_retries=0)
    error = refused(asking(nobody), openai.AuthenticationError)
    assert error.code == "unauthenticated" and error.request_id
    refused(asking(narrow, "anthropic-messages/text"), openai.PermissionDeniedError)
    refused(asking(client, "nobody's"), openai.NotFoundError)
    for field, more in (("n", {"n": 0}), ("temperature", {"temperature": "hot"}), ("audio", {"audio": {"voice": "a"}})):
        error = refused(asking(client, **more), openai.BadRequestError)
        assert (error.param, error.code, error.type) == (field, "invalid_request", "invalid_request_error")
    limited = openai.OpenAI(base_url=f"{url}/v1", api_key=limited_key, max_retries=0)
    error = refused(lambda: [asking(limited)() for _ in range(2)], openai.RateLimitError)
    assert int(error.response.headers["retry-after"]) > 0
    assert error.response.headers["x-ratelimit-limit-requests"] == "1"


def test_errors_of_the_upstream_are_retried_where_that_can_help(url, key):
    asked = []
    transport = httpx.HTTPTransport()

    class Counting(httpx.BaseTransport):
        def handle_request(self, request):
            asked.append(request)
            return transport.handle_request(request)

    client = openai.OpenAI(
        base_url=f"{url}/v1", api_key=key, max_retries=2, http_client=httpx.Client(transport=Counting())
    )
    for model, kind, status in (
        ("scripted/status-503", openai.InternalServerError, 502),
        ("scripted/status-401", openai.InternalServerError, 502),
        ("scripted/status-429", openai.RateLimitError, 429),
        ("scripted/status-422", openai.UnprocessableEntityError, 422),
        ("openai-chat/error-first-event", openai.InternalServerError, 502),
        ("openai-chat/html-page", openai.InternalServerError, 502),
    ):
        hasty = client.with_options(max_retries=0)
        for stream in (False, True):
            error = refused(
                lambda: hasty.chat.completions.create(model=model, messages=HELLO, stream=stream), kind
            )
            assert error.status_code == status, model
    # A refusal of the request itself cannot change; an upstream that fails may work again.
    for model, kind, times in (
        ("scripted/status-503", openai.InternalServerError, 3),
        ("scripted/status-422", openai.UnprocessableEntityError, 1),
    ):
        asked.clear()
        refused(lambda: client.chat.completions.create(model=model, messages=HELLO), kind)
        assert len(asked) == times, model


def test_a_stream_that_breaks_raises(client):
    for model, code in (
        ("openai-chat/error-mid-stream", "upstream_error"),
        ("openai-chat/truncated", "stream_interrupted"),
        ("openai-chat/unparsable", "bad_upstream_data"),
        ("anthropic-messages/error-overloaded", "upstream_error"),
    ):
        stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
        error = refused(lambda: list(stream), openai.APIError)
        assert error.code == code, model
        # A whole answer is whole or none.
        error = refused(
            lambda: client.chat.completions.create(model=model, messages=HELLO), openai.InternalServerError
        )
        assert (error.status_code, error.code) == (502, code)


def test_many_at_once(client):
    """Each gets its own answer."""
    texts = []
    ask = lambda: texts.append(
        client.chat.completions.create(model="openai-chat/text", messages=HELLO).choices[0].message.content
    )
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 16 and len(set(texts)) == 1


def test_several_answers(client):
    asked = {"model": "openai-chat/several-choices", "messages": HELLO, "n": 3}
    choices = client.chat.completions.create(**asked).choices
    expected = [("The Müritz", "stop"), ("Lake Garda", "length"), ("", "tool_calls")]
    assert [(choice.message.content or "", choice.finish_reason) for choice in choices] == expected
    assert choices[2].message.tool_calls[0].function.arguments == '{"near":"Waren"}'
    texts, finishes, arguments = ["", "", ""], [None] * 3, ""
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        finishes[choice.index] = choice.finish_reason
        arguments += "".join(piece.function.arguments for piece in choice.delta.tool_calls or [])
    assert list(zip(texts, finishes)) == expected and arguments == '{"near":"Waren"}'
    one = client.chat.completions.create(**asked | {"n": 1})
    assert [choice.index for choice in one.choices] == [0]
    error = refused(lambda: client.chat.completions.create(**asked | {"model": "gemini/text"}), openai.BadRequestError)
    assert error.param == "n"


def test_functions_of_old(client, wire):
    """They reach every upstream as tools, and are answered as what they were."""
    model = f"{wire}/{TOOL_CALLS.get(wire, 'tool-call')}"
    function = TOOLS[0]["function"]
    asked = {"model": model, "messages": HELLO, "functions": [function]}
    choice = client.chat.completions.create(**asked).choices[0]
    call = choice.message.function_call
    assert (choice.finish_reason, choice.message.tool_calls) == ("function_call", None)
    assert call.name and isinstance(json.loads(call.arguments), dict)
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    pieces = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call]
    assert "".join(piece.arguments for piece in pieces) == call.arguments
    assert chunks[-1].finish_reason == "function_call"
    turns = [*HELLO, choice.message, {"role": "function", "name": call.name, "content": "sunny"}]
    again = client.chat.completions.create(model=f"{wire}/text", messages=turns, functions=[function])
    assert again.choices[0].message.content
    echoed = client.chat.completions.create(model="scripted/echo", messages=turns, functions=[function])
    told = json.loads(echoed.choices[0].message.content)
    assert told["tools"][0]["function"]["name"] == "get_weather" and "functions" not in told
    assert told["messages"][-1]["tool_call_id"] == told["messages"][-2]["tool_calls"][0]["id"]


def test_ids_of_calls_do_not_come_again(client):
    """Of an upstream that knows none: a conversation finds a call by its id."""
    ids = set()
    for _ in range(3):
        message = client.chat.completions.create(model="ollama-chat/tool-call", messages=HELLO).choices[0].message
        ids.update(call.id for call in message.tool_calls)
    assert len(ids) == 3 * len(message.tool_calls)
