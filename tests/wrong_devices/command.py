"""``python -m tests.wrong_devices``: the whole conformance suite against every wrong device, as a table."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcmedge.conformance import all_rules
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from wrong_devices import GOOD_DEVICE, WRONG_DEVICES, table
from wrong_devices.judging import confirmed, judged, named

NAMES = (GOOD_DEVICE.name, *(device.name for device in WRONG_DEVICES))


def main() -> None:
    options = _arguments()
    rows: dict[str, dict[str, Any]] = {}
    if options.resume and options.output:
        rows = {row["device"]: row for row in table.stored(options.output)}
    left = [name for name in options.device or NAMES if name not in rows]
    console = Console(stderr=options.json)
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("devices", total=len(left))
        for row in _rows(left, own_rules=options.own_rules, jobs=options.jobs):
            rows[row["device"]] = row
            bars.update(bar, advance=1, description=row["device"])
            if options.output:
                table.write(options.output, _in_order(rows), _about())
    found = _in_order(rows)
    if options.json:
        print(json.dumps(found, indent=2))
    console.print(_shown(found))
    sys.exit(0 if all(row["caught"] if row["breaks"] else not row["failed"] for row in found) else 1)


def _in_order(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [rows[name] for name in NAMES if name in rows]


def _rows(names: list[str], *, own_rules: bool, jobs: int) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(row_of, name, own_rules) for name in names]):
            yield done.result()


def row_of(name: str, own_rules: bool) -> dict[str, Any]:
    logging.disable(logging.ERROR)
    device = named(name)
    return {
        **confirmed(judged(device, device.rules if own_rules else ())).row(),
        "whole": not (own_rules and device.rules),
    }


def _about() -> str:
    day = datetime.now(UTC).date().isoformat()
    return f"Suite of {len(all_rules())} checks, each device with a store and a way to restart it, {day}."


def _shown(rows: list[dict[str, Any]]) -> Table:
    found = Table("device", "breaks", "caught", "by", "failed", "s")
    for row in rows:
        caught = "yes" if row["caught"] else "no"
        found.add_row(
            row["device"], ", ".join(row["breaks"]), caught if row["breaks"] else "", ", ".join(row["by"][:4]),
            str(len(row["failed"])), f"{row['seconds']:.1f}",
        )  # fmt: skip
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.wrong_devices", description=__doc__)
    parser.add_argument(
        "--device", action="append", choices=NAMES, metavar="NAME", help="this one only; may be repeated"
    )
    parser.add_argument(
        "--own-rules", action="store_true", help="only the rules each device breaks, not the whole suite"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="devices tested at a time (2)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write wrong-devices.md and .json there")
    parser.add_argument("--resume", action="store_true", help="keep what --output has of a run that was stopped")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, the table to the error stream")
    return parser.parse_args()
