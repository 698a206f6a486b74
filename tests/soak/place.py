"""Where a soak's clients meet: one device, three networks on it, and what everybody may count on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from pcmedge.conformance import probe
from pcmedge.demo import compile_digits, load_digits
from pcmedge.device import Device
from pcmedge.image import ChipImage

from .device_process import ROOT

STEADY, CHANGING, LARGE = "digits", probe.NAME, "resnet32"
"""``STEADY`` is never erased, unloaded or broken, so its requests must be answered and right; the others are."""
RESNET = ROOT / "examples" / "resnet32_cifar10" / "models" / "resnet32.pcmi"
RIGHT = 0.6
"""Of a batch of 32 digits, whatever the device's age and the statistics it was rolled back to."""

STREAMS = 20
"""Open at once to begin with; the habits never have more."""


class WrongAnswer(Exception):
    """The steady model answered, and wrongly."""


@dataclass
class Place:
    """What all habits share: where the device is, the images, the inputs. One :class:`Device` per worker."""

    address: str
    digits: ChipImage
    inputs: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    large: bool

    @classmethod
    def at(cls, address: str, *, large: bool) -> Place:
        test = load_digits().test
        return cls(address, compile_digits(), test.tensors, test.labels, large)

    def settle(self, device: Device) -> None:
        """The models every habit counts on, programmed and left alone by policies."""
        for image in (self.digits, probe.shipped(1), *((ChipImage.open(RESNET),) if self.large else ())):
            device.program(image, replace=True)
            device.set_policy("manual", model=image.name)
        # Young devices drift fast; a day later an hour more or less costs no answer.
        device.lab.advance("30d")
        for _ in range(2):
            device.recalibrate(model=STEADY)

    def fill(self, device: Device, events: int) -> None:
        """What is kept on purpose, up to its bound: threads that answer as many calls at once as there will be, events
        of the journal, answers to request ids. What grows after this is no such thing.
        """
        with ExitStack() as stack:
            for _ in range(STREAMS):
                stream = device.watch_events()
                stack.callback(stream.close)
                next(stream)
            with ThreadPoolExecutor(STREAMS) as together:
                list(together.map(lambda _: device.self_test(model=STEADY), range(4 * STREAMS)))
        for _ in range(events // 2):
            device.deactivate(STEADY)
            device.activate(STEADY)


Habit = Callable[[Place, Device, np.random.Generator], None]


def tiles_of(device: Device, model: str) -> list[int]:
    found = [each for each in device.telemetry(tiles=True).models if each.name == model]
    return [tile.tile for each in found for tile in each.tiles]
