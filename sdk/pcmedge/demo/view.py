"""How the demo looks while it runs: a live picture on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pcmedge.durations import format_duration

if TYPE_CHECKING:
    from pcmedge.demo.result import DemoResult
    from pcmedge.demo.year import Year

COLOURS = {"none": "white", "gdc": "yellow", "adabs": "bright_blue", "digital": "green"}
BARS = "▁▂▃▄▅▆▇█"
LABELS = {"none": "no compensation", "gdc": "drift compensation (GDC)", "adabs": "adaptive batch norm (AdaBS)"}
SHORT = {"gdc": "GDC recalibrates", "adabs": "AdaBS recalibrates"}
WIDTH = 44
"""Columns of the age axis, which is logarithmic in age + 20 s."""


class QuietView:
    """Shows nothing, and is what the other views are: called in the order stage, progress ..., year ..., done."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def stage(self, text: str) -> None:
        """A new stage has begun."""

    def progress(self, done: int, total: int) -> None:
        """Of the present stage."""

    def year(self, year: Year) -> None:
        """Something was measured; called often."""

    def done(self, result: DemoResult) -> None:
        """The demo is over and its files are written."""


View = QuietView


class PlainView(QuietView):
    """A line per stage and per age; for pipes, logs and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ages = 0

    def stage(self, text: str) -> None:
        self._say(f"{text} ...")

    def year(self, year: Year) -> None:
        found = {mode: year.accuracies(mode) for mode in LABELS}
        complete = min(len(values) for values in found.values())
        if complete > self._ages:
            self._ages = complete
            parts = ", ".join(f"{mode} {100 * values[complete - 1]:.1f} %" for mode, values in found.items())
            age = format_duration(year.ages_s[complete - 1])
            self._say(
                f"age {age}: digital {100 * year.digital_accuracy:.1f} %, {parts}; "
                f"{year.requests_served} requests served, {year.requests_failed} failed"
            )

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView(QuietView):
    """One picture that is redrawn: the age, accuracy of each way of living with drift, requests, recalibrations."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._stage = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def stage(self, text: str) -> None:
        self._stage = text
        self._live.update(Text(f"{text} ..."))

    def progress(self, done: int, total: int) -> None:
        self._live.update(Text(f"{self._stage} ... {done} of {total}"))

    def year(self, year: Year) -> None:
        self._live.update(picture(year))


def choose_view(console: Console) -> View:
    """The live picture on a terminal, plain lines elsewhere."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainView(console)


def picture(year: Year) -> RenderableType:
    """What the live view shows at this moment."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    baseline = Text(BARS[-1] * WIDTH, style=COLOURS["digital"])
    table.add_row("digital", _percent(year.digital_accuracy, "digital"), baseline)
    for mode, label in LABELS.items():
        values = year.accuracies(mode)
        now = _percent(values[-1], mode) if values else Text("")
        table.add_row(label, now, Text(_bars(year, values), style=COLOURS[mode]))
    table.add_row("", "", Text(_axis(year), style="dim"))
    for mode, label in SHORT.items():
        done = [one.age_s for one in year.recalibrations if one.mode == mode and one.committed]
        table.add_row(label, f"{len(done):3d} times", Text(_marks(year, done), style=COLOURS[mode]))
    failed = Text(f"{year.requests_failed} failed", style="red bold" if year.requests_failed else "green")
    requests = Text.assemble(f"{year.requests_served:,} requests served, ", failed)
    head = Text.assemble(
        (f"{year.chips} emulated phase-change memory chips", "bold"),
        f", {year.samples} handwritten digits, programmed ",
        (f"{format_duration(year.age_s)} ago", "bold"),
    )
    return Group(head, Text(""), table, Text(""), requests)


def final_table(result: DemoResult) -> Table:
    """Accuracy at every age, one column per mode, for the end of the demo."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("age", justify="right")
    for mode, label in LABELS.items():
        table.add_column(label, justify="right", style=COLOURS[mode])
    table.add_column("digital", justify="right", style=COLOURS["digital"])
    by_age: dict[float, dict[str, str]] = {}
    for row in result.rows:
        spread = "" if row.accuracy_stderr is None else f" ± {100 * row.accuracy_stderr:.1f}"
        by_age.setdefault(row.age_s, {})[row.mode] = f"{100 * row.accuracy_mean:.1f}{spread} %"
    for age_s, cells in by_age.items():
        table.add_row(
            format_duration(age_s), *(cells[mode] for mode in LABELS), f"{100 * result.digital_accuracy:.1f} %"
        )
    return table


def closing_lines(result: DemoResult) -> list[str]:
    """What the table means, and where the files are."""
    gain = result.gain
    if gain.stderr is None:
        spread, basis = "", "one chip"
    else:
        spread, basis = f" ± {100 * gain.stderr:.1f}", f"mean and standard error over {gain.chips} chips"
    done = sum(one.committed for one in result.recalibrations)
    return [
        f"After {format_duration(gain.age_s)}, AdaBS minus GDC: {100 * gain.mean:+.1f}{spread} points ({basis}).",
        f"{result.requests_served:,} requests served, {result.requests_failed} failed.",
        f"{done} recalibrations by the devices' own policies; {result.wall_s:.0f} s in all.",
        *(f"{name}: {path}" for name, path in result.files.items()),
    ]


def _percent(value: float, mode: str) -> Text:
    return Text(f"{100 * value:5.1f} %", style=f"bold {COLOURS[mode]}")


def _column(year: Year, age_s: float) -> int:
    """Where an age lies on the axis, 0 to WIDTH - 1."""
    first, last = (math.log(age + 20.0) for age in (year.ages_s[0], year.ages_s[-1]))
    if last <= first:
        return WIDTH - 1
    return min(WIDTH - 1, max(0, round((math.log(age_s + 20.0) - first) / (last - first) * (WIDTH - 1))))


def _bars(year: Year, values: list[float]) -> str:
    """Accuracy as the height of a bar, up to the last age measured; each age holds until the next."""
    drawn = ""
    for age_s, value in zip(year.ages_s, values, strict=False):
        column = _column(year, age_s)
        drawn += (drawn[-1:] or " ") * (column - len(drawn))
        drawn += BARS[min(len(BARS) - 1, max(0, int(value * len(BARS))))]
    return drawn


def _marks(year: Year, ages_s: list[float]) -> str:
    columns = {_column(year, age_s) for age_s in ages_s}
    return "".join("╵" if column in columns else " " for column in range(WIDTH))


def _axis(year: Year) -> str:
    first, last = format_duration(year.ages_s[0]), format_duration(year.ages_s[-1])
    return first + last.rjust(WIDTH - len(first))
