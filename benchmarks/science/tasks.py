"""Units of work. Each is a pure function of its fields, runs in any process, and leaves one file behind.

The file's name is a digest of everything the result depends on (network, pictures, plan, and the source code that
computes it), so that what is there already is never computed again and never taken for something else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pcmedge.compiler
import pcmedge_emulator
from pcmedge.drift import DriftPlan, Row, run_study
from pcmedge.drift.files import write_whole
from pcmedge.image import ChipImage
from pcmedge.image.profiles import profile

from benchmarks.science import networks, pictures
from benchmarks.science.networks import Network
from benchmarks.science.settings import RANGE_PICTURES, Buffer

SYNTHETIC_SEED = 0
_COMPILED_BY = ("compiler", "frontends", "image")


@lru_cache(maxsize=1)
def sources() -> tuple[str, str]:
    """Digests of the source code that compiles, and of that and all that emulates and measures."""
    sdk, emulator = Path(pcmedge.__file__).parent, Path(pcmedge_emulator.__file__).parent
    compiling = [path for name in _COMPILED_BY for path in sorted((sdk / name).rglob("*.py"))]
    measuring = [*sorted((sdk / "drift").rglob("*.py")), *sorted(emulator.rglob("*.py"))]
    measuring = [path for path in measuring if "service" not in path.parts]
    return _digest(*(path.read_bytes() for path in compiling)), _digest(
        *(p.read_bytes() for p in compiling + measuring)
    )


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """A chip image of one network for one kind of chip, with one calibration buffer."""

    work: Path
    network: Network
    calibration_sha256: str
    buffer: Buffer
    bits: int = 8
    tile: int = 512

    @property
    def path(self) -> Path:
        facts = [self.network.sha256, self.calibration_sha256, str(self.buffer), str(self.bits), str(self.tile)]
        return self.work / "images" / f"{_digest(*map(str.encode, [*facts, sources()[0]]))[:24]}.pcmi"

    @property
    def weight(self) -> float:
        return 500.0

    def run(self) -> None:
        calibration = pictures.load(self.work, pictures.CALIBRATION).tensors
        real = self.buffer.kind == "real"
        image = pcmedge.compile(
            str(self.network.path),
            calibration=calibration[:RANGE_PICTURES],
            profile=profile(
                dac_bits=self.bits, adc_bits=self.bits, tile_rows=self.tile, tile_columns=self.tile, tiles=4096
            ),
            name=self.network.name,
            buffer=calibration[: self.buffer.samples] if real else "synthetic",
            buffer_samples=self.buffer.samples,
            buffer_seed=SYNTHETIC_SEED,
            reference=1,
            bias="row",
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        image.save(self.path)


@dataclass(frozen=True, kw_only=True)
class DigitalTask:
    """What a network gets right in float32."""

    work: Path
    network: Network
    part: str
    part_sha256: str
    samples: int

    @property
    def path(self) -> Path:
        facts = (self.network.sha256, self.part_sha256, str(self.samples))
        return self.work / "digital" / f"{_digest(*map(str.encode, facts))[:24]}.npy"

    @property
    def weight(self) -> float:
        return float(self.samples or 5000) / 2

    def run(self) -> None:
        right = networks.right(self.network, pictures.load(self.work, self.part, self.samples))

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, right)

        write_whole(self.path, write)


@dataclass(frozen=True, kw_only=True)
class CellTask:
    """One chip, at some ages, in some modes: a drift study of one chip that keeps which pictures were right."""

    image: ImageTask
    plan: DriftPlan
    part: str
    part_sha256: str
    samples: int

    @property
    def work(self) -> Path:
        return self.image.work

    @property
    def path(self) -> Path:
        facts = (self.image.path.name, self.plan.to_json(), self.part_sha256, str(self.samples), sources()[1])
        return self.work / "cells" / f"{_digest(*map(str.encode, facts))[:24]}.json"

    @property
    def weight(self) -> float:
        measuring = sum(self.image.buffer.samples for mode in self.plan.modes if mode.startswith("adabs"))
        return float(len(self.plan.ages) * (len(self.plan.modes) * (self.samples or 5000) + measuring))

    def run(self) -> None:
        image = ChipImage.open(self.image.path)
        chosen = pictures.load(self.work, self.part, self.samples)
        study = run_study(image, chosen.tensors, chosen.labels, plan=self.plan, workers=1, digital_accuracy=0.0)
        rows = [{**dataclasses.asdict(row), "correct": row.correct.hex()} for row in study.rows]
        write_whole(self.path, lambda path: path.write_text(json.dumps(rows)) and None)

    def rows(self) -> list[Row]:
        found: list[dict[str, Any]] = json.loads(self.path.read_text())
        return [Row(**{**row, "correct": bytes.fromhex(row["correct"])}) for row in found]


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
