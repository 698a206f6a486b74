"""The paper's figures with our data: PNG, labelled where the lines end, in colours everybody can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from pcmedge.drift.files import write_whole

from benchmarks.science.results import DIGITAL, Table
from benchmarks.science.settings import METHODS, NETWORKS, TRAINED

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/).
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOURS = {
    "none": BLACK,
    "gdc": ORANGE,
    "gdc-per-column": RED,
    "adabs": SKY,
    "adabs+gdc": BLUE,
    "paired": GREEN,
    "paired-synthetic": PURPLE,
}
MARKERS = dict(zip(COLOURS, "xosv^Dp", strict=True))
DAY_S, YEAR_S = 86400.0, 31536000.0


def duration(age_s: float) -> str:
    for unit, length in (("y", YEAR_S), ("d", DAY_S), ("h", 3600.0), ("min", 60.0)):
        if age_s >= length:
            return f"{age_s / length:g} {unit}"
    return f"{age_s:g} s"


def draw(name: str, found: Table, path: Path) -> None:
    """The figure of one experiment; nothing of the moment in the file."""
    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    FIGURES[name](axes, found)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))


def _line(axes: Axes, x: Sequence[float], gaps: Iterable[np.ndarray[Any, Any]], mode: str, label: str) -> float:
    """Mean over chips and a band of one standard deviation; the height at its end."""
    values = list(gaps)
    means = np.array([gap.mean() for gap in values])
    deviations = np.array([gap.std(ddof=1) if len(gap) > 1 else 0.0 for gap in values])
    axes.plot(x, means, color=COLOURS[mode], marker=MARKERS[mode], markersize=5, linewidth=1.5, label=label)
    axes.fill_between(x, means - deviations, means + deviations, color=COLOURS[mode], alpha=0.15, linewidth=0)
    return float(means[-1])


def _labels(axes: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Names at the ends of the lines, moved apart where they would overlap. ``ends``: (height, name, colour)."""
    low, high = sorted(axes.get_ylim())
    step = (high - low) * 0.052
    placed: list[float] = []
    for height, name, colour in sorted(ends, key=lambda end: end[0]):
        at = max(min(max(height, low), high), placed[-1] + step if placed else low)
        placed.append(at)
        axes.annotate(
            name, (x, at), xytext=(9, 0), textcoords="offset points", color=colour, va="center", fontsize=8.5,
            annotation_clip=False,
        )  # fmt: skip


def _gap_axis(axes: Axes, worst: float) -> None:
    axes.set_ylabel("points below the float network\n(bands: one standard deviation over chips)", fontsize=9)
    best = min((float(np.min(line.get_ydata())) for line in axes.lines), default=0.0)
    axes.set_ylim(max(worst, 1.0), min(0.0, best) - 0.35)


def _worst(found: Table, modes: Iterable[str]) -> float:
    values = [100 * row["gap"] for row in found.chips().rows if row["mode"] in set(modes)]
    return 1.05 * max(values, default=1.0)


def time(axes: Axes, found: Table) -> None:
    """Joshi et al. 2020, Figs. 4d and 5b."""
    modes = [mode for mode in METHODS if mode in found.values("mode")]
    ages = [age for age in found.values("age_s") if age > 0]
    ends = []
    for mode in modes:
        gaps = [found.gap_of(mode=mode, age_s=age)[0] for age in ages]
        ends.append((_line(axes, ages, gaps, mode, METHODS[mode].label), METHODS[mode].label, COLOURS[mode]))
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([5.0, *ages], [duration(age) for age in (5.0, *ages)])
    _gap_axis(axes, _worst(found, set(modes) - {"none"}))
    # The paper's 25 s count from programming, ages from the first read 20 s later.
    published = ((5.0, 0.12, BLACK, "o"), (DAY_S, 1.27, ORANGE, "o"), (DAY_S, 0.37, SKY, "o"))
    for age, gap, colour, marker in published:
        axes.plot(
            [age], [gap], marker=marker, color=colour, markerfacecolor="none", markersize=11, linestyle="", zorder=5
        )
    axes.set_title("Accuracy against age. Open circles: published, on a chip (none, GDC, AdaBS)", fontsize=9)
    axes.set_xlabel("age: time since the first read, 20 s after programming")
    bottom = axes.get_ylim()[0]
    _labels(axes, ages[-1], [end for end in ends if end[0] <= bottom])
    for _, name, colour in [end for end in ends if end[0] > bottom]:
        axes.annotate(
            f"{name}: leaves the plot", (ages[0], bottom), xytext=(14, 5), textcoords="offset points", color=colour,
            fontsize=8.5,
        )  # fmt: skip


def programming(axes: Axes, found: Table) -> None:
    """Joshi et al. 2020, Fig. 3b."""
    g = np.linspace(0, 25, 200)
    joshi = np.maximum(-0.00178767 * g**2 + 0.07585724 * g + 0.28638599, 0)
    model = 0.26348 + 1.9650 * g / 25 - 1.1731 * (g / 25) ** 2
    axes.plot(g, joshi, color=BLACK, linewidth=1.5)
    axes.plot(g, model, color=BLUE, linewidth=1, linestyle="--")
    ends = [
        (float(joshi[-1]), "published, fit of Fig. 3b (CrossSim)", BLACK),
        (float(model[-1]), "model of programming (ICECS 2019)", BLUE),
    ]
    styles = {"one pulse": (ORANGE, "o"), "program and verify": (GREEN, "D")}
    for how, (colour, marker) in styles.items():
        rows = [row for row in found.rows if row["how"] == how]
        level = [row["level_microsiemens"] for row in rows]
        read = [row["sigma_read_microsiemens"] for row in rows]
        before = [row["sigma_programmed_microsiemens"] for row in rows]
        axes.plot(level, read, color=colour, marker=marker, markersize=5, linestyle="")
        axes.plot(level, before, color=colour, marker=marker, markersize=5, linestyle="", markerfacecolor="none")
        ends.append((read[-1], f"ours, {how}", colour))
    axes.axhline(0.94, color="grey", linewidth=0.8, linestyle=":")
    axes.annotate("0.94 µS, the published training noise", (0, 0.94), xytext=(2, 3), textcoords="offset points",
                  fontsize=8, color="grey")  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_xlabel("target conductance, µS")
    axes.set_ylabel("standard deviation, µS")
    axes.set_title("Programming error per conductance level. Filled: read after 27 s; open: before reading", fontsize=9)
    _labels(axes, 25, ends)


def weights(axes: Axes, found: Table) -> None:
    whole = [row for row in found.rows if row["layer"] == "all layers"]
    ages = list(dict.fromkeys(row["age_s"] for row in whole))
    x = [age + 20 for age in ages]
    ends = []
    for mode, label in (("none", "as read"), ("gdc", "with GDC")):
        per_age = [[r["error_rms_percent"] for r in whole if r["mode"] == mode and r["age_s"] == age] for age in ages]
        ends.append((_line(axes, x, [np.array(each) for each in per_age], mode, label), label, COLOURS[mode]))
    layers = [row["layer"] for row in found.rows if row["layer"] != "all layers"]
    for layer in dict.fromkeys(layers):
        of = [row for row in found.rows if row["layer"] == layer and row["mode"] == "gdc"]
        means = [np.mean([row["error_rms_percent"] for row in of if row["age_s"] == age]) for age in ages]
        axes.plot(x, means, color=COLOURS["gdc"], linewidth=0.4, alpha=0.5)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    shown = [age for age in ages if duration(age) in ("0 s", "5 min", "1 h", "1 d", "30 d", "1 y")]
    axes.set_xticks([age + 20 for age in shown], [duration(age) for age in shown])
    axes.axhline(3.8, color="grey", linewidth=0.8, linestyle=":")
    axes.annotate(
        "3.8 %, the published training noise", (x[-1], 3.8), xytext=(-2, -10), textcoords="offset points", ha="right",
        fontsize=8, color="grey",
    )  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_xlabel("age")
    axes.set_ylabel("rms error, % of the layer's largest weight")
    axes.set_title("Error of the network's weights over time (thin: each layer with GDC)", fontsize=9)
    _labels(axes, x[-1], ends)


def _by(column: str, xlabel: str, title: str, *, log: bool = False) -> Callable[[Axes, Table], None]:
    def figure(axes: Axes, found: Table) -> None:
        last_s = max(found.chips().values("age_s"))
        x = sorted(found.values(column))
        ends = []
        for mode in found.values("mode"):
            each = [(value, found.gap_of(**{column: value, "mode": mode, "age_s": last_s})[0]) for value in x]
            at, gaps = [value for value, gap in each if len(gap)], [gap for _, gap in each if len(gap)]
            if len(gaps) > 1:
                label = {"adabs": "AdaBS", "paired": "paired", "paired-synthetic": "paired, synthetic"}.get(
                    mode, METHODS[mode].label
                )
                ends.append((_line(axes, at, gaps, mode, label), label, COLOURS[mode]))
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(x, [f"{value:,}" for value in x])
        axes.set_xlabel(xlabel)
        worst = min(_worst(found, found.values("mode")), 12.0)
        if column == "buffer_samples":
            gap = float(found.gap_of(mode="gdc", age_s=last_s)[0].mean())
            axes.plot([x[0], x[-1]], [gap, gap], color=COLOURS["gdc"], linewidth=1.2)
            ends.append((gap, "GDC, no images", COLOURS["gdc"]))
        _gap_axis(axes, worst)
        axes.set_title(f"{title}, age {duration(last_s)}", fontsize=9)
        _labels(axes, x[-1], ends)

    return figure


def networks(axes: Axes, found: Table) -> None:
    names = [name for name in NETWORKS if found.where(network=name).chips().rows]
    x = list(range(len(names)))
    ends, worst = [], 1.0
    lines = (("none", 0.0, "right after programming"), ("gdc", DAY_S, "1 d, GDC"), ("paired", DAY_S, "1 d, paired"))
    for mode, age, label in lines:
        gaps = [found.gap_of(network=name, mode=mode, age_s=age)[0] for name in names]
        worst = max([worst, *(float(gap.max()) for gap in gaps)])
        ends.append((_line(axes, x, gaps, mode, label), label, COLOURS[mode]))
    digital = [100 * found.where(network=name, mode=DIGITAL).rows[0]["gap"] for name in names]
    axes.plot(x, digital, color="grey", linewidth=1, marker=".")
    ends.append((digital[-1], "digital", "grey"))
    axes.set_xticks(x, [NETWORKS[name].replace(" without ", "\nwithout ") for name in names])
    axes.set_xlabel("weight noise in training, share of the largest weight")
    _gap_axis(axes, min(1.05 * worst, 12.0))
    axes.set_title("Accuracy against training noise. Published: 3.8 % (0.94 µS of 25 µS)", fontsize=9)
    _labels(axes, x[-1], ends)


def sources(axes: Axes, found: Table) -> None:
    names = found.values("source")
    lines = (("none", 0.0, "right after programming"), ("gdc", DAY_S, "1 d, GDC"), ("paired", DAY_S, "1 d, paired"),
             ("gdc", YEAR_S, "1 y, GDC"), ("paired", YEAR_S, "1 y, paired"))  # fmt: skip
    height = 0.8 / len(lines)
    for at, (mode, age, label) in enumerate(lines):
        gaps = [found.gap_of(source=name, mode=mode, age_s=age)[0] for name in names]
        y = [place + (at - 2) * height for place in range(len(names))]
        errors = [gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else 0.0 for gap in gaps]
        axes.barh(y, [gap.mean() for gap in gaps], height, color=COLOURS[mode], alpha=1.0 if age != YEAR_S else 0.55,
                  label=label, xerr=errors, error_kw={"linewidth": 0.8})  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("points below the float network (bars: mean; whiskers: standard error over chips)")
    axes.set_title(f"One source switched off at a time ({TRAINED} network)", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=len(lines))


FIGURES: dict[str, Callable[[Axes, Table], None]] = {
    "programming": programming,
    "weights": weights,
    "time": time,
    "eta": networks,
    "buffer": _by("buffer_samples", "calibration images", "Accuracy against calibration buffer size", log=True),
    "bits": _by("bits", "bits of DAC and ADC", "Accuracy against converter bits"),
    "tiles": _by("tile", "rows and columns of a tile", "Accuracy against tile size", log=True),
    "sources": sources,
}
