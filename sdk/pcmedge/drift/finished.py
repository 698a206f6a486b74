"""Chips of a study that are measured, kept in a folder, so that a study that was stopped goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pcmedge.drift.files import write_whole
from pcmedge.drift.plan import DriftPlan
from pcmedge.drift.result import Row


class FinishedChips:
    """A JSON file per chip, named by its seed and by a digest of all that its rows depend on.

    That is the plan but for how many chips it has, the image, the data and the version of pcmedge: a study finds only
    rows it would have measured itself, bit for bit, and one of ten chips finds those of an earlier one of five.
    """

    def __init__(self, folder: Path, plan: DriftPlan, image_sha256: str, data_sha256: str) -> None:
        self.folder = folder
        settled = dataclasses.asdict(dataclasses.replace(plan, chips=1, first_seed=0))
        facts = [settled, image_sha256, data_sha256, version("pcmedge")]
        self._digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        self._expected = len(plan.ages) * len(plan.measured) * plan.realisations

    def rows(self, chip: int, seed: int) -> list[Row] | None:
        """The rows of this chip, number ``chip`` of the study at hand; None if it has to be measured."""
        try:
            document = json.loads(self._path(seed).read_text())
            rows = [_row(stored, chip) for stored in document["rows"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or damaged: measured again
        return rows if len(rows) == self._expected and document["depends_on"] == self._digest else None

    def keep(self, rows: Sequence[Row]) -> None:
        """Write one chip's rows. Raises FileUnwritableError."""
        stored = [dataclasses.asdict(row) | {"correct": row.correct.hex()} for row in rows]
        text = json.dumps({"depends_on": self._digest, "rows": stored})

        def write(temporary: Path) -> None:
            temporary.write_text(text)

        write_whole(self._path(rows[0].seed), write)

    def _path(self, seed: int) -> Path:
        return self.folder / f"chip-{seed}-{self._digest[:16]}.json"


def _row(stored: dict[str, Any], chip: int) -> Row:
    return Row(**(stored | {"chip": chip, "correct": bytes.fromhex(stored["correct"])}))
