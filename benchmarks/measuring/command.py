"""What the three commands have in common: options, a progress bar, a folder for files, and the result."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pcmedge.errors import Error
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from benchmarks.measuring import report
from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.networks import TRAINED
from benchmarks.measuring.peers import DEFAULT_PYTHON
from benchmarks.measuring.rounds import Progress

RESULTS = ROOT / "benchmarks" / "results"


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Options that mean the same in every benchmark."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--threads", type=_positive, default=1, help="of every contender (default 1)")
    made.add_argument(
        "--weights", type=_weights, default=TRAINED, metavar="FILE|random", help="of ResNet-32 (default: trained ones)"
    )
    made.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"folder for {name}.json (default benchmarks/results; with --quick none)",
    )
    made.add_argument("--quick", action="store_true", help="a tiny network and few runs: proves that every part runs")
    made.add_argument("--json", action="store_true", help="print the result as JSON instead of tables")
    return made


def add_peers(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--peers", type=Path, default=DEFAULT_PYTHON, metavar="PYTHON", help="of the environment with the extra 'peers'"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {text}")
    return value


def _weights(text: str) -> Path | None:
    if text == "random":
        return None
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}; 'random' needs none")
    return Path(text)


def run(
    measure: Callable[[argparse.Namespace, Path, Progress], dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure, keep and show; exits with the message of a typed error, or 130 after Ctrl-C."""
    console = Console()
    if not console.is_terminal:
        console.width = 170
    try:
        with tempfile.TemporaryDirectory(prefix="pcmedge-bench-") as folder, _bars() as progress:
            result = measure(options, Path(folder), progress)
        folder_of_results = options.output or (None if options.quick else RESULTS)
        if folder_of_results is not None:
            report.write(folder_of_results, result)
    except Error as problem:
        sys.exit(problem.message)
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        console.print_json(data=result)
    else:
        report.draw(console, result)
    return result


def settings(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """For the record; paths by their names, because the rest of them is this machine's own."""
    given = {name: value for name, value in vars(options).items() if name not in ("output", "json", "peers")}
    plain = {name: value.name if isinstance(value, Path) else value for name, value in given.items()}
    return {**plain, "weights": plain["weights"] or "random", **more}


@contextmanager
def _bars() -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("starting", total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total or None)


def numbers(text: str) -> Sequence[int]:
    """1,8,32"""
    return tuple(_positive(part) for part in text.split(","))
