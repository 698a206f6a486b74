"""What is drawn on a frame: the region, its labels, and how device and chip are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
from pcmedge.durations import format_duration

from examples.camera.device_link import Health
from examples.camera.frames import Picture
from examples.camera.perception import Seen, Tally

Colour = tuple[int, int, int]
GREEN, AMBER, RED, WHITE, BLACK = (90, 220, 90), (40, 180, 255), (70, 70, 255), (255, 255, 255), (0, 0, 0)
COLOURS: dict[str, Colour] = {"answered": GREEN, "fallback": AMBER, "late": AMBER, "away": RED}


def annotate(seen: Seen, lines: Sequence[str]) -> Picture:
    """A copy of the frame with region and labels, and ``lines`` below each other at the upper left."""
    picture = seen.frame.picture.copy()
    if seen.region is not None and seen.reply is not None:
        x, y, width, height = seen.region
        status = seen.reply.status
        colour = COLOURS[status]
        cv2.rectangle(picture, (x, y), (x + width, y + height), colour, 2)
        named = [f"{label} {probability:.0%}" for label, probability in seen.reply.labels]
        named = named or [{"late": "late", "away": "device away"}[status]]
        if status == "fallback":
            named.append("by the fallback")
        for row, text in enumerate(named):
            _write(picture, text, (x + width + 14, y + 20 * row), colour)
    for row, text in enumerate(lines):
        _write(picture, text, (4, 4 + 17 * row), WHITE, 0.4)
    return picture


def status_lines(tally: Tally, dropped: int, health: Health | None, away: str) -> list[str]:
    """Speed, losses, and the age and last recalibration of the chip."""
    median, late = tally.latency_ms(50), tally.latency_ms(95)
    speed = "no answer yet" if median is None or late is None else f"p50 {median:.1f} ms  p95 {late:.1f} ms"
    counts = tally.statuses
    lines = [speed, f"dropped {dropped}  late {counts['late']}  away {counts['away']}"]
    if away:
        lines.append("DEVICE AWAY")
    if health is not None:
        when = health.recalibrated_at_age_s
        last = "never" if when is None else f"{format_duration(max(0.0, health.age_s - when))} ago"
        lines.append(f"chip age {format_duration(health.age_s)}  recalibrated {last}  x{health.drift_factor:.2f}")
    return lines


def _write(picture: Picture, text: str, at: tuple[int, int], colour: Colour, size: float = 0.5) -> None:
    """``at``: the upper left corner of the text, which stands on black and is moved into the picture."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = max(0, min(at[0], picture.shape[1] - width - 4))
    y = max(0, min(at[1], picture.shape[0] - height - below - 4))
    cv2.rectangle(picture, (x, y), (x + width + 4, y + height + below + 2), BLACK, cv2.FILLED)
    cv2.putText(picture, text, (x + 2, y + height + 1), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
