"""What the demo found, as a table, a document and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge.demo.year import METHODS, MODES, Recalibration, Year
from pcmedge.drift.parquet import write_rows
from pcmedge.drift.plot import plot_summary
from pcmedge.drift.result import Difference, Row, Summary, difference, summarise

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

NAMES = {"none": "no compensation", "gdc": "global drift compensation", "adabs": "adaptive batch norm (AdaBS)"}


@dataclass(kw_only=True)
class DemoResult:
    """``rows``: accuracy by age and mode over the chips; ``measurements``: the same, chip by chip.

    ``gain``: AdaBS minus global drift compensation at the last age, chip by chip, with its standard error.
    ``wall_s``: how long the demo took, seconds.
    """

    model: str
    physics: str
    chips: int
    samples: int
    trained: bool
    digital_accuracy: float
    requests_served: int
    requests_failed: int
    rows: tuple[Summary, ...]
    gain: Difference
    measurements: tuple[Row, ...]
    recalibrations: tuple[Recalibration, ...]
    image_sha256: str
    files: dict[str, Path] = field(default_factory=dict)
    wall_s: float = 0.0

    @classmethod
    def of(cls, year: Year, *, image: ChipImage, physics: str, folder: Path, trained: bool) -> DemoResult:
        order = {mode: place for place, mode in enumerate(MODES)}
        rows = tuple(sorted(year.rows, key=lambda row: (row.chip, row.age_s, order[row.mode])))
        return cls(
            model=image.name,
            physics=physics,
            chips=year.chips,
            samples=year.samples,
            trained=trained,
            digital_accuracy=year.digital_accuracy,
            requests_served=year.requests_served,
            requests_failed=year.requests_failed,
            rows=summarise(rows),
            gain=difference(rows, "adabs", "gdc", year.ages_s[-1]),
            measurements=rows,
            recalibrations=tuple(sorted(year.recalibrations, key=lambda one: (one.age_s, one.chip, one.mode))),
            image_sha256=image.sha256.hex(),
            files={
                "png": folder / "demo.png",
                "parquet": folder / "demo.parquet",
                "image": folder / f"{image.name}.pcmi",
            },
        )

    def last(self, mode: str) -> Summary:
        """A mode at the last age."""
        return next(row for row in reversed(self.rows) if row.mode == mode)

    def write(self, image: ChipImage) -> None:
        """Picture, table and image into their folder. Raises FileUnwritableError, MissingExtraError."""
        write_rows(
            self.measurements,
            self.files["parquet"],
            {
                "model": self.model,
                "physics": self.physics,
                "image_sha256": self.image_sha256,
                "digital_accuracy": repr(self.digital_accuracy),
                "methods": ", ".join(f"{mode}: {method}" for mode, method in METHODS.items()),
            },
        )
        plot_summary(
            self.rows,
            self.files["png"],
            title=f"{self.model} on {self.chips} emulated {self.physics} chips, one year",
            names=NAMES,
        )
        image.save(self.files["image"])

    def document(self) -> dict[str, Any]:
        """Plain values for ``--json``; ``rows`` hold age_s, mode, accuracy_mean, accuracy_stderr, chips and more."""
        return {
            "model": self.model,
            "physics": self.physics,
            "chips": self.chips,
            "samples": self.samples,
            "trained": self.trained,
            "digital_accuracy": self.digital_accuracy,
            "requests_served": self.requests_served,
            "requests_failed": self.requests_failed,
            "rows": [{**vars(row), "method": METHODS[row.mode]} for row in self.rows],
            "adabs_minus_gdc": vars(self.gain),
            "recalibrations": [vars(one) for one in self.recalibrations],
            "image_sha256": self.image_sha256,
            "files": {name: str(path) for name, path in self.files.items()},
            "wall_s": self.wall_s,
        }
