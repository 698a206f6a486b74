"""What int8 costs in accuracy: python -m benchmarks.precision --data PATH

The committed ResNet-32 on the same emulated chips, with the same frozen noise and the same pictures, once multiplied in
float32 (exact) and once in int8 (turbo). Only the arithmetic differs, so the difference is taken picture by picture.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pcmedge.data import load_cifar10, normalise
from pcmedge.drift import DriftPlan, DriftStudy, run_study
from pcmedge.image import ChipImage

from benchmarks.measuring import command, report
from benchmarks.measuring.goals import Goal, judged
from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.report import Line
from benchmarks.measuring.rounds import Progress, Spread
from benchmarks.science.bootstrap import Interval, interval

IMAGE = ROOT / "examples" / "resnet32_cifar10" / "models" / "resnet32.pcmi"
AGES = ("25s", "1d")
MODE = "gdc"
LIMIT_POINTS = 0.25


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("precision", __doc__)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="CIFAR-10; docs/data.md says in which forms"
    )
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5000, help="test pictures")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(given)
    if options.quick:
        options.chips, options.samples = 2, min(options.samples, 16)
    return options


def measure(options: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, Any]:
    test = load_cifar10(options.data, "test")
    chosen = slice(0, options.samples)
    pictures, labels = normalise(test.pictures[chosen]), test.labels[chosen]
    studies = {precision: _study(precision, pictures, labels, options, progress) for precision in ("exact", "turbo")}
    found = {age_s: _difference(studies, age_s) for age_s in studies["exact"].plan.ages}
    agreement = {
        age_s: 100.0 * float(np.mean(_right(studies["exact"], age_s) == _right(studies["turbo"], age_s)))
        for age_s in found
    }
    return report.document(
        "precision",
        settings=command.settings(options, image=IMAGE.name, mode=MODE, samples=len(labels)),
        outcomes=[
            judged(
                Goal(
                    what=f"turbo - exact after {age}, {options.chips} chips, {len(labels):,} pictures: "
                    "farther end of the 95 % interval",
                    limit=LIMIT_POINTS,
                    unit="points",
                ),
                Spread.of([max(abs(each.low), abs(each.high))]),
            )
            for age, each in zip(AGES, found.values(), strict=True)
        ],
        lines=[
            line for age, age_s in zip(AGES, found, strict=True) for line in _lines(age, found[age_s], agreement[age_s])
        ],
        more={
            "difference_points": {
                age: dataclasses.asdict(found[age_s]) for age, age_s in zip(AGES, found, strict=True)
            },
            "accuracy": {
                name: {str(each.age_s): each.accuracy_mean for each in study.summary()}
                for name, study in studies.items()
            },
        },
    )


def _study(
    precision: Literal["exact", "turbo"],
    pictures: NDArray[np.float32],
    labels: NDArray[np.int64],
    options: argparse.Namespace,
    progress: Progress,
) -> DriftStudy:
    plan = DriftPlan(
        ages_s=AGES,
        chips=options.chips,
        modes=(MODE,),
        precision=precision,
        # An int8 product has no place for noise of its own; exact gets the same frozen noise.
        read_noise="off",
        keep_correct=True,
    )
    return run_study(
        ChipImage.open(IMAGE),
        pictures,
        labels,
        plan=plan,
        workers=options.workers,
        progress=lambda done, total: progress(precision, done, total),
    )


def _right(study: DriftStudy, age_s: float) -> NDArray[np.float32]:
    """1 where a picture was right, [chips, pictures]."""
    rows = [row for row in study.rows if row.age_s == age_s]
    bits = [np.unpackbits(np.frombuffer(row.correct, np.uint8), count=row.samples) for row in rows]
    return np.stack(bits).astype(np.float32)


def _difference(studies: dict[str, DriftStudy], age_s: float) -> Interval:
    """Points that turbo is better, with its 95 % interval over chips and pictures."""
    return interval([(100.0, _right(studies["turbo"], age_s)), (-100.0, _right(studies["exact"], age_s))])


def _lines(age: str, found: Interval, agreement: float) -> list[Line]:
    values = {"turbo - exact": found.estimate, "low end of 95 %": found.low, "high end of 95 %": found.high}
    lines = [
        Line(group=f"after {age}", name=name, unit="points", found=Spread.of([value])) for name, value in values.items()
    ]
    both = Line(
        group=f"after {age}", name="pictures on which both are right or wrong", unit="%", found=Spread.of([agreement])
    )
    return [*lines, both]


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    return command.run(measure, arguments(given))


if __name__ == "__main__":
    main()
