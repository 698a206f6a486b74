"""The line LiteRT greets with: ``INFO: Created TensorFlow Lite XNNPACK delegate for CPU.``, once a process, on stderr.

Its logger has a level, but no environment variable or function that sets it (2.3.0), so the line is taken out of what
is written to the descriptor meanwhile. All else that was written there follows.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

STDERR = 2
_GREETING = re.compile(rb"^INFO: Created TensorFlow Lite [^\n]*\n?", re.MULTILINE)
_first = threading.Lock()


@contextmanager
def without_greeting() -> Iterator[None]:
    """Around what first makes LiteRT choose its kernels. Only the first use in a process touches the descriptor."""
    if not _first.acquire(blocking=False):
        yield
        return
    # Never released: the greeting comes once, and so does this.
    try:
        kept = os.dup(STDERR)
    except OSError:  # without stderr nobody reads the line either
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            _pass_on(caught)


def _pass_on(caught: IO[bytes]) -> None:
    with suppress(OSError):
        caught.seek(0)
        rest = _GREETING.sub(b"", caught.read())
        if rest:
            os.write(STDERR, rest)
