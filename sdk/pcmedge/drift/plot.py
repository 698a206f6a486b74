"""The picture of a drift study: accuracy over age, one line per mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge.drift.files import write_whole
from pcmedge.drift.plan import REPAIRED
from pcmedge.errors import InputValueError, MissingExtraError

if TYPE_CHECKING:
    from pcmedge.drift.result import Summary

TICKS_S = {
    "1 s": 1.0,
    "10 s": 10.0,
    "1 min": 60.0,
    "10 min": 600.0,
    "1 h": 3600.0,
    "1 day": 86400.0,
    "1 month": 2592000.0,
    "1 year": 31536000.0,
    "10 years": 315360000.0,
}

NAMES = {
    "none": "no compensation",
    "gdc": "global drift compensation",
    "gdc-per-column": "drift compensation per column",
    "adabs": "adaptive statistics (as published)",
    "adabs-paired": "adaptive statistics (paired)",
}

# Okabe and Ito's colours, told apart by readers of every colour vision; markers and dashes say it again without colour.
STYLES = {
    "none": ("#000000", "s", (0, (1, 1.5))),
    "gdc": ("#E69F00", "^", (0, (5, 2))),
    "gdc-per-column": ("#CC79A7", "v", (0, (3, 1, 1, 1))),
    "adabs": ("#56B4E9", "D", (0, (6, 1, 1, 1))),
    "adabs-paired": ("#0072B2", "o", "solid"),
}
DIGITAL = "#009E73"
FALLBACK = ("#D55E00", "x", "solid")


def plot_summary(
    summary: Sequence[Summary], path: Path, *, title: str, note: str = "", names: Mapping[str, str] = NAMES
) -> None:
    """Write the picture as PNG: mean over chips, band from the worst to the best chip, digital baseline;
    once over the whole range and once close to the digital baseline.

    ``note``: a line below, for what was measured. ``names``: of the modes, for the legend.
    Raises InputValueError (nothing to draw), FileUnwritableError, MissingExtraError (matplotlib).
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("data", "Drawing a plot") from error
    if not summary:
        raise InputValueError("There is nothing to draw: the study has no rows.")
    figure = Figure(figsize=(10.5, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    whole, close = figure.subplots(1, 2, width_ratios=(1.0, 1.0))
    for axes in (whole, close):
        axes.axhline(
            100 * summary[0].digital_accuracy, color=DIGITAL, linewidth=1.5, label=f"digital ({percent(summary[0])})"
        )
        for mode in dict.fromkeys(one.mode for one in summary):
            _draw(axes, mode, _name(mode, names), [one for one in summary if one.mode == mode])
        _age_axis(axes, summary)
    one = summary[-1]
    lowest = min(0.0, *(100 * one.accuracy_low for one in summary))
    whole.set_ylim(lowest, 103)
    whole.set_ylabel("accuracy (%)")
    whole.set_title(title, loc="left", fontsize=10)
    whole.legend(loc="center right", frameon=True, framealpha=0.9, fontsize=8)
    close.set_ylim(*close_range(summary))
    close.set_title("the same, closer", loc="left", fontsize=10)
    says = note or f"{one.chips} chips: mean, and band from the worst to the best; {one.samples} samples each"
    figure.supxlabel(says, x=0.995, ha="right", fontsize=7, color="#555555")
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))


def close_range(summary: Sequence[Summary]) -> tuple[float, float]:
    """Limits in percent that show what compensation leaves of the digital accuracy, wherever "none" went."""
    kept = [one for one in summary if one.mode.removesuffix(REPAIRED) != "none"] or list(summary)
    low = 100 * min(*(one.accuracy_low for one in kept), kept[0].digital_accuracy)
    high = 100 * max(*(one.accuracy_high for one in kept), kept[0].digital_accuracy)
    margin = max(0.5, 0.08 * (high - low))
    return low - margin, high + margin


def _name(mode: str, names: Mapping[str, str]) -> str:
    base = mode.removesuffix(REPAIRED)
    return names.get(mode, names.get(base, base) + (", repaired" if base != mode else ""))


def percent(one: Summary) -> str:
    return f"{100 * one.digital_accuracy:.1f} %"


def _draw(axes: Any, mode: str, name: str, points: list[Summary]) -> None:
    base = mode.removesuffix(REPAIRED)
    colour, marker, dashes = STYLES.get(base, FALLBACK)
    ages = [one.age_s for one in points]
    axes.fill_between(
        ages,
        [100 * one.accuracy_low for one in points],
        [100 * one.accuracy_high for one in points],
        color=colour,
        alpha=0.18,
        linewidth=0,
    )
    axes.plot(
        ages,
        [100 * one.accuracy_mean for one in points],
        color=colour,
        marker=marker,
        markersize=7 if base != mode else 5,
        markerfacecolor="white" if base != mode else colour,
        linestyle=dashes,
        linewidth=1.8,
        label=name,
    )


def _age_axis(axes: Any, summary: Sequence[Summary]) -> None:
    ages = [one.age_s for one in summary]
    low, high = max(min(ages), 1e-3) / 1.4, max(max(ages), 1e-3) * 1.4
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    shown = {name: at for name, at in TICKS_S.items() if low <= at <= high}
    axes.set_xticks(list(shown.values()), list(shown), fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("age, since the first read after programming")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
