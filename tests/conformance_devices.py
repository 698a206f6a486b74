"""Devices for the conformance tests: they can be restarted in this process, and be somebody else's chip."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pcmedge.conformance import Outcome, Report
from pcmedge_emulator.service import Server, serve

EXAMPLE = Path(__file__).parent.parent / "examples" / "hardware_driver"


class Restartable:
    """A served chip that :meth:`restart` closes and opens again at the same address."""

    def __init__(self, make: Callable[[], Any], listen: str, **serving: Any) -> None:
        self._make = make
        self._serving = serving
        self._chip: Any = None
        self._server: Server | None = None
        self.address = listen
        self._start()

    def _start(self) -> None:
        self._chip = self._make()
        self._server = serve(self._chip, self.address, **self._serving)
        self.address = self._server.address

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0.0)
            self._chip.close()

    def restart(self) -> None:
        self.stop()
        self._start()


@contextlib.contextmanager
def restartable(make: Callable[[], Any], listen: str = "127.0.0.1:0", **serving: Any) -> Iterator[Restartable]:
    device = Restartable(make, listen, **serving)
    try:
        yield device
    finally:
        device.stop()


def digital_chip() -> Any:
    """The hardware of examples/hardware_driver."""
    if str(EXAMPLE) not in sys.path:
        sys.path.insert(0, str(EXAMPLE))
    from digital_chip import DigitalChip

    return DigitalChip()


def ended(report: Report, outcome: Outcome) -> dict[str, str]:
    """The checks that ended so, and why."""
    return {
        result.number: result.why or f"expected {result.expected}; found {result.found}"
        for result in report.results
        if result.outcome is outcome
    }
