"""What OpenAI's and Anthropic's SDKs ask besides answers of models."""

import anthropic
import openai
import pytest


@pytest.fixture
def for_openai(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def for_anthropic(url, key):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)


def test_models(for_openai, for_anthropic):
    assert "openai-chat/*" in [model.id for model in for_openai.models.list()]
    assert for_openai.models.retrieve("openai-chat/text").id == "openai-chat/text"
    # Names with a `*` are not in this list, and the gateway under test has no others.
    assert list(for_anthropic.models.list(limit=1)) == []
    assert for_anthropic.models.retrieve("openai-chat/text").display_name == "openai-chat/text"
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        for_openai.models.retrieve("nothing")
    with pytest.raises(anthropic.NotFoundError, match="there is no model"):
        for_anthropic.models.retrieve("nothing")


def test_counting(for_openai, for_anthropic, wire):
    model = f"{wire}/text"
    hello = [{"role": "user", "content": "Hello there"}]
    # The fixtures have no counts, so these are estimates.
    counted = for_anthropic.messages.with_raw_response.count_tokens(model=model, messages=hello)
    assert counted.headers["x-sluicegate-estimated"] == "true"
    assert counted.parse().input_tokens > 0
    assert for_openai.responses.input_tokens.count(model=model, input="Hello there").input_tokens > 0


def test_embeddings(for_openai):
    answer = for_openai.embeddings.create(model="scripted/any", input="Hello")
    assert answer.data[0].embedding == [0.5, -0.25]
    assert answer.usage.total_tokens == 5
    with pytest.raises(openai.BadRequestError, match="speaks openai-chat or openai-responses"):
        for_openai.embeddings.create(model="gemini/text", input="Hello")


def test_legacy_completions(for_openai):
    def text(model):
        chunks = for_openai.completions.create(model=f"scripted/{model}", prompt="Hello", stream=True)
        return "".join(chunk.choices[0].text for chunk in chunks)

    assert text("whole") == "Hello"
    with pytest.raises(openai.APIError, match="ended before the answer was complete"):
        text("cut")
