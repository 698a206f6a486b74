"""The two experiments without inference: programming error per conductance level, and weight error over time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.drift.files import write_whole
from pcmedge.durations import parse_duration
from pcmedge.image import ChipImage, Tile
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.crossbar.tile import conductances, program_tile
from pcmedge_emulator.physics import get_technology, stream
from pcmedge_emulator.physics.programming import ProgramAndVerify

from benchmarks.science.experiments import TECHNOLOGY
from benchmarks.science.tasks import ImageTask, _digest, sources

LEVELS = 11
"""Joshi et al. 2020 measured the error on eleven conductance levels."""
READ_AGE_S = 7.36
"""Their devices were read 27.36 s after programming; the emulator's first read is after 20 s."""


@dataclass(frozen=True, kw_only=True)
class ProgrammingTask:
    """Standard deviation of the conductance of ``devices`` devices programmed to each level, microsiemens."""

    work: Path
    devices: int

    @property
    def path(self) -> Path:
        return (
            self.work
            / "devices"
            / f"programming-{_digest(str(self.devices).encode(), sources()[1].encode())[:24]}.json"
        )

    @property
    def weight(self) -> float:
        return 100.0

    def run(self) -> None:
        technology = get_technology(TECHNOLOGY)
        g_max = technology.g_max_microsiemens
        levels = np.rint(np.linspace(0, 32767, LEVELS)).astype(np.int16)
        target = np.broadcast_to(levels, (1, self.devices, LEVELS))
        rows: list[dict[str, Any]] = []
        for how, options in (("one pulse", None), ("program and verify", ProgramAndVerify())):
            devices, _ = program_tile(target, g_max, technology, stream("science", 0, "programming"), options)
            programmed, _ = conductances(devices, 0.0, technology, None)
            read, _ = conductances(devices, READ_AGE_S, technology, stream("science", 0, "reading"))
            rows += [
                {
                    "how": how,
                    "level_microsiemens": float(g_max * level / 32767),
                    "sigma_programmed_microsiemens": float(programmed[0, :, at].std(dtype=np.float64, ddof=1)),
                    "sigma_read_microsiemens": float(read[0, :, at].std(dtype=np.float64, ddof=1)),
                    "mean_read_microsiemens": float(read[0, :, at].mean(dtype=np.float64)),
                    "devices": self.devices,
                }
                for at, level in enumerate(levels)
            ]
        _write(self.path, rows)

    def rows(self) -> list[dict[str, Any]]:
        return list(json.loads(self.path.read_text()))


@dataclass(frozen=True, kw_only=True)
class WeightsTask:
    """Error of every weight of a network on one chip, as it is read back, in percent of the layer's largest weight."""

    image: ImageTask
    ages: tuple[str, ...]
    seed: int

    @property
    def path(self) -> Path:
        facts = (self.image.path.name, *self.ages, str(self.seed), sources()[1])
        return self.image.work / "devices" / f"weights-{_digest(*map(str.encode, facts))[:24]}.json"

    @property
    def weight(self) -> float:
        return 500.0 * len(self.ages)

    def run(self) -> None:
        image = ChipImage.open(self.image.path)
        rows: list[dict[str, Any]] = []
        with Chip(profile=image.manifest.profile, seed=self.seed, clock=Clock.manual(), default_policy=MANUAL) as chip:
            chip.program(image)
            now_s = 0.0
            for age_s in map(parse_duration, self.ages):
                chip.advance(age_s - now_s)
                now_s = age_s
                rows += self._at(chip, image, age_s)
        _write(self.path, rows)

    def _at(self, chip: Chip, image: ChipImage, age_s: float) -> list[dict[str, Any]]:
        chip.recalibrate(image.name, "gdc", force=True)
        found = chip.telemetry(include_tiles=True).models[0].tiles
        errors: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
        for tile, now in zip(image.tiles(), found, strict=True):
            read = chip.read_tile(image.name, now.tile)
            net = (read.g_plus.astype(np.float64) - read.g_minus) / image.manifest.profile.g_max_microsiemens
            target = _on_the_tile(image, tile)
            for mode, factor in (("none", 1.0), ("gdc", now.drift_factor)):
                for layer in (tile.layer, "all layers"):
                    errors.setdefault((layer, mode), []).append((factor * net - target)[target != 0])
        rows = []
        for (layer, mode), parts in errors.items():
            error = np.concatenate(parts)
            rows.append(
                {
                    "chip": self.seed,
                    "age_s": age_s,
                    "layer": layer,
                    "mode": mode,
                    "weights": int(error.size),
                    "error_std_percent": 100 * float(error.std()),
                    "error_rms_percent": 100 * float(np.sqrt(np.mean(error**2))),
                }
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        return list(json.loads(self.path.read_text()))


def _on_the_tile(image: ChipImage, tile: Tile) -> NDArray[np.float64]:
    """Targets as a block diagonal, in units of the layer's largest weight."""
    blocks = image.normalised_target(tile).astype(np.float64)
    whole = np.zeros((tile.groups, tile.rows, tile.groups, tile.columns))
    whole[np.arange(tile.groups), :, np.arange(tile.groups), :] = blocks
    return whole.reshape(tile.groups * tile.rows, tile.groups * tile.columns)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(rows)) and None)
