"""What every Python client is told about the gateway under test."""

import os
import urllib.request

import pytest


@pytest.fixture
def url():
    """The gateway, without a path."""
    return os.environ["SLUICEGATE_URL"]


@pytest.fixture
def key():
    """A key that may use every model."""
    return os.environ["SLUICEGATE_KEY"]


@pytest.fixture
def narrow_key():
    """A key that may use `openai-chat/text` alone."""
    return os.environ["SLUICEGATE_NARROW_KEY"]


@pytest.fixture
def limited_key():
    """A key with one request an hour, which somebody may have made already."""
    return os.environ["SLUICEGATE_LIMITED_KEY"]


@pytest.fixture
def left():
    """Waits until the gateway left the scripted upstream's answer of this `hold…` model."""

    def wait(model):
        asked = f"{os.environ['SLUICEGATE_SCRIPTED_URL']}/left/{model}"
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status == 204

    return wait


def pytest_generate_tests(metafunc):
    """A test with a `wire` is run for each that the gateway speaks."""
    if "wire" in metafunc.fixturenames:
        metafunc.parametrize("wire", os.environ["SLUICEGATE_WIRES"].split(","))
