"""Checks of what callers pass: typed errors that say what was expected and what was found."""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TypeVar

from pcmedge.errors import InputTypeError, InputValueError

Choice = TypeVar("Choice")


def one_of(what: str, value: object, choices: tuple[Choice, ...]) -> Choice:
    """The choice that equals the value. InputValueError listing them."""
    for choice in choices:
        if choice == value:
            return choice
    raise InputValueError(f"{what} is one of {', '.join(map(str, choices))}, got {value!r}.", value=value)


def whole(what: str, value: object, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``. InputTypeError, InputValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputTypeError(f"{what} is a whole number, got {value!r}.", value=value)
    number = int(value)
    if not least <= number <= most:
        raise InputValueError(f"{what} is a whole number from {least} to {most}, got {value!r}.", value=value)
    return number


def text(what: str, value: object, most: int) -> str:
    """Printable text of 1 to ``most`` characters. InputTypeError, InputValueError."""
    if not isinstance(value, str):
        raise InputTypeError(f"{what} is text, got {value!r}.", value=value)
    if not (0 < len(value) <= most and value.isprintable()):
        raise InputValueError(f"{what} has 1 to {most} printable characters, got {value!r}.", value=value)
    return value


def folder(what: str, value: object) -> Path:
    """The path of a folder. InputTypeError for what is none."""
    if not isinstance(value, str | PathLike):
        raise InputTypeError(f"{what} is the path of a folder, got {value!r}.", value=value)
    return Path(value)
