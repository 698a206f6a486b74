"""The two orders of axes in which a picture's tensor may exist: TFLite's NHWC and ONNX's NCHW."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from pcmedge.compiler.graph import Array


class Layout(Enum):
    """Order of the axes of a rank-4 tensor; tensors of another rank are always PLAIN."""

    PLAIN = "nhwc"
    CHANNELS_FIRST = "nchw"

    def axis(self, plain: int) -> int:
        """Where an axis of the TFLite tensor lies."""
        return plain if self is Layout.PLAIN else (0, 2, 3, 1)[plain]

    def order(self, plain: Sequence[int]) -> list[int]:
        """A shape, or anything else with one entry per axis, in this layout."""
        return list(plain) if self is Layout.PLAIN else [plain[0], plain[3], plain[1], plain[2]]

    def arrange(self, values: Array) -> Array:
        return values if self is Layout.PLAIN else np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def named(self, stem: str) -> str:
        """What a tensor of that name is called in this layout."""
        return stem if self is Layout.PLAIN else f"{stem}/{self.value}"


PLAIN, CHANNELS_FIRST = Layout.PLAIN, Layout.CHANNELS_FIRST


def same_order(shape: Sequence[int]) -> bool:
    """Whether a rank-4 tensor has the same memory order in both layouts."""
    return len(shape) == 4 and (shape[3] == 1 or shape[1] * shape[2] == 1)
