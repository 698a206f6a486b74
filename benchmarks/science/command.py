"""The command: what is asked, what has to be measured for it, and the files that come of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pcmedge.errors import Error
from rich.console import Console

from benchmarks.science import networks, pictures, report, results
from benchmarks.science.devices import ProgrammingTask, WeightsTask
from benchmarks.science.experiments import CONFIRMED, EXPERIMENTS, Cell, Lab
from benchmarks.science.running import Task, run_all
from benchmarks.science.settings import BASELINE, FULL, METHODS, QUICK, TRAINED, Part
from benchmarks.science.tasks import DigitalTask

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "resnet32_cifar10"
RESULTS = ROOT / "docs" / "results"
DESCRIPTION = (
    "Program the trained ResNet-32 into emulated chips, let them age, and write the published tables and figures with "
    "these numbers. Takes an hour or more; Ctrl-C keeps what is measured, --resume goes on."
)
DEVICES = ("programming", "weights")
ALL = (*DEVICES, *EXPERIMENTS)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.science", description=DESCRIPTION)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10, in a form that pcmedge.data reads")
    parser.add_argument("--models", type=Path, default=EXAMPLE / "models", help="folder with NAME.pt or NAME.onnx")
    parser.add_argument("--network", type=Path, default=EXAMPLE / "network.py", help="Python file with load(path)")
    parser.add_argument("--output", type=Path, help="folder for the results; default: docs/results, with --quick none")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "science", help="folder for what is measured")
    parser.add_argument(
        "--part", choices=("held-out", "test"), default="held-out", help=f"pictures of {', '.join(CONFIRMED)}"
    )
    parser.add_argument("--first-chip", type=int, default=0, help="seed of the first chip of these experiments")
    parser.add_argument("--chips", type=int, default=0, help="how many chips they take; default 10")
    parser.add_argument("--only", action="append", choices=ALL, metavar="EXPERIMENT", help=", ".join(ALL))
    parser.add_argument("--jobs", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--resume", action="store_true", help="go on with what the work folder holds already")
    parser.add_argument("--quick", action="store_true", help="a few pictures and chips: proves that it runs")
    parser.add_argument("--report", action="store_true", help="measure nothing; write page and figures again")
    options = parser.parse_args(given)
    if options.data is None and not options.report:
        parser.error("--data PATH is needed, unless only the page is written again (--report)")
    if options.output is None and options.quick:
        parser.error("--quick makes numbers without meaning: say where they go by --output")
    options.output = options.output or RESULTS
    if options.report and not list(options.output.glob("*.parquet")):
        parser.error(f"there are no results in {options.output}: measure first, without --report")
    if options.jobs < 1 or options.chips < 0 or options.first_chip < 0:
        parser.error("--jobs counts from 1, --chips and --first-chip from 0")
    return options


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    console = Console(stderr=True)
    try:
        if not options.report:
            _measure(options, console)
        report.write(options.output, draws=(QUICK if options.quick else FULL).draws)
    except Error as error:
        sys.exit(error.message)
    except KeyboardInterrupt:
        console.print("Stopped. What is measured is kept: the same command with --resume goes on.")
        sys.exit(130)
    console.print(f"Results are in {options.output}.", soft_wrap=True)


def command_line(options: argparse.Namespace) -> str:
    """The command that makes these files again, wherever the data are."""
    words = ["python -m benchmarks.science --data PATH", f"--part {options.part}"]
    words += [f"--first-chip {options.first_chip}", f"--chips {options.chips}"]
    return " ".join([*words, *(["--quick"] if options.quick else [])])


def _measure(options: argparse.Namespace, console: Console) -> None:
    scale = QUICK if options.quick else FULL
    options.chips = options.chips or scale.chips
    wanted = tuple(name for name in ALL if not options.only or name in options.only)
    work: Path = options.work
    if not options.resume and (work / "cells").exists():
        sys.exit(f"{work} holds measurements already: pass --resume to go on with them, or choose another --work.")
    parts: set[Part] = {"held-out"} | ({options.part} if set(wanted) & set(CONFIRMED) else set())
    digests = pictures.prepare(options.data, work, parts, scale)
    found, missing = networks.find(options.models, options.network, work)
    if BASELINE not in found or TRAINED not in found:
        sys.exit(f"{options.models} lacks {BASELINE}.pt or {TRAINED}.pt. Train them: {EXAMPLE / 'README.md'}.")
    if missing:
        console.print(f"Not in {options.models}, left out: {', '.join(missing)}.")
    lab = Lab(
        work=work,
        networks=found,
        digests=digests,
        scale=scale,
        part=options.part,
        first_chip=options.first_chip,
        chips=options.chips,
    )
    cells = {name: EXPERIMENTS[name](lab) for name in wanted if name in EXPERIMENTS}
    digital = {name: _digital(lab, of) for name, of in cells.items()}
    devices = _devices(lab, wanted)
    images = [cell.task.image for of in cells.values() for cell in of]
    images += [task.image for task in devices.values() for task in task if isinstance(task, WeightsTask)]
    measured = [cell.task for of in cells.values() for cell in of]
    measured += [task for of in devices.values() for task in of]
    run_all(
        [
            ("compile", _once([*images, *(task for of in digital.values() for task in of)])),
            ("measure", _once(measured)),
        ],
        options.jobs,
        console,
    )
    facts = {
        "version": version("pcmedge"),
        "command": command_line(options),
        "networks": {name: network.sha256 for name, network in found.items()},
        "missing": list(missing),
    }
    for name, of in cells.items():
        rows = results.accuracy_rows(of, digital[name], name)
        used = {part: lab.digests[part] for part in (pictures.CALIBRATION, *sorted({cell.task.part for cell in of}))}
        results.write(options.output / f"{name}.parquet", rows, results.ACCURACY, {**facts, "data": used})
    for name, tasks in devices.items():
        rows = [row for task in tasks for row in task.rows()]
        results.write(options.output / f"{name}.parquet", rows, None, facts)


def _digital(lab: Lab, cells: Sequence[Cell]) -> list[DigitalTask]:
    """Digital accuracies an experiment is compared with: the float network's first."""
    wanted: dict[tuple[str, str, int], DigitalTask] = {}
    for cell in cells:
        for network in (BASELINE, cell.task.image.network.name):
            key = (network, cell.task.part, cell.task.samples)
            wanted.setdefault(key, lab.digital(*key))
    return list(wanted.values())


def _devices(lab: Lab, wanted: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    if "programming" in wanted:
        found["programming"] = [ProgrammingTask(work=lab.work, devices=lab.scale.devices)]
    if "weights" in wanted:
        (image,) = {cell.task.image for cell in lab.cells(
            "weights", [("gdc", METHODS["gdc"])], network=TRAINED, ages=["1d"], seeds=[0], part="held-out", samples=1
        )}  # fmt: skip
        found["weights"] = [
            WeightsTask(image=image, ages=lab.scale.weight_ages, seed=seed) for seed in range(lab.scale.weight_chips)
        ]
    return found


def _once(tasks: Sequence[Task]) -> list[Task]:
    return list({task.path: task for task in tasks}.values())
