"""OpenAI's own Python client."""

import openai
import pytest


@pytest.fixture
def client(url, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def test_the_models_of_a_key(url, key, narrow_key, client):
    assert "openai-chat/*" in {model.id for model in client.models.list()}
    narrow = openai.OpenAI(base_url=f"{url}/v1", api_key="nobody's", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        narrow.models.list()
