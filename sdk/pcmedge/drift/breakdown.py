"""What breaks of a chip of a study as it ages, and the visit that repairs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcmedge.errors import CapacityError

if TYPE_CHECKING:
    from pcmedge_emulator.chip import Chip

    from pcmedge._contract.image_pb2 import ChipProfile
    from pcmedge.drift.field_faults import FieldFaults
    from pcmedge.image import ChipImage

SERIAL = "drift-study"
"""Of every chip of a study; with its seed it determines the chip."""


class Breakdown:
    """What breaks of one chip: the same faults for every chip of a seed, whatever else is done with it.

    What appears at a rate is drawn anew between any two ages, so a study of other ages breaks other devices.
    """

    def __init__(self, faults: FieldFaults, profile: ChipProfile, seed: int) -> None:
        self._faults = faults
        self._profile = profile
        self._seed = seed
        self._now_s = -1.0
        self._steps = 0

    def until(self, chip: Chip, age_s: float) -> None:
        """Injects what appears up to this age. InputValueError for what this chip cannot have."""
        from pcmedge_emulator.born import as_injected, drawn

        found = [as_injected(fault) for fault in self._faults.faults(self._now_s, age_s)]
        for rates in self._faults.rates(self._now_s, age_s):
            self._steps += 1
            found += drawn(rates, self._profile, self._stream)
        self._now_s = age_s
        if found:
            chip.inject_faults(found)

    def _stream(self, kind: str, tile: int) -> np.random.Generator:
        from pcmedge_emulator.physics.random import stream

        return stream(SERIAL, self._seed, f"field-{kind}", self._steps, tile)


def visit(chip: Chip, image: ChipImage) -> None:
    """Diagnose, and program again as long as a diagnosis retires tiles of the model and there are others."""
    while any(tile.retired for tile in chip.diagnose(image.name).tiles):
        try:
            chip.program(image, replace=True)
        except CapacityError:
            return
