"""Rows of results, and the Parquet files they are kept in: the page and the figures are made from these files alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pcmedge.drift.files import write_whole

from benchmarks.science.experiments import Cell
from benchmarks.science.settings import BASELINE
from benchmarks.science.tasks import DigitalTask

DIGITAL = "digital"
"""Mode of the rows that say what a network reaches without a chip; their chip is -1."""

ACCURACY = pa.schema(
    [
        ("experiment", pa.string()),
        ("network", pa.string()),
        ("mode", pa.string()),
        ("age_s", pa.float64()),
        ("chip", pa.int64()),
        ("realisation", pa.int32()),
        ("part", pa.string()),
        ("samples", pa.int64()),
        ("accuracy", pa.float64()),
        ("baseline", pa.float64()),
        ("gap", pa.float64()),
        ("buffer", pa.string()),
        ("buffer_samples", pa.int32()),
        ("bits", pa.int32()),
        ("tile", pa.int32()),
        ("source", pa.string()),
        ("same_read", pa.bool_()),
        ("median_drift_factor", pa.float64()),
        ("mean_shift", pa.float64()),
        ("correct", pa.binary()),
    ]
)


def accuracy_rows(cells: Iterable[Cell], digital: Iterable[DigitalTask], experiment: str) -> list[dict[str, Any]]:
    """One row per chip, age, mode and setting, after one per network for its digital accuracy.

    ``gap``: accuracy of the float network on the same pictures minus this one (shares, unit 1).
    """
    rows: list[dict[str, Any]] = []
    baselines: dict[tuple[str, int], float] = {}
    blank = {
        "realisation": 0,
        "bits": 0,
        "tile": 0,
        "buffer": "",
        "buffer_samples": 0,
        "source": "",
        "same_read": False,
    }
    blank |= {"median_drift_factor": 1.0, "mean_shift": 0.0}
    known = [(task, np.load(task.path)) for task in digital]
    for task, right in known:
        if task.network.name == BASELINE:
            baselines[task.part, task.samples] = float(right.mean())
    for task, right in known:
        accuracy = float(right.mean())
        baseline = baselines[task.part, task.samples]
        facts = {"experiment": experiment, "network": task.network.name, "mode": DIGITAL, "part": task.part}
        facts |= {"age_s": 0.0, "chip": -1, "samples": len(right), "accuracy": accuracy, "baseline": baseline}
        rows.append({**blank, **facts, "gap": baseline - accuracy, "correct": np.packbits(right).tobytes()})
    for cell in cells:
        baseline = baselines[cell.task.part, cell.task.samples]
        for row in cell.task.rows():
            facts = {"experiment": experiment, "network": cell.task.image.network.name, "mode": cell.names[row.mode]}
            facts |= {"age_s": row.age_s, "chip": row.seed, "realisation": row.realisation, "part": cell.task.part}
            facts |= {"samples": row.samples, "accuracy": row.accuracy, "baseline": baseline}
            facts |= {"median_drift_factor": row.median_drift_factor, "mean_shift": row.mean_shift}
            rows.append({**blank, **facts, "gap": baseline - row.accuracy, "correct": row.correct, **cell.settings})
    return rows


def write(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema | None, metadata: Mapping[str, Any]) -> None:
    """Whole or not at all, and nothing of the moment in it: the same measurement gives the same bytes."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    table = table.replace_schema_metadata({f"pcmedge.{name}": _text(value) for name, value in metadata.items()})
    write_whole(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(rows, metadata)."""
    table = pq.read_table(path)
    metadata = {
        name.decode().removeprefix("pcmedge."): value.decode()
        for name, value in (table.schema.metadata or {}).items()
        if name.startswith(b"pcmedge.")
    }
    return table.to_pylist(), metadata


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class Table:
    """Accuracy rows of one experiment, to be asked."""

    rows: list[dict[str, Any]]

    def where(self, **wanted: Any) -> Table:
        return Table([row for row in self.rows if all(row[name] == value for name, value in wanted.items())])

    def values(self, name: str) -> list[Any]:
        """The different values of a column, in the order of the rows."""
        return list(dict.fromkeys(row[name] for row in self.rows if row["mode"] != DIGITAL))

    def chips(self) -> Table:
        return Table([row for row in self.rows if row["mode"] != DIGITAL])

    def correct(self) -> NDArray[np.float32]:
        """Share of reads in which an image was right [chips, images]; chips ascending."""
        by_chip: dict[int, list[NDArray[np.uint8]]] = {}
        for row in self.rows:
            bits = np.unpackbits(np.frombuffer(row["correct"], np.uint8), count=row["samples"])
            by_chip.setdefault(row["chip"], []).append(bits)
        return np.array([np.mean(by_chip[chip], axis=0) for chip in sorted(by_chip)], np.float32)

    def digital(self, network: str = BASELINE) -> NDArray[np.float32]:
        return self.where(mode=DIGITAL, network=network).correct()

    def gap_of(self, **wanted: Any) -> tuple[NDArray[np.float64], float]:
        """Gap of every chip in points, and the float baseline in percent."""
        found = self.where(**wanted).chips()
        by_chip: dict[int, list[float]] = {}
        for row in found.rows:
            by_chip.setdefault(row["chip"], []).append(100 * row["gap"])
        baseline = 100 * found.rows[0]["baseline"] if found.rows else float("nan")
        return np.array([np.mean(by_chip[chip]) for chip in sorted(by_chip)]), baseline
