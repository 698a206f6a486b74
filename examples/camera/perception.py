"""The loop of a camera application: take the latest frame, ask the device, go on, whatever the device does."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from examples.camera.device_link import DeviceLink, Reply
from examples.camera.frames import Capture, Frame
from examples.camera.regions import Finder, Region


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A frame, where in it the network looked (None: nothing to look at), and what the device said."""

    frame: Frame
    region: Region | None
    reply: Reply | None


def perceive(capture: Capture, link: DeviceLink, finder: Finder, deadline_s: float) -> Iterator[Seen]:
    """Each frame that could be taken, in order, until the source ends or is closed."""
    while not capture.latest.ended:
        frame = capture.latest.take(timeout_s=1.0)
        if frame is not None:
            region = finder(frame.picture)
            reply = link.ask(region.cut(frame.picture), frame.captured_s + deadline_s) if region else None
            yield Seen(frame=frame, region=region, reply=reply)


@dataclass
class Tally:
    """Counts, and the latencies of the last 500 answers."""

    statuses: Counter[str] = field(default_factory=Counter)
    right: int = 0
    judged: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=500))

    def add(self, seen: Seen, truth: str | None) -> None:
        self.statuses[seen.reply.status if seen.reply else "nothing-there"] += 1
        if seen.reply and seen.reply.labels:
            self.latencies_s.append(seen.reply.latency_s)
            if truth is not None:
                self.judged += 1
                self.right += seen.reply.labels[0][0] == truth

    def latency_ms(self, percent: float) -> float | None:
        """A percentile; None before the first answer."""
        return 1000 * float(np.percentile(self.latencies_s, percent)) if self.latencies_s else None
