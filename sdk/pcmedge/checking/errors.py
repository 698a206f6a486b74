"""Relative errors over many batches, and the chips they are measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcmedge.errors import MissingExtraError

if TYPE_CHECKING:
    from pcmedge_emulator.layer_outputs import OpenChip


@dataclass
class RelativeError:
    """Sums of squares of error and signal, batch by batch."""

    error: float = 0.0
    signal: float = 0.0

    def add(self, found: Any, expected: Any) -> None:
        exact = np.asarray(expected, np.float64)
        self.error += float(np.square(np.asarray(found, np.float64) - exact).sum())
        self.signal += float(np.square(exact).sum())

    @property
    def value(self) -> float:
        """Root mean square of the error over that of the signal; infinite for an error beside no signal."""
        if self.signal == 0:
            return math.inf if self.error > 0 else 0.0
        return math.sqrt(self.error / self.signal)


def open_chip() -> type[OpenChip]:
    """The emulated chip with an open lid; MissingExtraError without the extra "emulator"."""
    try:
        import onnxruntime  # noqa: F401
        from pcmedge_emulator.layer_outputs import OpenChip
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Comparing with an emulated chip") from error
    return OpenChip
