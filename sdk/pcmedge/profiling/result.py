"""A profile as frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """One analog layer.

    On the chip, by the image's own estimate for one sample: ``tiles``, ``mvms`` (matrix-vector products on all tiles
    together), ``energy_j``, ``latency_s``. In the emulator, measured for the whole batch: ``time_s``, of which
    ``product_s`` in the products themselves and the rest in converters, noise and scales; ``share`` of the time of all
    operators. ``saturation``: share of ADC codes at full scale (unit 1).
    """

    layer: str
    operator: str
    tiles: int
    mvms: int
    energy_j: float
    latency_s: float
    time_s: float
    product_s: float
    share: float
    saturation: float


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """All digital operators of one kind, measured in the emulator for the whole batch."""

    operator: str
    time_s: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """``run_s``: median seconds of an inference of ``batch`` samples without the profiler; ``profiled_s``: sum over all
    operators with it. ``energy_j``, ``latency_s`` and ``mvms`` are the chip's, for one sample.
    """

    model: str
    physics: str
    read_noise: str
    precision: str
    age_s: float
    batch: int
    runs: int
    threads: int
    run_s: float
    profiled_s: float
    energy_j: float
    latency_s: float
    mvms: int
    layers: tuple[LayerProfile, ...]
    digital: tuple[OperatorTime, ...]
