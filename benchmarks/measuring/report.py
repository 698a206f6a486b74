"""The result of a benchmark: a JSON document, and the tables that are drawn of it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcmedge.drift.files import write_whole
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import machine
from benchmarks.measuring.goals import Outcome
from benchmarks.measuring.rounds import Spread

COLOURS = {"reached": "green", "missed": "red", "not measured": "yellow"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A measurement that is no goal by itself: what was measured, in its unit, and how."""

    group: str
    name: str
    unit: str
    found: Spread | None
    note: str = ""


def document(
    name: str,
    *,
    settings: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    lines: Sequence[Line],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything a reader needs to judge the numbers, and to take them again."""
    return {
        "benchmark": name,
        "command": " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]]),
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "machine": machine.facts(),
        "goals": [_outcome(each) for each in outcomes],
        "measured": [_line(each) for each in lines],
        **more,
    }


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    path = folder / f"{result['benchmark']}.json"
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def draw(console: Console, result: Mapping[str, Any]) -> None:
    """The goals, the measurements behind them, and what they were taken on."""
    goals = Table("what", "goal", "measured", "quartiles", "runs", "verdict", box=None, header_style="dim")
    for each in result["goals"]:
        found = each["found"]
        verdict = each["verdict"] + (", stretch too" if each["stretch_reached"] else "")
        cells = ("", "", "") if found is None else _cells(found, each["unit"])
        colour = COLOURS[each["verdict"]]
        goals.add_row(each["what"], each["goal"], *cells, f"[{colour}]{verdict}[/]" + _because(each["why"]))
    console.print(goals)
    console.print()
    measured = Table("", "", "median", "quartiles", "runs", "", box=None, header_style="dim")
    last = ""
    for each in result["measured"]:
        found = each["found"]
        cells = ("-", "", "") if found is None else _cells(found, each["unit"])
        measured.add_row("" if each["group"] == last else each["group"], each["name"], *cells, each["note"])
        last = each["group"]
    console.print(measured)
    facts = result["machine"]
    flags = " ".join(facts["flags"]) or "no telling flags"
    packages = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    console.print(
        f"\n{facts['processor']} ({flags}), {facts['cores_usable']} of {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB, load {facts['load'][0]:.1f}; {facts['system']}, Python {facts['python']}, "
        f"{packages}; commit {facts['commit']}",
        highlight=False,
    )
    if result["settings"].get("quick"):
        console.print("[yellow]--quick: these numbers only prove that everything runs.[/]")


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _cells(found: Mapping[str, float], unit: str) -> tuple[str, str, str]:
    return (
        f"{number(found['median'])} {unit}",
        f"{number(found['low'])} - {number(found['high'])}",
        str(found["runs"]),
    )


def number(value: float) -> str:
    """Three digits that count, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _outcome(outcome: Outcome) -> dict[str, Any]:
    goal = outcome.goal
    return {
        "what": goal.what,
        "goal": str(goal),
        "limit": goal.limit,
        "direction": goal.direction,
        "stretch": goal.stretch,
        "unit": goal.unit,
        "found": None if outcome.found is None else dataclasses.asdict(outcome.found),
        "verdict": outcome.verdict,
        "stretch_reached": outcome.stretched,
        "why": outcome.why,
    }


def _line(line: Line) -> dict[str, Any]:
    return {**dataclasses.asdict(line), "found": None if line.found is None else dataclasses.asdict(line.found)}
