"""Errors that are pcmedge's and TFLite's at once: existing ``except ValueError`` and ``except RuntimeError`` work."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pcmedge.errors import Error


def also(error: Error, builtin: type[Exception]) -> Error:
    """The same error, as an instance of its own class and of ``builtin`` (ValueError or RuntimeError)."""
    if isinstance(error, builtin):
        return error
    return _rebuilt(type(error), builtin, error.message, error.metadata)


@contextmanager
def raising(builtin: type[Exception]) -> Iterator[None]:
    """Typed errors raised inside are ``builtin`` as well, as TFLite's of the same call are."""
    try:
        yield
    except Error as error:
        raise also(error, builtin).with_traceback(error.__traceback__) from error.__cause__


@functools.cache
def _both(kind: type[Error], builtin: type[Exception]) -> type[Error]:
    def reduce(error: Error) -> tuple[Any, ...]:
        return (_rebuilt, (kind, builtin, error.message, error.metadata))

    members: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    return type(kind.__name__, (kind, builtin), members)


def _rebuilt(kind: type[Error], builtin: type[Exception], message: str, metadata: dict[str, str]) -> Error:
    both: type[Error] = _both(kind, builtin)  # type: ignore[arg-type]  # mypy finds __hash__ of a class in its instances
    return both(message, **metadata)
