"""Permanent faults of PCM devices: which ones fail, and the conductance they are stuck at.

A stuck device keeps one conductance whatever is programmed. It neither drifts nor has 1/f noise (an assumption; what it
carries makes short-term noise like any current). How much a network stands is known: Rasch et al. 2023 found no more
than 0.42 % of devices stuck at zero for the most sensitive network and 3 to 4 % for recurrent ones, and large
convolutional networks hurt by 0.05 % stuck at g_max or at random.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError

StuckAt = Literal["reset", "g-max", "random"]


def failed_devices(share: float, devices: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The numbers, ascending, of the devices among ``devices`` that fail: each by itself with probability ``share``.

    ``share`` from 0 to 1, unit 1. Source: Rasch et al. 2023 draw stuck devices independently (aihwkit
    ``WeightModifierParameter``, probabilities of a device at reset, at g_max and at random). Raises InputValueError.
    """
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise InputValueError(f"a share of devices is a number from 0 to 1, found {share!r}", share=share)
    return np.flatnonzero(rng.random(devices, dtype=np.float32) < np.float32(share))


def stuck_conductances(at: StuckAt, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The relative conductance g = G / g_max of ``count`` stuck devices, float32 [count], unit 1.

    "reset": 0, no current. "g-max": 1. "random": uniform from 0 to 1, one draw per device for its life. Source: the
    three kinds of Rasch et al. 2023.
    """
    if at == "random":
        return rng.random(count, dtype=np.float32)
    return np.full(count, 1.0 if at == "g-max" else 0.0, np.float32)
