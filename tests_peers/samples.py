"""Devices programmed and aged by pcmedge and by aihwkit, from the same targets.

Both sides are arrays [chips, weights]: conductances in microsiemens, drift exponents, times in seconds. A *chip* is one
independent programming of the same layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.inference.noise.hermes import HermesNoiseModel
from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
from pcmedge_emulator.crossbar.tile import TARGET_FULL_SCALE, TileDevices, conductances, net, program_tile
from pcmedge_emulator.physics import Technology, stream

DAY_S = 86_400.0
MOMENTS: Mapping[str, float] = {
    "25 s": 25.0,
    "1 hour": 3600.0,
    "1 day": DAY_S,
    "1 month": 30 * DAY_S,
    "1 year": 365 * DAY_S,
}
"""Ages: seconds since the first read, on both sides (aihwkit's ``t_inference``)."""

CHIPS = 36
"""Independent programmings: 36 of 28,224 weights are a million pairs of devices."""

SHAPE = (504, 56)
"""A 3x3 convolution of the last stage of ResNet-32 with 56 channels, unrolled: 28,224 weights."""


def layer_codes(seed: int = 0) -> np.ndarray:
    """Normally distributed weights clipped at 2.5 sigma and normalised, as stored: int16 [rows, columns]."""
    weights = np.clip(np.random.default_rng(seed).normal(size=SHAPE), -2.5, 2.5) / 2.5
    return np.rint(weights * TARGET_FULL_SCALE).astype(np.int16)


def sweep_codes(seed: int = 0) -> np.ndarray:
    """Uniformly distributed weights, so that every conductance has many devices: int16 [rows, columns]."""
    weights = np.random.default_rng(seed).uniform(-1, 1, size=SHAPE)
    weights[0, 0] = 1
    return np.rint(weights * TARGET_FULL_SCALE).astype(np.int16)


@dataclass(frozen=True, eq=False)
class Devices:
    """Single devices with their targets, programmed conductances and exponents, and the conductances at each moment.

    One-dimensional float64 arrays of one length.
    """

    target: np.ndarray
    programmed: np.ndarray
    nu: np.ndarray
    at: Mapping[str, np.ndarray]


class OurChips:
    """The layer on pcmedge's crossbar tiles, through the functions the emulated chip itself calls."""

    def __init__(self, codes: np.ndarray, technology: Technology, *, chips: int = CHIPS, seed: int):
        self.codes, self.technology, self.seed = codes, technology, seed
        self.g_max = technology.g_max_microsiemens
        self.tiles = [
            program_tile(codes[np.newaxis], self.g_max, technology, stream("fidelity", seed, "program", chip))[0]
            for chip in range(chips)
        ]

    def _read_rng(self, chip: int, age_s: float) -> np.random.Generator:
        return stream("fidelity", self.seed, "read", chip, int(age_s))

    def devices(self, moments: Mapping[str, float] = MOMENTS) -> Devices:
        at = {}
        for moment, age_s in moments.items():
            found = [
                conductances(tile, age_s, self.technology, self._read_rng(chip, age_s))
                for chip, tile in enumerate(self.tiles)
            ]
            at[moment] = _flat([plus for plus, _ in found], [minus for _, minus in found])
        return Devices(
            _targets(self.codes, self.g_max, len(self.tiles)),
            _flat([tile.g_plus for tile in self.tiles], [tile.g_minus for tile in self.tiles]),
            _flat([tile.nu_plus for tile in self.tiles], [tile.nu_minus for tile in self.tiles]),
            at,
        )

    def weights(self, age_s: float | None, *, fold: bool = False, rescale: bool = False) -> np.ndarray:
        """Net weights [chips, weights] at an age, or as programmed (None).

        ``fold`` gives up a difference to aihwkit: after programming, only the net conductance of a pair is kept, and
        the device of the other sign is exactly 0. ``rescale`` gives up another: each chip's largest programmed weight
        is mapped to g_max again.
        """
        result = []
        for chip, tile in enumerate(self.tiles):
            used, scale = _rearranged(tile, fold, rescale)
            pair = (used.g_plus, used.g_minus)
            if age_s is not None:
                pair = conductances(used, age_s, self.technology, self._read_rng(chip, age_s))
            result.append(net(*pair, self.g_max).reshape(-1) / scale)
        return np.asarray(result, dtype=np.float64)


def _rearranged(tile: TileDevices, fold: bool, rescale: bool) -> tuple[TileDevices, float]:
    plus, minus = tile.g_plus, tile.g_minus
    difference = plus - minus
    if fold:
        plus, minus = np.maximum(difference, 0), np.maximum(-difference, 0)
    scale = tile.g_max_microsiemens / float(np.abs(difference).max()) if rescale else 1.0
    return (
        TileDevices(
            plus * np.float32(scale), minus * np.float32(scale), tile.nu_plus, tile.nu_minus, tile.g_max_microsiemens
        ),
        scale,
    )


class TheirDevices:
    """aihwkit's model of one device, asked for G+ and G- separately."""

    def __init__(self, codes: np.ndarray, model: BaseNoiseModel, *, chips: int = CHIPS, seed: int):
        torch.manual_seed(seed)
        self.model = model
        self.target = _targets(codes, float(model.g_max), chips)
        wanted = torch.from_numpy(self.target.astype(np.float32))
        self.programmed = model.apply_programming_noise_to_conductance(wanted)
        self.nu = model.generate_drift_coefficients(wanted)

    def devices(self, moments: Mapping[str, float] = MOMENTS) -> Devices:
        at = {
            moment: _array(self.model.apply_drift_noise_to_conductance(self.programmed, self.nu, age_s))
            for moment, age_s in moments.items()
        }
        return Devices(self.target, _array(self.programmed), _array(self.nu), at)


class TheirChips:
    """The layer as aihwkit programs and drifts it: what its inference tiles do with their weights."""

    def __init__(self, codes: np.ndarray, *, chips: int = CHIPS, seed: int):
        torch.manual_seed(seed)
        self.model = PCMLikeNoiseModel()
        self.wanted = torch.from_numpy(codes.astype(np.float32) / TARGET_FULL_SCALE)
        self.chips = [self.model.apply_programming_noise(self.wanted) for _ in range(chips)]

    def weights(self, age_s: float | None) -> np.ndarray:
        found = [
            programmed if age_s is None else self.model.apply_drift_noise(programmed, nu, age_s)
            for programmed, nu in self.chips
        ]
        return np.stack([_array(each).reshape(-1) for each in found])

    def stored_devices(self) -> np.ndarray:
        """The conductances its next drift starts from, G+ and G- of every pair, microsiemens."""
        pairs = [self.model.g_converter.convert_to_conductances(programmed)[0] for programmed, _ in self.chips]
        return _flat([_array(plus) for plus, _ in pairs], [_array(minus) for _, minus in pairs])


def peer_model(name: str, g_max: float | None = None) -> BaseNoiseModel:
    """aihwkit's model of the technology of that name."""
    if name == "pcm-90nm":
        return PCMLikeNoiseModel(g_max=g_max)
    return HermesNoiseModel(num_devices=2 if name == "pcm-14nm" else 1, g_max=g_max)


def _targets(codes: np.ndarray, g_max: float, chips: int) -> np.ndarray:
    signed = codes.reshape(-1).astype(np.float64) * (g_max / TARGET_FULL_SCALE)
    return np.concatenate([np.tile(np.maximum(signed, 0), chips), np.tile(np.maximum(-signed, 0), chips)])


def _flat(plus: list[np.ndarray], minus: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([each.reshape(-1) for each in (*plus, *minus)]).astype(np.float64)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)
