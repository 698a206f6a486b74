"""Devices that break the device contract, one fault each, as the authors of firmware might make them.

Written from docs/device-contract.md alone: whoever wrote them had not seen the conformance suite that is to catch them;
but for those of ``versions``, made together with the checks of their rules.
:data:`WRONG_DEVICES` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from wrong_devices import (
    atomicity,
    calibrated,
    changes,
    errors,
    inference,
    journal,
    keeping,
    lab,
    leases,
    programming,
    recalibration,
    streams,
    telling,
    versions,
)
from wrong_devices.firmware import Firmware, Running, running

__all__ = ["GOOD_DEVICE", "WRONG_DEVICES", "Running", "WrongDevice"]

_MODULES = (
    errors, changes, leases, programming, atomicity, recalibration, calibrated,
    inference, streams, telling, journal, keeping, lab, versions,
)  # fmt: skip


@dataclass(frozen=True)
class WrongDevice:
    """``rules``: those of the contract it breaks. ``start()`` serves it; ``start(persistent=True)`` one that can be
    restarted, which is where the fault shows if it ``needs_restart``."""

    name: str
    story: str
    rules: tuple[str, ...]
    needs_restart: bool
    start: Callable[..., AbstractContextManager[Running]]


def _described(firmware: type[Firmware]) -> WrongDevice:
    return WrongDevice(
        name=firmware.device_name(),
        story=firmware.story(),
        rules=firmware.rules,
        needs_restart=firmware.restarts,
        start=partial(running, firmware),
    )


def _all() -> Iterator[WrongDevice]:
    for module in _MODULES:
        for found in vars(module).values():
            if isinstance(found, type) and found.__module__ == module.__name__ and getattr(found, "rules", ()):
                yield _described(found)


GOOD_DEVICE = _described(Firmware)
"""What all of them are but for their faults."""

WRONG_DEVICES: tuple[WrongDevice, ...] = tuple(_all())
