"""Which part of a frame the network is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2

from examples.camera.frames import Picture


class Region(NamedTuple):
    """In pixels from the upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, picture: Picture) -> Picture:
        """The part of a B, G, R picture, as R, G, B: the order of :meth:`pcmedge.Device.classify`."""
        part = picture[self.y : self.y + self.height, self.x : self.x + self.width]
        return cv2.cvtColor(part, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


Finder = Callable[[Picture], Region | None]


def whole(picture: Picture) -> Region:
    return Region(0, 0, picture.shape[1], picture.shape[0])


def centre(picture: Picture) -> Region:
    """The largest square in the middle: what networks trained on square pictures expect."""
    height, width = picture.shape[:2]
    side = min(height, width)
    return Region((width - side) // 2, (height - side) // 2, side, side)


def board(picture: Picture) -> Region | None:
    """The inside of the largest bright frame, a tenth of whose side is the frame; None if there is none."""
    _, bright = cv2.threshold(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), 160, 255, cv2.THRESH_BINARY)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    x, y, width, height = cv2.boundingRect(max(outlines, key=cv2.contourArea))
    if min(width, height) < 16:
        return None
    rim, rim_below = round(width / 10), round(height / 10)
    return Region(x + rim, y + rim_below, width - 2 * rim, height - 2 * rim_below)


FINDERS: dict[str, Finder] = {"centre": centre, "whole": whole, "board": board}
