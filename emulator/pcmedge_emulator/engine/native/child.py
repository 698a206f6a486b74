"""Running a compiler, or the test of what it made: bounded in time, and ended when this process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

_GLANCE_S = 0.1
_MERCY_S = 1.0
_LONGEST = 300
# How others end a process: a terminal's Ctrl-C, which the child gets too, a service manager, a lack of memory.
_ENDED = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGKILL") if hasattr(signal, name)
)


class Failed(Exception):
    """The compiler made no library, or one that does not do; the message says why, in one line."""

    def __init__(self, why: str) -> None:
        super().__init__(why[:_LONGEST])


class Interrupted(Exception):
    """Somebody ended the child, or this process ends: that says nothing of compiler and library."""


def run(command: list[str], limit_s: float, over: threading.Event, **environment: str) -> tuple[int, str]:
    """Exit status of ``command`` and what it wrote to stderr.

    Raises :class:`Failed` if it cannot be started or takes longer than ``limit_s``, :class:`Interrupted` if it was
    ended by somebody else or ``over`` was set.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
        )
    except OSError as error:
        raise Failed(str(error)) from error
    stop = time.monotonic() + limit_s
    with child:
        while True:
            try:
                _, said = child.communicate(timeout=_GLANCE_S)
                break
            except subprocess.TimeoutExpired:
                late = time.monotonic() > stop
                if not late and not over.is_set():
                    continue
                _end(child)
                if over.is_set():
                    raise Interrupted("this process ends") from None
                raise Failed(f"{command[0]} took longer than {limit_s:.0f} s") from None
    # Shells, and what wraps a compiler, say 128 and the signal.
    if any(child.returncode in (-number, 128 + number) for number in _ENDED):
        raise Interrupted(f"{command[0]} was ended, status {child.returncode}")
    return child.returncode, said


def _end(child: subprocess.Popen[str]) -> None:
    """First asked: compilers then remove their temporary files."""
    child.terminate()
    try:
        child.wait(_MERCY_S)
    except subprocess.TimeoutExpired:
        child.kill()
