"""The page and the figures, from the Parquet files alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pcmedge.drift.files import write_whole

from benchmarks.science import figures, results, table
from benchmarks.science.results import Table
from benchmarks.science.settings import METHODS, NETWORKS, TRAINED

AGES = {0.0: "0 s", 25.0: "25 s", 3600.0: "1 h", 86400.0: "1 d", 2592000.0: "30 d", 31536000.0: "1 y"}
DAY_S, YEAR_S = 86400.0, 31536000.0
TEST_PICTURES = 10_000
PUBLISHED_MICROSIEMENS = 1.2
"""Joshi et al. 2020, Fig. 3b: the standard deviation stays below it on every level."""


def write(output: Path, *, draws: int) -> None:
    """README.md, table.parquet and a figure per experiment there is in ``output``."""
    files = {name: output / f"{name}.parquet" for name in SECTIONS}
    found = {name: results.read(path) for name, path in files.items() if path.exists()}
    tables = {name: Table(rows) for name, (rows, _) in found.items()}
    facts = next((facts for name, (_, facts) in found.items() if name == "time"), None) or next(
        (facts for _, facts in found.values()), {}
    )
    lines = ["# Results", "", *_preamble(found), ""]
    others = sorted(path for path in output.glob("*.md") if path.name != "README.md")
    if others:
        pages = ", ".join(f"[{path.stem}]({path.name})" for path in others)
        lines += [f"Other measurements, each with its own command: {pages}.", ""]
    made = table.rows(tables, draws=draws)
    if made:
        results.write(output / "table.parquet", made, None, {"version": facts["version"], "command": facts["command"]})
        lines += ["## What was published, and ours", "", "Goals were set before anything was measured.", ""]
        lines += [*table.markdown(made), ""]
    for name, (title, section) in SECTIONS.items():
        if name in tables:
            lines += [f"## {title}", "", *section(tables[name]), ""]
            if name in figures.FIGURES:
                figures.draw(name, tables[name], output / f"{name}.png")
                lines += [f"![{title}]({name}.png)", ""]
    write_whole(output / "README.md", lambda path: path.write_text("\n".join(lines).rstrip() + "\n") and None)


def _preamble(found: dict[str, Any]) -> list[str]:
    commands: dict[str, list[str]] = {}
    for name, (_, facts) in found.items():
        commands.setdefault(facts["command"], []).append(name)
    missing = {each for _, facts in found.values() for each in _list(facts.get("missing", "[]"))}
    lines = [
        "Joshi et al. 2020 (Nat. Commun. 11:2473) programmed ResNet-32 into phase-change memory. This page is that "
        "experiment on the emulated chip, made by one command:",
        "",
        "```sh",
        *(f"{command}   # {', '.join(names)}" if len(commands) > 1 else command for command, names in commands.items()),
        "```",
        "",
        "Gaps are percentage points below the float network's digital accuracy on the same pictures. A chip is a seed; "
        "± is the standard deviation over chips; intervals are those of a bootstrap that draws images and chips "
        "together for everything that is compared. Recalibration and inference see different realisations of read "
        "noise unless it says otherwise. Ages count from the first read, 20 s after programming: the paper's 25 s "
        "after programming are the age of 5 s. The first table, accuracy against time and the network trained without "
        "noise are measured on the pictures and chips of the command; all sweeps on held-out training pictures and "
        "chips from seed 0: other pictures, other gaps, so compare within a table. Methods are defined in "
        "[calibration.md](../calibration.md). Each table has a Parquet file of its name, one row per chip, with one "
        "bit per picture in `correct`.",
        "",
        f"pcmedge {version('pcmedge')}, {_machine()}.",
    ]
    if missing:
        lines += ["", f"Not measured, because the trained network is missing: {', '.join(sorted(missing))}."]
    if absent := [title for name, (title, _) in SECTIONS.items() if name not in found]:
        lines += ["", f"Not measured yet: {'; '.join(absent)}."]
    if any("--quick" in command for command in commands):
        lines += ["", "**Made with `--quick`: these numbers mean nothing.**"]
    return lines


def _list(text: str) -> list[str]:
    import json

    return list(json.loads(text))


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime"))
    return f"{model} ({os.cpu_count()} CPUs), Python {platform.python_version()}, {versions}"


def spread(gaps: np.ndarray[Any, Any]) -> str:
    """Mean and standard deviation over chips, points."""
    if not len(gaps):
        return "-"
    return f"{gaps.mean():.2f}" + (f" ± {gaps.std(ddof=1):.2f}" if len(gaps) > 1 else "")


def grid(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table in Markdown."""
    heads = list(heads)
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]


def _on(found: Table) -> str:
    first = found.chips().rows[0]
    chips = len(set(found.values("chip")))
    baseline = 100 * first["baseline"]
    kind = "held-out training pictures"
    if first["part"] == "test":
        kind = "test pictures" + (f" (CIFAR-10 has {TEST_PICTURES:,})" if first["samples"] < TEST_PICTURES else "")
    of = found.where(mode=results.DIGITAL, network=TRAINED).rows
    trained = f", noise-trained one {100 * (first['baseline'] - of[0]['gap']):.2f} %, without a chip" if of else ""
    return f"{first['samples']:,} {kind}, {chips} chips; float network {baseline:.2f} %{trained}. Gap in points:"


def _time(found: Table) -> list[str]:
    ages = found.values("age_s")
    rows = [
        [METHODS[mode].label, *(spread(found.gap_of(mode=mode, age_s=age)[0]) for age in ages)]
        for mode in METHODS
        if mode in found.values("mode")
    ]
    return [_on(found), "", *grid(["", *(AGES.get(age, f"{age:g} s") for age in ages)], rows)]


def _same_read(found: Table) -> list[str]:
    rows = [
        [METHODS[mode].label, *(spread(found.gap_of(mode=mode, age_s=age)[0]) for age in (DAY_S, YEAR_S))]
        for mode in found.values("mode")
    ]
    return [
        "Recalibrated and evaluated on one realisation of read noise, which no real chip does. " + _on(found),
        "",
        *grid(["", "1 d", "1 y"], rows),
    ]


def _networks(found: Table) -> list[str]:
    columns = [(0.0, "none"), (DAY_S, "gdc"), (DAY_S, "paired"), (YEAR_S, "gdc"), (YEAR_S, "paired")]
    heads = ["trained with noise", "digital", *(f"{AGES[age]}, {METHODS[mode].label}" for age, mode in columns)]
    rows = []
    for network in NETWORKS:
        of = found.where(network=network)
        if of.chips().rows:
            digital = 100 * of.where(mode=results.DIGITAL).rows[0]["gap"]
            rows.append(
                [
                    NETWORKS[network],
                    f"{digital:.2f}",
                    *(spread(of.gap_of(mode=mode, age_s=age)[0]) for age, mode in columns),
                ]
            )
    return [_on(found), "", *grid(heads, rows)]


def _against(column: str, label: Callable[[Any], str]) -> Callable[[Table], list[str]]:
    """Rows by a setting, columns by age and method."""

    def section(found: Table) -> list[str]:
        chips = found.chips()
        columns = list(dict.fromkeys((row["age_s"], row["mode"]) for row in chips.rows))
        columns = [each for each in columns if not (column == "buffer_samples" and each[1] == "gdc")]
        rows = [
            [
                label(value),
                *(spread(found.gap_of(**{column: value, "age_s": age, "mode": mode})[0]) for age, mode in columns),
            ]
            for value in found.values(column)
        ]
        heads = [column.replace("_", " "), *(f"{AGES[age]}, {_short(mode)}" for age, mode in columns)]
        lines = [_on(found), "", *grid(heads, rows)]
        if column == "buffer_samples":
            lines += ["", f"GDC, without any: {spread(found.gap_of(mode='gdc')[0])}."]
        return lines

    return section


def _short(mode: str) -> str:
    return {"adabs": "AdaBS", "paired": "paired", "paired-synthetic": "paired, synthetic"}.get(
        mode, METHODS[mode].label
    )


def _programming(found: Table) -> list[str]:
    ways: dict[str, list[dict[str, Any]]] = {}
    for row in found.rows:
        ways.setdefault(row["how"], []).append(row)
    heads = ["level, µS", *(f"{how}: {what}" for how in ways for what in ("programmed", "read at 27 s"))]
    lines = []
    for at, row in enumerate(found.rows[: len(next(iter(ways.values())))]):
        cells = [(of[at]["sigma_programmed_microsiemens"], of[at]["sigma_read_microsiemens"]) for of in ways.values()]
        lines.append([f"{row['level_microsiemens']:.1f}", *(f"{value:.3f}" for pair in cells for value in pair)])
    (pulse, *_), read = ways, {how: [row["sigma_read_microsiemens"] for row in of] for how, of in ways.items()}
    above = sum(value > PUBLISHED_MICROSIEMENS for value in read[pulse])
    return [
        f"Standard deviation of the conductance, µS, {found.rows[0]['devices']:,} devices per level. Published: below "
        f"{PUBLISHED_MICROSIEMENS} µS on all of eleven levels, 0.94 µS as the one figure for training noise. "
        f"Ours, read after 27.36 s as theirs: {pulse} is above {PUBLISHED_MICROSIEMENS} µS on {above} of "
        f"{len(read[pulse])} levels, by up to {max(read[pulse]) - PUBLISHED_MICROSIEMENS:.2f}, with a median of "
        f"{np.median(read[pulse]):.2f} µS (the published coefficients of programming noise, and read noise on top of "
        f"them); "
        + ", ".join(f"{how} at most {max(of):.2f}" for how, of in read.items() if how != pulse)
        + ". Accuracies are those of one pulse, so none of them is helped by it.",
        "",
        *grid(heads, lines),
    ]


def _weights(found: Table) -> list[str]:
    whole = [row for row in found.rows if row["layer"] == "all layers"]
    ages = list(dict.fromkeys(row["age_s"] for row in whole))
    rows = []
    for mode, label in (("none", "as read"), ("gdc", "with GDC")):
        values = [[r["error_rms_percent"] for r in whole if r["mode"] == mode and r["age_s"] == age] for age in ages]
        rows.append([label, *(f"{np.mean(each):.2f}" for each in values)])
    chips = len({row["chip"] for row in found.rows})
    return [
        "Root mean square error of a weight, percent of its layer's largest, over all "
        f"{whole[0]['weights']:,} weights of the noise-trained network that are not 0; mean of {chips} chips:",
        "",
        *grid(["", *(figures.duration(age) for age in ages)], rows),
    ]


SECTIONS: dict[str, tuple[str, Callable[[Table], list[str]]]] = {
    "programming": ("Programming error per conductance level", _programming),
    "weights": ("Weight error over time", _weights),
    "time": ("Accuracy against time", _time),
    "same-read": ("The same read", _same_read),
    "float-trained": ("The network trained without noise", _networks),
    "eta": ("Accuracy against training noise", _networks),
    "buffer": ("Accuracy against calibration buffer size", _against("buffer_samples", lambda value: f"{value:,}")),
    "bits": ("Accuracy against DAC and ADC bits", _against("bits", str)),
    "tiles": ("Accuracy against tile size", _against("tile", lambda value: f"{value} x {value}")),
    "sources": ("What limits the accuracy", _against("source", str)),
}
