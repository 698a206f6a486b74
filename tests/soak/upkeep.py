"""What a load run does to the device: its plan, two calibration buffers in turn, and what the journal says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from pcmedge.compiler import digital_statistics
from pcmedge.device import Device, Policy
from pcmedge.image import ChipImage

RATE = 3600.0
"""Device seconds per second: an hour of ageing, and a recalibration, every second."""

SHIFT = 0.15
"""How far the means of the two calibration buffers are from the true ones, in standard deviations of each channel: the
guard still commits, and outputs lie apart."""

WITHOUT, WITH = "without", "with"
SETTLE_S = 1.5
"""After the policy was changed, for a recalibration that is under way."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``seconds`` of load on each side, in blocks; ``every_s`` a recalibration, by "policy" or by "request"."""

    seconds: float = 120.0
    block_s: float = 15.0
    clients: int = 8
    every_s: float = 1.0
    by: str = "policy"
    rest_s: float = 0.0
    seed: int = 1
    network: str = "digits"

    def blocks(self) -> Iterator[str]:
        """Without, with, with, without, ...: a machine that becomes slower or faster does so for both sides."""
        count = max(1, round(self.seconds / self.block_s))
        for number in range(count):
            yield from (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT)


class Upkeep:
    """Puts the two calibration buffers on the device in turn, and has it recalibrated or lets it."""

    def __init__(self, device: Device, image: ChipImage, plan: Plan) -> None:
        self._device, self._plan, self._name = device, plan, image.name
        self._samples = image.calibration_buffer()
        true, random = digital_statistics(image, self._samples), np.random.default_rng(plan.seed)
        offsets = {node: SHIFT * random.choice([-1.0, 1.0], mean.shape) for node, (mean, _) in true.items()}
        self._buffers = {
            side: {
                node: (mean + side * offsets[node] * np.sqrt(variance), variance)
                for node, (mean, variance) in true.items()
            }
            for side in (1, -1)
        }
        self._started = device.events(after=0, limit=4096)[-1].sequence
        self.put: list[int] = []

    def swap(self) -> None:
        side = -self.put[-1] if self.put else 1
        self._device.replace_calibration_buffer(self._samples, model=self._name, statistics=self._buffers[side])
        self.put.append(side)

    @contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """The policy of a block, and its swaps."""
        every = Policy(kind="interval", interval_s=self._plan.every_s * RATE)
        by_policy = kind == WITH and self._plan.by == "policy"
        self._device.set_policy(every if by_policy else Policy(kind="manual"), model=self._name)
        over, failures = threading.Event(), list[BaseException]()

        def keep() -> None:
            try:
                due_s = time.monotonic()
                while not over.is_set():
                    self.swap()
                    if not by_policy:
                        self._device.recalibrate(model=self._name)
                    due_s += self._plan.every_s
                    over.wait(max(0.0, due_s - time.monotonic()))
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=keep)
        if kind == WITH:
            thread.start()
        try:
            time.sleep(min(SETTLE_S, self._plan.block_s))
            yield
        finally:
            over.set()
            if kind == WITH:
                thread.join()
        if failures:
            raise failures[0]

    def sides(self) -> tuple[dict[int, int], int, int]:
        """Which buffer each statistics generation was measured on; recalibrations committed and refused."""
        found: dict[int, int] = {}
        side, put, committed, refused = 0, iter(self.put), 0, 0
        for event in self._device.events(after=self._started, limit=4096):
            if event.model != self._name:
                continue
            if event.kind == "buffer-changed":
                side = next(put)
            elif event.kind == "recalibrated":
                committed += 1
                found[int(event.details["statistics_generation"])] = side
            elif event.kind == "recalibration-refused":
                refused += 1
        return found, committed, refused
