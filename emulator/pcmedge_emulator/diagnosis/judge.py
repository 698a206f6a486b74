"""Which readings of a tile no healthy tile gives, within a bound on false alarms; docs/device.md has the tests.

Every test is a bound on a probability, and their sum is the false alarm rate: the union bound, which needs no
independence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from pcmedge.image.targets import Targets, full_scale

from pcmedge_emulator.diagnosis.healthy import HealthyCells
from pcmedge_emulator.outcomes import FaultFinding

Array = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SCATTERED_TAIL = 5e-4
"""Either side's tail of the limits that a few cells in a thousand may leave; more are "scattered-cells"."""

TAIL_SLACK = 1.3
"""How much more often than their nominal rate these limits may be left: they are sampled."""

MEAN_SLACK = 0.01
"""Relative error allowed to the expected response: it is sampled, and interpolated between targets."""

DEAD_RESPONSE = 0.02
"""A line whose response is below this share of that expected is called dead."""

DEAD_LINE_CELLS = 3
"""Faulty cells that read 0, and no other cell of the line that reads anything, make a dead line."""

MOST_FINDINGS = 64
"""Findings told of one tile; cells are counted all the same."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is known of healthy readings and converters. Probabilities are per test, of the side of one tile.

    ``cell_tail``: of either side of one cell. ``lines``: of all rows and columns of a tile; ``offsets``: of all its
    converters; ``scattered``: of its count of cells. ``quantum``: one ADC code of the read-out in weights.
    ``gain_spread`` and ``offset_spread`` (ADC codes): standard deviations of healthy converters.
    """

    cells: HealthyCells
    cell_tail: float
    lines: float
    offsets: float
    scattered: float
    quantum: float
    gain_spread: float = 0.0
    offset_spread: float = 0.0

    @property
    def rounding(self) -> float:
        """The most that converting changes a reading, in weights: the reading's half code, and that of the zero."""
        return self.quantum * (1.0 if self.offset_spread else 0.5)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``faulty_cells`` are off one by one; ``excess_share``: of cells a little off, beyond what chance allows."""

    findings: tuple[FaultFinding, ...]
    faulty_cells: int
    excess_share: float

    def unfit(self, cells: int, tolerated_share: float) -> bool:
        """Whether the tile should not be programmed again."""
        lines = any(finding.kind not in ("cell", "scattered-cells") for finding in self.findings)
        return lines or max(self.faulty_cells / cells, self.excess_share) > tolerated_share


def judge_tile(readings: Array, zeros: Array, target: Targets, limits: Limits) -> Verdict:
    """Compare a tile with a healthy one.

    ``readings`` float32 [groups, rows, columns]: every cell read alone, in weights, without its column's offset.
    ``zeros`` [groups * columns]: that offset, ADC codes. ``target`` as stored in the image.
    """
    _, rows, columns = target.shape
    sign = np.where(target < 0, -1.0, 1.0)
    magnitude = np.abs(target.astype(np.float64)) / full_scale(target.dtype)
    cells = limits.cells
    y = readings.astype(np.float64) * sign
    expected = cells.at(cells.mean, magnitude)
    low, high = (_with_converters(cells, side, magnitude, limits, expected) for side in (cells.low, cells.high))
    lines = _Lines(
        y, expected, cells.at(cells.variance, magnitude), np.maximum(high - expected, expected - low), limits
    )
    found = lines.find()
    offsets = _offsets(zeros, limits)
    inside = lines.open
    bad = inside & ((y < low) | (y > high))
    dead = _dead_lines(bad, inside & (low > 0), y, limits)
    for finding in dead:
        inside[_cells_of(finding, rows, columns)] = False
    bad &= inside
    single = [
        FaultFinding(
            kind="cell",
            row=int(g * rows + r),
            column=int(g * columns + c),
            measured=float(readings[g, r, c]),
            expected=float(sign[g, r, c] * expected[g, r, c]),
            bound=float(
                high[g, r, c] - expected[g, r, c] if y[g, r, c] > high[g, r, c] else expected[g, r, c] - low[g, r, c]
            ),
        )
        for g, r, c in _worst(bad, np.maximum(y - high, low - y))
    ]
    near_low, near_high = (
        _with_converters(cells, side, magnitude, limits, expected, SCATTERED_TAIL) for side in (cells.low, cells.high)
    )
    off = inside & ~bad & ((y < near_low) | (y > near_high))
    scattered, excess = _scattered(int(np.count_nonzero(off)), int(np.count_nonzero(inside)), limits.scattered)
    findings: tuple[FaultFinding, ...] = (*found, *dead, *offsets, *scattered, *single)[:MOST_FINDINGS]
    if findings and not readings.any() and not zeros.any():
        lost = FaultFinding(kind="tile-lost", measured=0.0, expected=1.0, bound=1.0)
        return Verdict(findings=(lost,), faulty_cells=target.size, excess_share=1.0)
    return Verdict(findings=findings, faulty_cells=int(np.count_nonzero(bad)), excess_share=excess)


def _with_converters(
    cells: HealthyCells,
    side: dict[float, Float64],
    magnitude: Float64,
    limits: Limits,
    expected: Float64,
    tail: float | None = None,
) -> Float64:
    """A limit of one cell with what the converters add to it, [groups, rows, columns], in weights."""
    tail = limits.cell_tail if tail is None else tail
    outwards = 1.0 if side is cells.high else -1.0
    limit = cells.at(side[tail], magnitude)
    gain = NormalDist().inv_cdf(1 - tail) * limits.gain_spread * np.maximum(np.abs(limit), expected)
    return limit + outwards * (limits.rounding + gain)


def _dead_lines(
    bad: npt.NDArray[np.bool_], telling: npt.NDArray[np.bool_], y: Float64, limits: Limits
) -> list[FaultFinding]:
    """Lines too short for the test of lines, but with faulty cells in which nothing else is left.

    ``telling``: cells that would be faulty if they read 0. This only gives faulty cells a name, so it costs no false
    alarms.
    """
    silent = bad & (np.abs(y) <= limits.rounding)
    _, rows, columns = y.shape
    found = []
    for name, axis, length in (("column", 1, columns), ("row", 2, rows)):
        named, all_of = silent.sum(axis=axis), telling.sum(axis=axis)
        whole = (named == all_of) & (named >= DEAD_LINE_CELLS) & (bad.sum(axis=axis) == named)
        for group, line in np.argwhere(whole):
            place = {name: int(group * length + line)}
            found.append(FaultFinding(kind=f"dead-{name}", measured=0.0, expected=1.0, bound=1.0, **place))
    return found


def _cells_of(finding: FaultFinding, rows: int, columns: int) -> tuple[int | slice, ...]:
    """Index of a line's cells in [groups, rows, columns]."""
    if finding.row is not None:
        return finding.row // rows, finding.row % rows
    assert finding.column is not None
    return finding.column // columns, slice(None), finding.column % columns


def _worst(bad: npt.NDArray[np.bool_], by: Float64) -> list[tuple[int, int, int]]:
    where = np.argwhere(bad)
    order = np.argsort(-by[bad], kind="stable")[:MOST_FINDINGS]
    return [(int(g), int(r), int(c)) for g, r, c in where[order]]


def _offsets(zeros: Array, limits: Limits) -> list[FaultFinding]:
    """Converters that read a product of zeros as more than their spread and one rounding."""
    bound = 0.5
    if limits.offset_spread:
        bound += NormalDist().inv_cdf(1 - limits.offsets / (2 * zeros.size)) * limits.offset_spread
    return [
        FaultFinding(kind="adc-offset", column=int(column), measured=float(zeros[column]), expected=0.0, bound=bound)
        for column in sorted(np.flatnonzero(np.abs(zeros) > bound), key=lambda column: -abs(zeros[column]))
    ]


def _scattered(count: int, cells: int, rate: float) -> tuple[list[FaultFinding], float]:
    """Chernoff's bound on the number of cells that leave limits which each leaves with probability p at most."""
    p = 2 * SCATTERED_TAIL * TAIL_SLACK
    share = count / cells if cells else 0.0
    if share <= p or cells * _divergence(share, p) <= math.log(1 / rate):
        return [], 0.0
    most = next(k for k in range(count + 1) if k / cells > p and cells * _divergence(k / cells, p) > math.log(1 / rate))
    finding = FaultFinding(
        kind="scattered-cells", measured=float(count), expected=cells * p, bound=most - 1 - cells * p
    )
    return [finding], share - p


def _divergence(share: float, p: float) -> float:
    """Kullback-Leibler divergence of a coin of ``share`` from one of ``p``."""
    rest = 0.0 if share >= 1 else (1 - share) * math.log((1 - share) / (1 - p))
    return share * math.log(share / p) + rest


class _Lines:
    """Rows and columns against their expected response, sum E y over sum E^2; the worst first, each taken out then.

    With every cell within its limits a line departs from sum E^2 by more than Bernstein's bound with the given
    probability at most; that some cell is not within is what the cells' own test allows for.
    """

    def __init__(self, y: Float64, expected: Float64, variance: Float64, reach: Float64, limits: Limits) -> None:
        self.open = np.ones(y.shape, np.bool_)
        self._size = y.shape
        self._limits = limits
        groups, rows, columns = y.shape
        self._log = math.log(2 * groups * (rows + columns) / limits.lines)
        self._z = NormalDist().inv_cdf(1 - limits.lines / (2 * groups * (rows + columns)))
        self._parts = {
            "response": expected * y,
            "power": np.square(expected),
            "variance": np.square(expected) * variance,
            "magnitude": np.abs(expected),
        }
        self._reach = np.abs(expected) * reach

    def find(self) -> list[FaultFinding]:
        findings: list[FaultFinding] = []
        groups, rows, columns = self._size
        for _ in range(groups * (rows + columns)):
            worst = max((self._worst(axis) for axis in (1, 2)), key=lambda item: item[0])
            excess, axis, group, line, measured, bound = worst
            if excess <= 1:
                break
            name = "column" if axis == 1 else "row"
            place = {name: group * (columns if axis == 1 else rows) + line}
            kind = f"dead-{name}" if abs(measured) <= DEAD_RESPONSE else f"{name}-response"
            findings.append(FaultFinding(kind=kind, measured=measured, expected=1.0, bound=bound, **place))
            self.open[_cells_of(findings[-1], rows, columns)] = False
        return findings

    def _worst(self, axis: int) -> tuple[float, int, int, int, float, float]:
        """(departure over bound, axis, group, line, response, bound) of the worst line that runs along ``axis``."""
        sums = {name: np.where(self.open, part, 0.0).sum(axis=axis) for name, part in self._parts.items()}
        b = np.where(self.open, self._reach, 0.0).max(axis=axis) * self._log / 3
        bound = b + np.sqrt(np.square(b) + 2 * sums["variance"] * self._log)
        slack = MEAN_SLACK + self._z * self._limits.gain_spread
        bound += slack * sums["power"] + self._limits.rounding * sums["magnitude"]
        departure = np.abs(sums["response"] - sums["power"])
        excess = np.divide(departure, bound, out=np.zeros_like(departure), where=bound > 0)
        group, line = np.unravel_index(int(np.argmax(excess)), excess.shape)
        power = max(float(sums["power"][group, line]), np.finfo(np.float64).tiny)
        return (
            float(excess[group, line]),
            axis,
            int(group),
            int(line),
            float(sums["response"][group, line] / power),
            float(bound[group, line] / power),
        )
