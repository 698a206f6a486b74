"""``python -m tests.soak.fuzz``: every call with messages nobody sends on purpose, and what becomes of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from .campaign import Outcome, run
from .device_process import served

CALLS, SEED = 100_000, 1


def fuzz(calls: int, seed: int, progress: Any = lambda done: None) -> Outcome:
    """A campaign on a device of its own, which answers without noise, and with all services it has."""
    with tempfile.TemporaryDirectory() as made:
        words = ("--lab", "--clock", "manual", "--read-noise", "off", "--profile", "pcm-512x512", "--seed", str(seed))
        with served(Path(made), *words) as device:
            return run(device, calls=calls, seed=seed, progress=progress)


def missed(outcome: Outcome) -> bool:
    return bool(outcome.findings or outcome.failures)


def document(outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": outcome.seed,
        "calls": outcome.calls,
        "checks": outcome.checks,
        "ends": {name: dict(ends.most_common()) for name, ends in sorted(outcome.ends.items())},
        "findings": [asdict(each) for each in outcome.findings.values()],
        "failures": outcome.failures,
        "vitals": [asdict(each) for each in outcome.vitals],
    }


def table(outcome: Outcome) -> Table:
    total: Counter[str] = Counter()
    for each in outcome.ends.values():
        total.update(each)
    found = Table("end", "calls")
    for name, count in total.most_common():
        found.add_row(name, str(count))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.fuzz",
        description="Calls of every service of a 'pcmedge serve' process with messages Hypothesis makes from the "
        "descriptors, and mutants of those and of good ones, as bytes. Exit status 1 if a call ends without a status "
        "of the contract and a reason of its table, if one ends INTERNAL or UNKNOWN, or if the device dies or answers "
        "wrongly.",
    )
    parser.add_argument("--calls", type=int, default=CALLS, help="at least so many (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of messages and mutations (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("calls", total=options.calls)
        outcome = fuzz(options.calls, options.seed, lambda done: bars.update(bar, completed=done))
    if options.json:
        print(json.dumps(document(outcome), indent=1))
    console.print(table(outcome))
    first, last = outcome.vitals[0], outcome.vitals[-1]
    console.print(
        f"{outcome.calls} calls of {len(outcome.ends)} kinds, {outcome.checks} checks; memory "
        f"{first.uss_kib / 1024:.0f} MiB, then {last.uss_kib / 1024:.0f} MiB; "
        f"threads {first.threads}, then {last.threads}"
    )
    for finding in outcome.findings.values():
        console.print(f"[b]{finding.call}[/b] {finding.times}x {finding.what}: {finding.code} {finding.reason}")
        console.print(finding.message[:600], markup=False, style="dim")
    for failure in outcome.failures[:50]:
        console.print(failure[:200], "...", failure[-400:], markup=False)
    sys.exit(1 if missed(outcome) else 0)


if __name__ == "__main__":
    main()
