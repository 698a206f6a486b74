"""Ctrl-C, remembered: some packages answer one that comes while they are imported with an ImportError."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Interrupts:
    """Whether the user has pressed Ctrl-C since :func:`remembered` began."""

    def __init__(self) -> None:
        self.seen = False

    def interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        """The signal handler: what Python does by itself, and remember it."""
        self.seen = True
        raise KeyboardInterrupt


@contextmanager
def remembered() -> Iterator[Interrupts]:
    """While this is entered, Ctrl-C raises KeyboardInterrupt as always and is remembered.

    Another handler than Python's own (a parent's wish that Ctrl-C be ignored, an embedding program's, or none because
    this is not the main thread) is left in place.
    """
    interrupts = Interrupts()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    try:
        signal.signal(signal.SIGINT, interrupts.interrupt)
    except ValueError:
        yield interrupts
        return
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
