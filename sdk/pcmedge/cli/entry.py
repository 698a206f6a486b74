"""Where the command begins: Ctrl-C while the rest is imported ends it without a word, with exit code 130.

Nothing is under way then, so there is nothing to clean up, and whatever the packages being imported would make of the
interruption (a traceback, an ImportError) never comes about. Keep what this module imports small.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        import signal

        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, _leave)
        from pcmedge.cli.main import main as command

        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command(arguments)
    except KeyboardInterrupt:
        # Between two handlers, or while the interpreter tidies up; the command reports its own interruptions.
        sys.exit(INTERRUPTED)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)
