"""What the compiler can do for networks trained without noise: the table of docs/compiler.md.

    python -m benchmarks.post_training --network digits
    python -m benchmarks.post_training --network resnet32 --data PATH --pictures 1000

``resnet32``: the float-trained ResNet-32 of examples/resnet32_cifar10 on CIFAR-10 test pictures, calibrated with 256
training pictures. ``digits``: a perceptron 64-48-48-10, trained here in float (no noise, no clipping, seed 0) on the
bundled digits. Every row has the same chips, so that differences to the first row are paired, chip by chip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import torch
from pcmedge.demo.digits import load_digits
from pcmedge.drift import DriftPlan, run_study
from pcmedge.drift.result import mean_and_stderr

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "resnet32_cifar10"
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "column": {"scaling": "column"},
    "auto": {"scaling": "auto"},
    "clip": {"clip_sigma": "search"},
    "clip-bias": {"clip_sigma": "search", "bias_correction": True},
    "auto-clip": {"scaling": "auto", "clip_sigma": "search"},
    "auto-clip-bias": {"scaling": "auto", "clip_sigma": "search", "bias_correction": True},
    "clip-3": {"clip_sigma": 3.0},
}
CELLS = ((0.0, "none"), (86400.0, "gdc"), (86400.0, "adabs-paired"))


@dataclass(frozen=True)
class Task:
    """A float model, inputs to calibrate with, and labelled inputs to judge by."""

    model: torch.nn.Module
    calibration: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray


def digits(_data: Path | None, pictures: int) -> Task:
    found = load_digits()
    torch.manual_seed(0)
    width = 48
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(64, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 10),
    )
    inputs, labels = torch.from_numpy(found.train.tensors), torch.from_numpy(found.train.labels).long()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        order = torch.randperm(len(labels))
        for batch in order.split(64):
            loss = torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return Task(model.eval(), found.train.tensors[:256], found.test.tensors[:pictures], found.test.labels[:pictures])


def resnet32(data: Path | None, pictures: int) -> Task:
    from pcmedge.data import load_cifar10, normalise

    if data is None:
        sys.exit("--network resnet32 needs --data PATH with CIFAR-10, in a form that pcmedge.data reads")
    sys.path.insert(0, str(EXAMPLE))
    from network import load  # type: ignore[import-not-found]  # beside the weights, not a package

    train, test = load_cifar10(data, "train"), load_cifar10(data, "test")
    inputs = normalise(test.pictures[:pictures])
    model = load(EXAMPLE / "models" / "float.pt")
    return Task(model, normalise(train.pictures[:256]), inputs, test.labels[:pictures])


def accuracies(task: Task, options: dict[str, Any], chips: int) -> tuple[float, list[list[float]]]:
    """Accuracy of the stored weights without a chip; for every cell that of each chip (unit 1)."""
    image = pcmedge.compile(
        task.model, torch.from_numpy(task.calibration[:1]), calibration=task.calibration, name="network", **options
    )
    digital, found = None, []
    for age_s in dict.fromkeys(age_s for age_s, _ in CELLS):
        modes = tuple(mode for age, mode in CELLS if age == age_s)
        plan = DriftPlan(ages_s=(age_s,), chips=chips, modes=modes)
        study = run_study(image, task.inputs, task.labels, plan=plan, workers=1, digital_accuracy=digital)
        digital = study.digital_accuracy
        found += [[row.accuracy for row in study.rows if row.mode == mode] for mode in modes]
    return digital or 0.0, found


def row(name: str, digital: float, found: Sequence[Sequence[float]], first: Sequence[Sequence[float]]) -> str:
    cells = [f"{100 * digital:.2f}"]
    for values, before in zip(found, first, strict=True):
        mean, _ = mean_and_stderr(values)
        gain, error = mean_and_stderr([one - other for one, other in zip(values, before, strict=True)])
        change = "" if values is before else f" ({100 * gain:+.2f} ± {100 * (error or 0.0):.2f})"
        cells.append(f"{100 * mean:.2f}{change}")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("digits", "resnet32"), default="digits")
    parser.add_argument("--data", type=Path, help="CIFAR-10, for resnet32")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--chips", type=int, default=3)
    parser.add_argument("--variants", default=",".join(VARIANTS), help="some of them; differences are to the first")
    options = parser.parse_args()
    chosen = options.variants.split(",")
    if unknown := [name for name in chosen if name not in VARIANTS]:
        parser.error(f"unknown variants {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    task = (digits if options.network == "digits" else resnet32)(options.data, options.pictures)
    print(f"{options.network}: {len(task.labels)} pictures, {options.chips} chips of pcm-90nm, seeds from 0; % right")
    print("| options | stored weights | fresh | 1 day, GDC | 1 day, paired |\n|---|---|---|---|---|")
    first: list[list[float]] | None = None
    for name in chosen:
        digital, found = accuracies(task, VARIANTS[name], options.chips)
        first = first or found
        print(row(name, digital, found, first), flush=True)


if __name__ == "__main__":
    main()
