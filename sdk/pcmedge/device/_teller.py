"""The thread that tells an application of turn-overs, in order, and logs them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pcmedge.device._turnover import Switch, Turnover

_LOG = logging.getLogger("pcmedge.fallback")
# A library writes on nobody's stderr unless logging is set up; only a listener's own exceptions are not to be lost.
_LOG.addHandler(logging.NullHandler())
_LISTENERS_LOG = logging.getLogger("pcmedge.listeners")

_PATIENCE_S = 5.0
"""How long stopping waits for a listener that does not return."""


class Teller:
    """Runs from :meth:`start` until the switch is closed."""

    def __init__(self, switch: Switch, listener: Callable[[Turnover], object] | None) -> None:
        self._switch = switch
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="pcm-turnovers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the switch was closed; a listener may call it."""
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        for turnover in self._switch.watch():
            _LOG.warning("the %s answers from now on: %s", turnover.to_device, turnover.message)
            if self._listener is not None:
                try:
                    self._listener(turnover)
                except Exception:
                    _LISTENERS_LOG.exception("on_turnover failed for turn-over %d", turnover.sequence)
