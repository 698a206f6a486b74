"""``python -m tests.hostile --files 10000``: mutated model files, a table of what became of them, the harmful ones."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import campaign, corpus
from .mutants import mutant


def main() -> None:
    options = _arguments()
    console = Console(stderr=options.json)
    with tempfile.TemporaryDirectory() as made:
        place = Path(options.corpus or made)
        corpus.write(place, frozenset(corpus.SUFFIX[each] for each in options.formats))
        limits = campaign.Limits(file_s=options.file_seconds, batch=options.batch, memory_gib=options.memory)
        outcomes = []
        stop = options.start + options.files
        with Progress(console=console, transient=True) as bars:
            for each in options.formats:
                bar = bars.add_task(each, total=options.files)
                outcomes.append(
                    campaign.run(
                        each, place, seed=options.seed, start=options.start, stop=stop, limits=limits,
                        progress=lambda done, outcome, bar=bar: bars.update(
                            bar, completed=done - options.start,
                            description=f"{outcome.format} ({outcome.defects} defects)",
                        ),
                    )
                )  # fmt: skip
                _keep(options.keep, place, outcomes[-1])
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in outcomes], indent=2))
    console.print(table(outcomes))
    for outcome in outcomes:
        for finding in outcome.findings[:20]:
            console.print(f"{outcome.format} {finding.index} {finding.source} {finding.kind}: [b]{finding.outcome}[/b]")
            console.print(finding.detail.strip()[-600:], markup=False, style="dim")
    sys.exit(1 if any(outcome.defects for outcome in outcomes) else 0)


def table(outcomes: list[campaign.Outcome]) -> Table:
    found = Table("format", "files", *campaign.OUTCOMES, "largest growth")
    for each in outcomes:
        counts = [str(each.counts.get(name, 0)) for name in campaign.OUTCOMES]
        found.add_row(each.format, str(each.files), *counts, f"{each.most_grown_mib} MiB")
    return found


def _keep(folder: Path, place: Path, outcome: campaign.Outcome) -> None:
    """The files that did harm, named after what makes them again, beside what they did."""
    files = corpus.read(place, outcome.format)
    for finding in outcome.findings:
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{outcome.format}-{finding.outcome}-seed{outcome.seed}-{finding.index}"
        data = mutant(outcome.format, files, outcome.seed, finding.index).data
        (folder / f"{stem}{corpus.SUFFIX[outcome.format]}").write_bytes(data)
        text = f"{finding.source} {finding.kind} {finding.outcome}\n{finding.detail}\n"
        (folder / f"{stem}.txt").write_text(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile",
        description="Mutate small valid model files and say what became of each: a typed error, a right result, or a "
        "defect (wrong result, untyped error, crash, hang, memory). Exit status 1 if there was a defect.",
    )
    parser.add_argument("formats", nargs="*", default=list(corpus.SUFFIX), metavar="FORMAT",
                        help=f"which of {', '.join(corpus.SUFFIX)}; all if none is named")  # fmt: skip
    parser.add_argument("--files", type=int, default=1000, help="mutants per format (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all mutants (%(default)s)")
    parser.add_argument("--start", type=int, default=0, help="number of the first mutant (%(default)s)")
    parser.add_argument("--batch", type=int, default=500, help="files per child process (%(default)s)")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB of address space of a process (%(default)s)")
    parser.add_argument("--file-seconds", type=float, default=30.0, help="limit per file (%(default)s)")
    parser.add_argument("--keep", type=Path, default=Path("hostile-files"), help="folder for offenders (%(default)s)")
    parser.add_argument("--corpus", type=Path, help="folder to write the valid files into (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args()
    if unknown := set(options.formats) - set(corpus.SUFFIX):
        parser.error(f"unknown formats {sorted(unknown)}; choose from {', '.join(corpus.SUFFIX)}")
    return options
