"""LangChain's OpenAI integration, over Chat Completions and Responses."""

import json

import langchain_core.messages as messages
import openai
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Says what the weather is."""
    return f"Sun in {city}"


def model(url, key, name, **more):
    return ChatOpenAI(model=name, base_url=f"{url}/v1", api_key=key, max_retries=0, **more)


def test_streamed_and_whole_are_the_same_answer(url, key, wire):
    chat = model(url, key, f"{wire}/text", stream_usage=True)
    whole = chat.invoke("Hello?")
    chunks = list(chat.stream("Hello?"))
    assert "".join(chunk.text for chunk in chunks) == whole.text != ""
    total = sum(chunks[1:], chunks[0])
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"


def test_tools(url, key):
    chat = model(url, key, "anthropic-messages/tool-use").bind_tools([get_weather])
    answer = chat.invoke("How is the weather?")
    [call] = answer.tool_calls
    assert call["name"] == "get_weather"
    chunks = list(chat.stream("How is the weather?"))
    [streamed] = sum(chunks[1:], chunks[0]).tool_calls
    assert (streamed["name"], streamed["args"]) == (call["name"], call["args"])
    history = [
        messages.HumanMessage("How is the weather?"),
        answer,
        messages.ToolMessage("Sun", tool_call_id=call["id"]),
    ]
    assert model(url, key, "anthropic-messages/text").bind_tools([get_weather]).invoke(history).text


def test_what_is_asked(url, key):
    chat = model(url, key, "scripted/echo", temperature=0.5, max_tokens=9, stop=["END"])
    sent = json.loads(chat.invoke([messages.SystemMessage("Be brief"), messages.HumanMessage("Hello?")]).text)
    assert (sent["temperature"], sent["max_tokens"], sent["stop"]) == (0.5, 9, ["END"])
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]


def test_errors(url, key):
    with pytest.raises(openai.AuthenticationError):
        model(url, "nobody's", "openai-chat/text").invoke("Hello?")
    with pytest.raises(openai.APIError):
        list(model(url, key, "openai-chat/truncated").stream("Hello?"))


def test_the_responses_api(url, key, wire):
    chat = ChatOpenAI(
        model=f"{wire}/text", base_url=f"{url}/v1", api_key=key, max_retries=0, use_responses_api=True
    )
    whole = chat.invoke("Hello?")
    assert whole.text == "".join(chunk.text for chunk in chat.stream("Hello?")) != ""
