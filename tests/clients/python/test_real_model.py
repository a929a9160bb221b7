"""The vendors' clients against a real model: llama.cpp, over each wire that it speaks."""

import json

import anthropic
import openai
import pytest

SAID = "Hello, streaming gateway! Tokens arrive one by ones: café 你好 🚀 done"
THOUGHT = "First weigh options."
HELLO = [{"role": "user", "content": "Hello?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def chat(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def messages(url, key):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)


def model(kind, wire):
    return f"recite-{kind}-{wire}/any"


def completion(chat, kind, wire, stream, **more):
    """Text, reasoning, calls and the finish reason, from a stream or a whole answer."""
    asked = {"model": model(kind, wire), "messages": HELLO, "temperature": 0} | more
    if not stream:
        choice = chat.chat.completions.create(**asked).choices[0]
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        reasoning = getattr(choice.message, "reasoning_content", "")
        return choice.message.content or "", reasoning, calls, choice.finish_reason
    text, reasoning, calls, finish = "", "", [], None
    for chunk in chat.chat.completions.create(stream=True, **asked):
        delta, finish = chunk.choices[0].delta, chunk.choices[0].finish_reason
        text += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", "") or ""
        for piece in delta.tool_calls or []:
            if piece.function.name:
                calls.append([piece.function.name, ""])
            calls[piece.index][1] += piece.function.arguments
    return text, reasoning, [tuple(call) for call in calls], finish


def message(client, kind, wire, stream, **more):
    asked = {"model": model(kind, wire), "max_tokens": 200, "messages": HELLO, "extra_body": {"temperature": 0}} | more
    if not stream:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as streamed:
        return streamed.get_final_message()


def response(chat, kind, wire, stream, **more):
    asked = {"model": model(kind, wire), "input": "Hello?", "temperature": 0} | more
    if not stream:
        return chat.responses.create(**asked)
    with chat.responses.stream(**asked) as streamed:
        return streamed.get_final_response()


@pytest.mark.parametrize("stream", [False, True])
def test_text(chat, messages, real_wire, stream):
    text, reasoning, calls, finish = completion(chat, "text", real_wire, stream)
    assert (text.strip(), reasoning, calls, finish) == (SAID, "", [], "stop")
    said = message(messages, "text", real_wire, stream)
    assert [block.text.strip() for block in said.content] == [SAID]
    assert said.stop_reason == "end_turn" and said.usage.output_tokens > 10
    said = response(chat, "text", real_wire, stream)
    assert said.output_text.strip() == SAID and said.usage.output_tokens > 10


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning(chat, messages, real_wire, stream):
    text, reasoning, calls, finish = completion(chat, "think", real_wire, stream)
    assert (text.strip(), reasoning.strip(), calls, finish) == (SAID, THOUGHT, [], "stop")
    thinking, said = message(messages, "think", real_wire, stream).content
    assert (thinking.thinking.strip(), said.text.strip()) == (THOUGHT, SAID)
    answer = response(chat, "think", real_wire, stream)
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output_text.strip() == SAID


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(chat, messages, real_wire, stream):
    function = {"name": "get_weather", "parameters": CITY}
    tools = [{"type": "function", "function": function}]
    _, _, calls, finish = completion(chat, "tool", real_wire, stream, tools=tools)
    ((name, arguments),) = calls
    assert (name, json.loads(arguments), finish) == ("get_weather", {"city": "Paris"}, "tool_calls")
    said = message(messages, "tool", real_wire, stream, tools=[{"name": "get_weather", "input_schema": CITY}])
    (used,) = [block for block in said.content if block.type == "tool_use"]
    assert (used.name, used.input, said.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")
    answer = response(chat, "tool", real_wire, stream, tools=[{"type": "function", **function}])
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    # The call and its result go back, in the words of each client.
    turns = [*HELLO, {"role": "assistant", "content": said.content}]
    result = {"type": "tool_result", "tool_use_id": used.id, "content": "sunny"}
    again = message(messages, "think", real_wire, stream, messages=[*turns, {"role": "user", "content": [result]}])
    assert again.content[-1].text.strip() == SAID


def test_several_answers(chat, real_wire):
    asked = {"model": model("text", real_wire), "messages": HELLO, "temperature": 0, "n": 2}
    if real_wire != "openai-chat":
        with pytest.raises(openai.BadRequestError) as caught:
            chat.chat.completions.create(**asked)
        assert caught.value.param == "n"
        return
    choices = chat.chat.completions.create(**asked).choices
    assert [(choice.index, choice.message.content.strip()) for choice in choices] == [(0, SAID), (1, SAID)]
    texts, finishes = ["", ""], {}
    for chunk in chat.chat.completions.create(stream=True, **asked):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes[choice.index] = choice.finish_reason
    assert ([text.strip() for text in texts], finishes) == ([SAID, SAID], {0: "stop", 1: "stop"})


@pytest.mark.parametrize("stream", [False, True])
def test_functions_of_old(chat, real_wire, stream):
    asked = {
        "model": model("tool", real_wire),
        "messages": HELLO,
        "temperature": 0,
        "functions": [{"name": "get_weather", "parameters": CITY}],
        "stream": stream,
    }
    answer = chat.chat.completions.create(**asked)
    if stream:
        choices = [chunk.choices[0] for chunk in answer]
        pieces = [choice.delta.function_call for choice in choices if choice.delta.function_call]
        name, arguments = pieces[0].name, "".join(piece.arguments for piece in pieces)
        finish = choices[-1].finish_reason
    else:
        choice = answer.choices[0]
        name, arguments = choice.message.function_call.name, choice.message.function_call.arguments
        finish = choice.finish_reason
    assert (name, json.loads(arguments), finish) == ("get_weather", {"city": "Paris"}, "function_call")
