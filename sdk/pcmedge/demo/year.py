"""A year in the life of some emulated chips, over gRPC: three twins of each chip, one per way of living with drift."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pcmedge.demo.digits import Pictures
from pcmedge.demo.emulator import DeviceSpec
from pcmedge.device import Device
from pcmedge.device.results import Policy
from pcmedge.drift.result import Row
from pcmedge.durations import parse_duration
from pcmedge.errors import Error
from pcmedge.image import ChipImage

MODES = ("none", "gdc", "adabs")
METHODS = {"none": "none", "gdc": "gdc", "adabs": "adabs-paired"}
"""What each twin's recalibration policy does; "none" never recalibrates."""

LOG_TIME_RATIO = 4.0
"""The policy recalibrates whenever the age (plus 20 s) has grown by this factor: 10 times in the first year."""

AGES_S = tuple(parse_duration(age) for age in ("25s", "1m", "5m", "20m", "1h", "6h", "1d", "7d", "30d", "120d", "1y"))
BATCH = 50
"""Digits per request of the accuracy measurement."""

TRAFFIC_REQUESTS, TRAFFIC_BATCH, TRAFFIC_PAUSE_S = 10, 4, 0.03
"""Requests, digits per request and seconds between requests while a device ages and recalibrates. A fixed number, so
that the noise of later requests, and with it every accuracy, is the same in each run."""

THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """One line of a device's journal: its policy recalibrated, or its guard refused to."""

    age_s: float
    chip: int
    mode: str
    committed: bool


@dataclass
class Year:
    """What has been seen so far. Written by :func:`live_through`, read by views."""

    chips: int
    samples: int
    digital_accuracy: float
    ages_s: tuple[float, ...] = AGES_S
    age_s: float = 0.0
    requests_served: int = 0
    requests_failed: int = 0
    rows: list[Row] = field(default_factory=list)
    recalibrations: list[Recalibration] = field(default_factory=list)

    def accuracies(self, mode: str) -> list[float]:
        """Mean accuracy over chips at each age seen in full, oldest last."""
        by_age: dict[float, list[float]] = {}
        for row in self.rows:
            if row.mode == mode:
                by_age.setdefault(row.age_s, []).append(row.accuracy)
        return [math.fsum(found) / self.chips for _, found in sorted(by_age.items()) if len(found) == self.chips]


def specs(chips: int, first_seed: int) -> list[DeviceSpec]:
    """Twins share serial number and seed, so they differ in nothing but their policy."""
    return [
        DeviceSpec(name=device_name(chip, mode), serial=f"demo-{chip}", seed=first_seed + chip)
        for chip in range(chips)
        for mode in MODES
    ]


def device_name(chip: int, mode: str) -> str:
    return f"{chip}-{mode}"


def policy(mode: str) -> Policy:
    if mode == "none":
        return Policy(kind="manual")
    return Policy(kind="log-time", method=METHODS[mode], log_time_ratio=LOG_TIME_RATIO)


def program(devices: Mapping[str, Device], image: ChipImage, progress: Callable[[int, int], None]) -> None:
    """Put the image on every device, and set its policy."""
    for done, (name, device) in enumerate(devices.items(), start=1):
        device.program(image)
        device.set_policy(policy(name.split("-", 1)[1]))
        progress(done, len(devices))


def live_through(
    devices: Mapping[str, Device], test: Pictures, year: Year, first_seed: int, seen: Callable[[], None]
) -> None:
    """Age every device from seconds to a year under a stream of requests; accuracy at each age goes into ``year``.

    ``seen`` is called, from this thread, whenever ``year`` has changed.
    """
    lives = [
        _Life(devices[device_name(chip, mode)], chip, mode, first_seed + chip, test, year)
        for chip in range(year.chips)
        for mode in MODES
    ]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="pcm-demo") as pool:
        for age_s in year.ages_s:
            pending = [pool.submit(life.reach, age_s) for life in lives]
            year.age_s = age_s
            try:
                for future in pending:
                    future.result()
                    seen()
            finally:
                for future in pending:
                    future.cancel()


class _Life:
    """One device: its clock, its stream of requests, its journal."""

    def __init__(self, device: Device, chip: int, mode: str, seed: int, test: Pictures, year: Year) -> None:
        self.device = device
        self.chip = chip
        self.mode = mode
        self.seed = seed
        self.test = test
        self.year = year
        self.now_s = 0.0
        self.journal = 0

    def reach(self, age_s: float) -> None:
        """Grow this old while answering requests, then read all test digits."""
        with self.traffic():
            self.device.lab.advance(age_s - self.now_s)
        self.now_s = age_s
        self.read_journal()
        right = 0
        for labels, scores in self.answers(_batches(self.test, BATCH)):
            right += int(np.sum(scores.argmax(axis=1) == labels))
        self.year.rows.append(
            Row(
                age_s=age_s,
                chip=self.chip,
                seed=self.seed,
                mode=self.mode,
                realisation=0,
                accuracy=right / len(self.test),
                digital_accuracy=self.year.digital_accuracy,
                samples=len(self.test),
                median_drift_factor=self.device.telemetry().models[0].median_drift_factor,
                mean_shift=math.nan,
            )
        )

    def answers(self, batches: Iterator[Pictures]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """(labels, scores) of each request over one stream; a failed request counts as one and is left out."""
        sent: list[NDArray[np.uint8]] = []

        def inputs() -> Iterator[NDArray[np.float32]]:
            for batch in batches:
                sent.append(batch.labels)
                yield batch.tensors

        for number, answer in enumerate(self.device.infer_stream(inputs(), errors="yield")):
            with _COUNTING:
                if isinstance(answer, Error):
                    self.year.requests_failed += 1
                else:
                    self.year.requests_served += 1
            if not isinstance(answer, Error):
                yield sent[number], answer

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """Requests meanwhile, so that a recalibration that got in their way would be seen."""

        def pictures() -> Iterator[Pictures]:
            for batch in itertools.islice(_batches(self.test, TRAFFIC_BATCH), TRAFFIC_REQUESTS):
                yield batch
                time.sleep(TRAFFIC_PAUSE_S)

        def ask() -> None:
            try:
                for _ in self.answers(pictures()):
                    pass
            except Error:
                with _COUNTING:
                    self.year.requests_failed += 1

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        try:
            yield
        finally:
            asking.join()

    def read_journal(self) -> None:
        for event in self.device.events(after=self.journal):
            self.journal = event.sequence
            if event.kind in ("recalibrated", "recalibration-refused"):
                self.year.recalibrations.append(
                    Recalibration(
                        age_s=float(event.details["age_s"]),
                        chip=self.chip,
                        mode=self.mode,
                        committed=event.kind == "recalibrated",
                    )
                )


_COUNTING = threading.Lock()


def _batches(pictures: Pictures, size: int) -> Iterator[Pictures]:
    for start in range(0, len(pictures), size):
        yield Pictures(pictures.pictures[start : start + size], pictures.labels[start : start + size])
