"""The experiments on accuracy: which chips, ages, methods and images each of them takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcmedge.drift import DriftPlan
from pcmedge_emulator.physics.curves import ZERO
from pcmedge_emulator.physics.technology import get_technology

from benchmarks.science.networks import Network
from benchmarks.science.settings import (
    FLOAT,
    METHODS,
    NETWORKS,
    PROGRAMMED,
    TRAINED,
    Buffer,
    Method,
    Part,
    Scale,
)
from benchmarks.science.tasks import CellTask, DigitalTask, ImageTask

TECHNOLOGY = "pcm-90nm"
_PCM = get_technology(TECHNOLOGY)

SOURCES: dict[str, dict[str, Any]] = {
    "everything on": {},
    "no drift": {
        "physics": dataclasses.replace(_PCM, name="no drift", drift_exponent_mean=ZERO, drift_exponent_std=ZERO)
    },
    "no programming noise": {"physics": dataclasses.replace(_PCM, name="no programming noise", programming_sigma=ZERO)},
    "no spread of drift": {"physics": dataclasses.replace(_PCM, name="no spread of drift", drift_exponent_std=ZERO)},
    "no 1/f read noise": {"physics": dataclasses.replace(_PCM, name="no 1/f read noise", read_noise_q=ZERO)},
    "no noise per product": {"read_noise": "off"},
    "no DAC and ADC": {"converters": "ideal"},
}
"""Fields of the drift study's plan that switch one source off."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A task, and what its rows are called: by mode of the study, and the settings that are not the usual ones."""

    experiment: str
    task: CellTask
    names: dict[str, str]
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What every experiment draws on. ``part``, ``first_chip``, ``chips``: of what goes into the table."""

    work: Path
    networks: dict[str, Network]
    digests: dict[str, str]
    scale: Scale
    part: Part
    first_chip: int
    chips: int

    @property
    def confirmed(self) -> dict[str, Any]:
        """Where the table's rows are measured."""
        seeds = range(self.first_chip, self.first_chip + self.chips)
        return {"part": self.part, "samples": self.scale.samples, "seeds": seeds}

    @property
    def explored(self) -> dict[str, Any]:
        """Where sweeps are measured: on held-out training pictures and the first chips, whatever the table takes."""
        return {"part": "held-out", "samples": self.scale.sweep_samples, "seeds": range(self.scale.sweep_chips)}

    def digital(self, network: str, part: str, samples: int) -> DigitalTask:
        return DigitalTask(
            work=self.work,
            network=self.networks[network],
            part=part,
            part_sha256=self.digests[part],
            samples=samples,
        )

    def cells(
        self,
        experiment: str,
        methods: Iterable[tuple[str, Method]],
        *,
        network: str,
        ages: Sequence[str],
        seeds: Iterable[int],
        part: str,
        samples: int,
        bits: int = 8,
        tile: int = 512,
        plan: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        age_by_age: bool = False,
    ) -> list[Cell]:
        """Cells of every chip; methods that share an image share the programmed chip."""
        if network not in self.networks:
            return []
        groups: dict[tuple[Buffer, bool], dict[str, str]] = {}
        for name, method in methods:
            buffer = dataclasses.replace(method.buffer, samples=min(method.buffer.samples, self.scale.largest_buffer))
            groups.setdefault((buffer, method.gdc_everywhere), {})[method.mode] = name
        found = []
        for seed in seeds:
            for together in [[age] for age in ages] if age_by_age else [list(ages)]:
                for (buffer, everywhere), names in groups.items():
                    image = ImageTask(
                        work=self.work,
                        network=self.networks[network],
                        calibration_sha256=self.digests["calibration"],
                        buffer=buffer,
                        bits=bits,
                        tile=tile,
                    )
                    chosen = DriftPlan(
                        ages_s=tuple(together),
                        chips=1,
                        first_seed=seed,
                        modes=tuple(names),
                        gdc_everywhere=everywhere,
                        keep_correct=True,
                        **(plan or {}),
                    )
                    task = CellTask(
                        image=image, plan=chosen, part=part, part_sha256=self.digests[part], samples=samples
                    )
                    usual = {"buffer": buffer.kind, "buffer_samples": buffer.samples, "bits": bits, "tile": tile}
                    found.append(
                        Cell(experiment=experiment, task=task, names=names, settings={**usual, **(settings or {})})
                    )
        return found


def _named(*names: str) -> list[tuple[str, Method]]:
    return [(name, METHODS[name]) for name in names]


def time(lab: Lab) -> list[Cell]:
    """Accuracy against time, by way of compensation."""
    usual: dict[str, Any] = {"network": TRAINED, **lab.confirmed, "age_by_age": True}
    first = lab.cells("time", _named("none", "paired", "paired-synthetic"), ages=[PROGRAMMED], **usual)
    return first + lab.cells("time", METHODS.items(), ages=lab.scale.ages, **usual)


def same_read(lab: Lab) -> list[Cell]:
    """What measuring on inference's own realisation of read noise would gain."""
    return lab.cells(
        "same-read",
        _named("paired", "paired-synthetic"),
        network=TRAINED,
        ages=["1d", "1y"],
        plan={"same_read": True},
        settings={"same_read": True},
        **lab.confirmed,
    )


def float_trained(lab: Lab) -> list[Cell]:
    """The network that was trained without noise, on the chip."""
    return [
        *lab.cells("float-trained", _named("none"), network=FLOAT, ages=[PROGRAMMED], **lab.confirmed),
        *lab.cells("float-trained", _named("gdc", "paired"), network=FLOAT, ages=["1d", "1y"], **lab.confirmed),
    ]


def eta(lab: Lab) -> list[Cell]:
    """Accuracy against the noise of training."""
    found = []
    for network in NETWORKS:
        found += lab.cells("eta", _named("none"), network=network, ages=[PROGRAMMED], **lab.explored)
        found += lab.cells("eta", _named("gdc", "paired"), network=network, ages=["1d", "1y"], **lab.explored)
    return found


def buffer(lab: Lab) -> list[Cell]:
    """Accuracy after a year against the number of calibration images."""
    found = []
    for samples in lab.scale.buffers:
        methods = [
            ("adabs", dataclasses.replace(METHODS["adabs"], buffer=Buffer("real", samples))),
            ("paired", dataclasses.replace(METHODS["paired"], buffer=Buffer("real", samples))),
        ]
        if samples <= lab.scale.largest_synthetic:
            of_none = dataclasses.replace(METHODS["paired-synthetic"], buffer=Buffer("synthetic", samples))
            methods.append(("paired-synthetic", of_none))
        found += lab.cells("buffer", methods, network=TRAINED, ages=["1y"], **lab.explored)
    return found + lab.cells("buffer", _named("gdc"), network=TRAINED, ages=["1y"], **lab.explored)


def bits(lab: Lab) -> list[Cell]:
    """Accuracy after a day against the bits of DAC and ADC."""
    methods = _named("gdc", "paired")
    return [
        cell
        for number in lab.scale.bits
        for cell in lab.cells("bits", methods, network=TRAINED, ages=["1d"], bits=number, **lab.explored)
    ]


def tiles(lab: Lab) -> list[Cell]:
    """Accuracy against the size of a tile: more of the layers are cut, and their parts converted apart."""
    found = []
    for size in lab.scale.tiles:
        found += lab.cells("tiles", _named("none"), network=TRAINED, ages=[PROGRAMMED], tile=size, **lab.explored)
        found += lab.cells("tiles", _named("gdc", "paired"), network=TRAINED, ages=["1d"], tile=size, **lab.explored)
    return found


def sources(lab: Lab) -> list[Cell]:
    """What limits the accuracy: one source of noise switched off at a time."""
    found = []
    for name, change in list(SOURCES.items())[: lab.scale.sources]:
        usual: dict[str, Any] = {"network": TRAINED, "plan": change, "settings": {"source": name}, **lab.explored}
        found += lab.cells("sources", _named("none"), ages=[PROGRAMMED], **usual)
        found += lab.cells("sources", _named("gdc", "paired"), ages=["1d", "1y"], **usual)
    return found


EXPERIMENTS: dict[str, Callable[[Lab], list[Cell]]] = {
    "time": time,
    "same-read": same_read,
    "float-trained": float_trained,
    "eta": eta,
    "buffer": buffer,
    "bits": bits,
    "tiles": tiles,
    "sources": sources,
}
CONFIRMED = ("time", "same-read", "float-trained")
"""Experiments the table is made of; they follow --part, --first-chip and --chips."""
