"""Rows of a drift study and what they say: mean and standard error over chips, differences between modes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pcmedge.drift.plan import DriftPlan
from pcmedge.errors import InputValueError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement: one chip at one age in one mode under one realisation of read noise.

    ``accuracy``, ``digital_accuracy``: shares of the samples (unit 1). ``median_drift_factor``: what global drift
    compensation reads (1 in mode "none"). ``mean_shift``: root mean square shift of the batch-norm means, in channel
    standard deviations. ``correct``: one bit per sample in their order (``numpy.packbits``); empty unless kept.
    ``programmings``: how often the chip was programmed until then. ``retired_tiles``: how many of it diagnoses retired.
    """

    age_s: float
    chip: int
    seed: int
    mode: str
    realisation: int
    accuracy: float
    digital_accuracy: float
    samples: int
    median_drift_factor: float
    mean_shift: float
    correct: bytes = b""
    programmings: int = 1
    retired_tiles: int = 0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One age and mode over all chips. A chip's accuracy is the mean over its realisations.

    ``accuracy_stderr``: standard deviation over chips / sqrt(chips); None for a single chip.
    ``accuracy_low``, ``accuracy_high``: the worst and the best chip.
    """

    age_s: float
    mode: str
    accuracy_mean: float
    accuracy_stderr: float | None
    accuracy_low: float
    accuracy_high: float
    digital_accuracy: float
    chips: int
    realisations: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``mode`` minus ``baseline`` at one age, chip by chip: mean and standard error of the paired differences."""

    age_s: float
    mode: str
    baseline: str
    mean: float
    stderr: float | None
    chips: int


@dataclass(frozen=True, kw_only=True)
class DriftStudy:
    """What :func:`pcmedge.drift.run_study` returns. ``rows`` are in the order chip, age, mode, realisation."""

    plan: DriftPlan
    rows: tuple[Row, ...]
    digital_accuracy: float
    model: str
    image_sha256: str
    data_sha256: str

    def summary(self) -> tuple[Summary, ...]:
        """By age, then in the plan's order of modes."""
        return summarise(self.rows)

    def difference(self, mode: str, baseline: str, age_s: float | None = None) -> Difference:
        """``mode`` minus ``baseline`` at an age of the plan, by default the last."""
        return difference(self.rows, mode, baseline, self.plan.ages[-1] if age_s is None else age_s)

    def to_parquet(self, path: str | Path) -> None:
        """One row per chip x age x mode x realisation; plan, versions and hashes in the file's metadata.

        Raises FileUnwritableError, MissingExtraError (pyarrow). The file appears whole or not at all.
        """
        from pcmedge.drift.parquet import write

        write(self, Path(path))

    def plot(self, path: str | Path, *, title: str = "") -> None:
        """Accuracy over age as a PNG: mean, band from the worst to the best chip, digital baseline.

        Raises FileUnwritableError, MissingExtraError (matplotlib). The file appears whole or not at all.
        """
        from pcmedge.drift.plot import plot_summary

        plot_summary(self.summary(), Path(path), title=title or f"{self.model}: accuracy as the chip ages")


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the standard error of the mean from the sample's own spread (None for one value)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt(variance / count)


def _by_chip(rows: Iterable[Row]) -> dict[tuple[float, str], dict[int, list[Row]]]:
    cells: dict[tuple[float, str], dict[int, list[Row]]] = {}
    for row in rows:
        cells.setdefault((row.age_s, row.mode), {}).setdefault(row.chip, []).append(row)
    return cells


def _accuracies(chips: dict[int, list[Row]]) -> dict[int, float]:
    return {chip: math.fsum(row.accuracy for row in rows) / len(rows) for chip, rows in sorted(chips.items())}


def summarise(rows: Iterable[Row]) -> tuple[Summary, ...]:
    """Over chips, by age; modes in the order they first appear in."""
    cells = _by_chip(rows)
    modes = list(dict.fromkeys(mode for _, mode in cells))
    found = []
    for age_s, mode in sorted(cells, key=lambda key: (key[0], modes.index(key[1]))):
        chips = cells[age_s, mode]
        values = list(_accuracies(chips).values())
        mean, stderr = mean_and_stderr(values)
        one = next(iter(chips.values()))
        found.append(
            Summary(
                age_s=age_s,
                mode=mode,
                accuracy_mean=mean,
                accuracy_stderr=stderr,
                accuracy_low=min(values),
                accuracy_high=max(values),
                digital_accuracy=one[0].digital_accuracy,
                chips=len(values),
                realisations=len(one),
                samples=one[0].samples,
            )
        )
    return tuple(found)


def difference(rows: Iterable[Row], mode: str, baseline: str, age_s: float) -> Difference:
    """Paired over chips. Raises InputValueError if a mode was not measured at this age."""
    cells = _by_chip(rows)
    for name in (mode, baseline):
        if (age_s, name) not in cells:
            raise InputValueError(f"Mode '{name}' was not measured at the age of {age_s} s.", mode=name)
    ours, theirs = _accuracies(cells[age_s, mode]), _accuracies(cells[age_s, baseline])
    values = [ours[chip] - theirs[chip] for chip in sorted(ours.keys() & theirs.keys())]
    mean, stderr = mean_and_stderr(values)
    return Difference(age_s=age_s, mode=mode, baseline=baseline, mean=mean, stderr=stderr, chips=len(values))
