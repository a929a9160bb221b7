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
def asked():
    """Waits until the gateway asked the scripted upstream for this `hold…` model."""
    return lambda model: _seen(f"asked/{model}")


@pytest.fixture
def left():
    """Waits until the gateway left the scripted upstream's answer of this `hold…` model."""
    return lambda model: _seen(f"left/{model}")


def _seen(what):
    with urllib.request.urlopen(f"{os.environ['SLUICEGATE_SCRIPTED_URL']}/{what}", timeout=30) as answer:
        return answer.status == 204


def pytest_generate_tests(metafunc):
    """A test with a `wire` is run for each that the gateway speaks, one with a `real_wire` for each
    that a real model's server does."""
    if "wire" in metafunc.fixturenames:
        metafunc.parametrize("wire", os.environ["SLUICEGATE_WIRES"].split(","))
    if "real_wire" in metafunc.fixturenames:
        wires = [wire for wire in os.environ["SLUICEGATE_RECITE_WIRES"].split(",") if wire]
        nobody = pytest.param(None, marks=pytest.mark.skip("no real model: SLUICEGATE_SHARED has no tools/recite.py"))
        metafunc.parametrize("real_wire", wires or [nobody])
