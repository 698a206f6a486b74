"""The package data of the demo: handwritten digits and the network that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HERE = Path(__file__).parent
MODEL_FILE = _HERE / "digits.onnx"
DATA_FILE = _HERE / "digits.npz"

LABELS = tuple("0123456789")
INK = 16
"""Darkest value of a pixel: pictures are counts of ink pixels in 4 x 4 cells of a 32 x 32 scan."""

SPLIT_SEED = 0
TRAIN, VALIDATION, TEST = range(3)
SPLIT_COUNTS = (1097, 300, 400)


@dataclass(frozen=True)
class Pictures:
    """``pictures`` uint8 [N, 8, 8] from 0 (paper) to 16 (ink); ``labels`` uint8 [N]."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @cached_property
    def tensors(self) -> NDArray[np.float32]:
        """What the network takes: float32 [N, 1, 8, 8] from 0 to 1."""
        scaled: NDArray[np.float32] = self.pictures[:, None].astype(np.float32) / np.float32(INK)
        return scaled

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Digits:
    """``train``: for training and calibration. ``validation``: for choosing. ``test``: for the numbers shown."""

    train: Pictures
    validation: Pictures
    test: Pictures


def load_digits() -> Digits:
    """The 1,797 digits scikit-learn carries (UCI "Optical Recognition of Handwritten Digits", E. Alpaydin and
    C. Kaynak, CC BY 4.0), split once and for all.
    """
    with np.load(DATA_FILE, allow_pickle=False) as stored:
        pictures, labels, split = stored["pictures"], stored["labels"], stored["split"]
    train, validation, test = (
        Pictures(pictures[split == part], labels[split == part]) for part in (TRAIN, VALIDATION, TEST)
    )
    return Digits(train, validation, test)


def write_data_file(path: Path = DATA_FILE) -> None:
    """Make the data file again from scikit-learn's copy (a development dependency)."""
    from sklearn.datasets import load_digits as source

    found = source()
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(len(found.target))
    split = np.empty(len(order), dtype=np.uint8)
    split[order] = np.repeat(np.arange(3, dtype=np.uint8), SPLIT_COUNTS)
    np.savez_compressed(path, pictures=found.images.astype(np.uint8), labels=found.target.astype(np.uint8), split=split)
