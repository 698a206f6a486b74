"""The journal of a chip as log lines while it is served, and the access log."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from pcmedge_emulator.chip import Chip
from pcmedge_emulator.outcomes import Event
from pcmedge_emulator.service.health import HEALTH_SERVICE
from pcmedge_emulator.service.observing import Call, Observer

_GLANCE_S = 0.2
_WARNINGS = ("recalibration-refused", "self-test-failed", "fault", "fault-detected", "cancelled")
_ERRORS = ("failed",)


class Log(Protocol):
    """As structlog's bound loggers."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


@contextlib.contextmanager
def followed(chip: Chip, log: Log) -> Iterator[None]:
    """Logs the newest event of the journal and every one from now on, a line each, named by its kind."""
    newest = 0
    while more := chip.events(newest):
        newest = more[-1].sequence
    over = threading.Event()

    def follow() -> None:
        # The newest is the start of this very chip.
        after = max(0, newest - 1)
        while True:
            ending = over.is_set()
            for event in chip.wait_events(after, 0.0 if ending else _GLANCE_S):
                after = event.sequence
                _write(log, event)
            if ending:
                return

    thread = threading.Thread(target=follow, name="pcm-journal-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write(log: Log, event: Event) -> None:
    say = log.error if event.kind in _ERRORS else log.warning if event.kind in _WARNINGS else log.info
    details = {f"detail_{key}": value for key, value in event.details.items()}
    named = {"model": event.model} if event.model else {}
    lost = {"lost_before": event.lost_before} if event.lost_before else {}
    say(
        event.kind,
        note=event.message,
        sequence=event.sequence,
        device_time_s=event.device_time_s,
        **named,
        **lost,
        **details,
    )


def access_log(log: Log) -> Observer:
    """One line per call that ended, with nothing of what it carried but its id. Probes of health are at level debug:
    there is one every few seconds, and what they find shows elsewhere.
    """

    def write(call: Call) -> None:
        say = log.debug if call.name.startswith(HEALTH_SERVICE) else log.info
        say(
            "call",
            call=call.name,
            status=call.status,
            duration_ms=round(1e3 * call.duration_s, 3),
            request_id=call.request_id,
            peer=call.peer,
            replies=call.replies,
            **({"path": call.path} if call.path else {}),
        )

    return write
