"""What a process holds: memory, threads and descriptors by Linux's own words, sampled while something else goes on."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """At ``seconds`` since the start. ``rss``: resident; ``pss``: shared pages divided by their users; ``uss``: the
    process's own. KiB."""

    seconds: float
    rss_kib: int
    pss_kib: int
    uss_kib: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int, seconds: float = 0.0) -> Vitals:
        """ProcessLookupError or FileNotFoundError if there is no such process."""
        place = Path(f"/proc/{pid}")
        fields: Counter[str] = Counter()
        for line in (place / "smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            fields[name] += int(value.split()[0])
        return cls(
            seconds=seconds,
            rss_kib=fields["Rss"],
            pss_kib=fields["Pss"],
            uss_kib=fields["Private_Clean"] + fields["Private_Dirty"],
            threads=len(os.listdir(place / "task")),
            descriptors=len(os.listdir(place / "fd")),
        )


class Watch:
    """Takes a process's vitals every ``every_s`` seconds in a thread of its own. A context manager."""

    def __init__(self, pid: int, every_s: float) -> None:
        self._pid = pid
        self._every_s = every_s
        self._started_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)
        self.taken: list[Vitals] = []

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.taken.append(Vitals.of(self._pid, round(time.monotonic() - self._started_s, 2)))
            except (FileNotFoundError, ProcessLookupError):
                return

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def rows(self) -> list[dict[str, float]]:
        return [asdict(each) for each in self.taken]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Of one figure between the first third and the last third of the samples after warming up.

    ``early`` and ``late``: medians. ``early_floor`` and ``late_floor``: 10th percentiles, what is held between peaks of
    work. ``slope_per_hour``: of Theil and Sen, the median over all pairs of samples.
    """

    early: float
    late: float
    early_floor: float
    late_floor: float
    slope_per_hour: float

    @property
    def share(self) -> float:
        """Unit: 1."""
        return self.late / self.early - 1.0 if self.early else 0.0

    @property
    def floor_share(self) -> float:
        """Unit: 1."""
        return self.late_floor / self.early_floor - 1.0 if self.early_floor else 0.0


def growth(taken: list[Vitals], figure: str, warm_up_s: float) -> Growth:
    """ValueError if fewer than three samples are left after ``warm_up_s``."""
    rows = [(each.seconds, float(getattr(each, figure))) for each in taken if each.seconds >= warm_up_s]
    if len(rows) < 3:
        raise ValueError(f"{len(rows)} samples after {warm_up_s:g} s of warming up; growth needs three")
    seconds, values = np.array(rows).T
    third = max(1, len(rows) // 3)
    first, second = np.triu_indices(len(rows), 1)
    slopes = (values[second] - values[first]) / (seconds[second] - seconds[first])
    return Growth(
        early=float(np.median(values[:third])),
        late=float(np.median(values[-third:])),
        early_floor=float(np.percentile(values[:third], 10)),
        late_floor=float(np.percentile(values[-third:], 10)),
        slope_per_hour=float(np.median(slopes) * 3600),
    )
