"""Ctrl-C, remembered: some packages that are being imported answer it with an ImportError, or swallow it."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

_GLANCE_S = 0.1


class Interrupts:
    """Whether the user has pressed Ctrl-C since :func:`remembered` began.

    KeyboardInterrupt is raised again for as long as nobody deals with it: native code that calls back into Python, and
    finalizers, lose exceptions.
    """

    def __init__(self) -> None:
        self.seen = False
        self._over = False
        self._glance = False
        self._sending = threading.Lock()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        glance, self._glance = self._glance, False
        if not glance and not self.seen and hasattr(signal, "pthread_kill"):
            # threading's own locks may be held by what was interrupted.
            _thread.start_new_thread(self._look, ())
        self.seen = True
        if not (glance and (self._over or _dealt_with(sys.exc_info()[1]))):
            raise KeyboardInterrupt

    def end(self) -> None:
        """The signal is not sent again from now on."""
        with self._sending:
            self._over = True

    def _look(self) -> None:
        """Sends the main thread the signal again, now and then: what it is doing shows only there."""
        while True:
            time.sleep(_GLANCE_S)
            with self._sending:
                if self._over or signal.getsignal(signal.SIGINT) != self.interrupt:
                    return
                self._glance = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _dealt_with(handled: BaseException | None) -> bool:
    """Whether ``handled``, what an except or finally is at work on, came of a KeyboardInterrupt."""
    while handled is not None:
        if isinstance(handled, KeyboardInterrupt):
            return True
        handled = handled.__cause__ or handled.__context__
    return False


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
    report = sys.unraisablehook
    sys.unraisablehook = partial(_without_interrupts, report)
    try:
        yield interrupts
    finally:
        interrupts.end()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = report


def _without_interrupts(report: Callable[[sys.UnraisableHookArgs], object], lost: sys.UnraisableHookArgs, /) -> None:
    """Python's report of an exception that a callback or a finalizer lost; of a Ctrl-C, which is raised again, none."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        report(lost)
