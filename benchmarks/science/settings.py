"""What is measured: ages, ways of compensating drift, sizes of the sweeps; in full, and to try the command out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Part = Literal["held-out", "test"]

NETWORKS: Final = {
    "float": "trained without noise",
    "eta-0": "0 %, clipped",
    "eta-1.9": "1.9 %",
    "noise-aware": "3.8 %",
    "eta-7.6": "7.6 %",
}
"""Files of the models folder (NAME.pt or NAME.onnx), and the noise they were trained with as a share of w_max."""

FLOAT: Final = "float"
BASELINE: Final = "float"
"""What gaps are measured from: of the two networks trained without noise the better one on the held-out pictures."""
TRAINED: Final = "noise-aware"
HELD_OUT: Final = 5000
"""Training pictures held out for choosing, as the training recipe holds them out (seed 0)."""
RANGE_PICTURES: Final = 256
"""Training pictures that converter ranges are chosen with."""


@dataclass(frozen=True)
class Buffer:
    """Calibration samples in the image: ``real`` training pictures, or ``synthetic`` ones made from a seed."""

    kind: Literal["real", "synthetic"] = "real"
    samples: int = 100


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of compensating drift: a mode of the drift study, and the buffer of the image it runs on."""

    mode: str
    label: str
    buffer: Buffer = Buffer()
    gdc_everywhere: bool = False


METHODS: Final = {
    "none": Method(mode="none", label="no compensation"),
    "gdc": Method(mode="gdc", label="GDC"),
    "gdc-per-column": Method(mode="gdc-per-column", label="GDC per column"),
    "adabs": Method(mode="adabs", label="AdaBS, 2,600 images", buffer=Buffer("real", 2600)),
    "adabs+gdc": Method(mode="adabs", label="AdaBS + GDC, 2,600", buffer=Buffer("real", 2600), gdc_everywhere=True),
    "paired": Method(mode="adabs-paired", label="paired, 100 images", buffer=Buffer("real", 100)),
    "paired-synthetic": Method(
        mode="adabs-paired", label="paired, synthetic (no data)", buffer=Buffer("synthetic", 64)
    ),
}
"""GDC: one factor per tile from a read-out. AdaBS: batch-norm statistics measured anew, as published (13 batches of
200); "+ GDC": with factors in the layers before them too. Paired: docs/calibration.md."""

BEST: Final = "paired-synthetic"
"""The recalibration the table's rows are about. On held-out pictures it kept as much as paired with 26 or 100 training
pictures (docs/calibration.md) and needs none of anybody's."""

PROGRAMMED: Final = "0s"
"""Age of the first read, 20 s after the programming pulse: the "25 s after programming" of the paper is age 5 s."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """``samples``, ``chips``: of what goes into the table; ``sweep_*``: of what explains it. 0 samples: all."""

    ages: tuple[str, ...] = ("25s", "1h", "1d", "30d", "1y")
    samples: int = 0
    chips: int = 10
    sweep_samples: int = 2000
    sweep_chips: int = 5
    held_out: int = HELD_OUT
    weight_ages: tuple[str, ...] = ("0s", "25s", "5m", "1h", "8h", "1d", "7d", "30d", "120d", "1y")
    weight_chips: int = 3
    devices: int = 20_000
    buffers: tuple[int, ...] = (13, 26, 50, 100, 260, 650, 2600)
    bits: tuple[int, ...] = (4, 5, 6, 7, 8, 9, 10)
    tiles: tuple[int, ...] = (128, 256, 512)
    sources: int = 7
    largest_buffer: int = 2600
    largest_synthetic: int = 650
    draws: int = 4000


FULL: Final = Scale()
QUICK: Final = Scale(
    ages=("1d", "1y"),
    samples=60,
    chips=2,
    sweep_samples=40,
    sweep_chips=1,
    held_out=100,
    weight_ages=("0s", "1y"),
    weight_chips=1,
    devices=2000,
    buffers=(13, 26),
    bits=(4, 8),
    tiles=(128, 512),
    sources=2,
    largest_buffer=40,
    draws=300,
)
"""Proves that every part runs; its numbers mean nothing."""
