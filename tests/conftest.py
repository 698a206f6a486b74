"""Fixtures that several test files share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import served
from hypothesis import settings

# The same examples every time, so that a change is judged by what it changes; new ones: --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so, and every process the tests start would be deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def address(image: Path) -> Iterator[str]:
    """Of a ``pcmedge serve`` process on a real port, with the test file's own ``image`` on it."""
    with served(image, "--lab", "--clock", "manual", "--seed", "3") as (url, _):
        yield url


@pytest.fixture
def device(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The served device, named the way a user would: in the environment."""
    monkeypatch.setenv("PCMEDGE_DEVICE", address)
    return address
