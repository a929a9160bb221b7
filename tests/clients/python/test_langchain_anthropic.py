"""LangChain over Anthropic's API."""

import langchain_anthropic
import pytest
from langchain_core.messages import HumanMessage, ToolMessage


@pytest.fixture
def chat(url, key):
    def model(name):
        return langchain_anthropic.ChatAnthropic(model=name, base_url=url, api_key=key, max_retries=0, max_tokens=100)

    return model


def get_weather(city: str, note: str = "") -> str:
    """Says what the weather is."""
    return f"sunny in {city}{note}"


def test_every_wire_whole_and_streamed(chat, wire):
    whole = chat(f"{wire}/text").invoke("Hello?")
    pieces = list(chat(f"{wire}/text").stream("Hello?"))
    streamed = pieces[0]
    for piece in pieces[1:]:
        streamed += piece
    assert whole.text == streamed.text != ""
    # LangChain reads the usage of a stream from its last event, in which this vendor repeats no input tokens.
    counted = "output_tokens" if wire == "anthropic-messages" else "total_tokens"
    assert whole.usage_metadata[counted] == streamed.usage_metadata[counted] > 0


def test_tools(chat):
    for name in "anthropic-messages/tool-use", "openai-chat/tool-call":
        asked = HumanMessage("Weather?")
        answer = chat(name).bind_tools([get_weather]).invoke([asked])
        (call,) = answer.tool_calls
        assert call["name"] == "get_weather" and call["args"]["city"]
        result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
        assert chat("openai-chat/text").invoke([asked, answer, result]).text


def test_an_answer_that_breaks_raises(chat):
    with pytest.raises(Exception, match="ended before the answer was complete"):
        list(chat("openai-chat/truncated").stream("Hello?"))
