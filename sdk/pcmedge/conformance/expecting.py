"""How a check says what it expected and what it found."""

from __future__ import annotations

from typing import Any


class Broken(Exception):
    """The device does not keep the promise."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.expected = expected
        self.found = found


class NotApplicable(Exception):
    """The promise says nothing about this device, or cannot be tested on it; the text says why."""


def expect(kept: bool, expected: str, found: Any) -> None:
    """Broken unless ``kept``."""
    if not kept:
        raise Broken(expected, found if isinstance(found, str) else repr(found))


def expect_equal(what: str, expected: Any, found: Any) -> None:
    """Broken unless both are equal."""
    if expected != found:
        raise Broken(f"{what} {_short(expected)}", _short(found))


def _short(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"
