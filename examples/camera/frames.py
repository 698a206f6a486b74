"""Frames of a file, a camera or a stream, taken in a thread of their own; whoever is slow gets the latest one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
REOPEN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """``picture``: uint8 [height, width, 3], B, G, R as OpenCV has it. ``number`` counts what the source delivered.

    Both times are of the moment the source had the frame, before it was decoded: ``captured_unix_s`` for logs,
    ``captured_s`` on the monotonic clock for deadlines.
    """

    number: int
    picture: Picture
    captured_unix_s: float
    captured_s: float


class LatestFrame:
    """A queue of one place: a frame that nobody took is dropped when the next one comes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._closed = False
        self.dropped = 0

    def put(self, frame: Frame, *, wait: bool = False) -> None:
        """``wait``: until the place is free, instead of dropping what is in it."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._frame is None or self._closed)
            if self._closed:
                return
            if self._frame is not None:
                self.dropped += 1
            self._frame = frame
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> Frame | None:
        """The latest frame, once; None when none came in time, or none will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed, timeout_s)
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """No more frames. One that is waiting can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        with self._changed:
            return self._closed and self._frame is None


class SourceError(Exception):
    """The source of frames cannot be opened."""


class Capture:
    """Reads ``source`` until it ends or :meth:`close`.

    ``source``: a file, the number of a camera ("0", by V4L2 on Linux) or the URL of a stream. ``fps``: the pace at
    which a file is played (None: its own), or asked of a camera. ``loop``: play a file again and again.
    ``every_frame``: a file only; read on when the last frame was taken, and drop none. A camera or stream that stops
    delivering is opened again every second, and ``on_event(kind, message)`` told. Raises SourceError if it cannot be
    opened in the first place.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        fps: float | None = None,
        loop: bool = False,
        every_frame: bool = False,
        on_event: Callable[[str, str], None] = lambda kind, message: None,
    ) -> None:
        self._source = str(source)
        self.live = self._source.isdecimal() or "://" in self._source
        if self.live and (loop or every_frame):
            raise SourceError(f"a camera or stream can neither be looped nor wait for us; found {self._source}")
        self._asked_fps = fps
        self._loop = loop
        self._every_frame = every_frame
        self._on_event = on_event
        self._stopping = threading.Event()
        self._video = self._open()
        if not self._video.isOpened():
            raise SourceError(f"cannot open {self._source}; expected a video file, a camera's number or a stream's URL")
        self.fps = fps or self._video.get(cv2.CAP_PROP_FPS) or 25.0
        self.latest = LatestFrame()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def _open(self) -> cv2.VideoCapture:
        if not self._source.isdecimal():
            return cv2.VideoCapture(self._source)
        video = cv2.VideoCapture(int(self._source), cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if self._asked_fps:
            video.set(cv2.CAP_PROP_FPS, self._asked_fps)
        return video

    def _run(self) -> None:
        number = 0
        due_s = time.monotonic()
        try:
            while not self._stopping.is_set():
                frame = self._read(number)
                if frame is not None:
                    number += 1
                    self.latest.put(frame, wait=self._every_frame)
                elif not self._again(number):
                    break
                if not (self.live or self._every_frame):
                    # Played at its pace; after a stall on from now, not in a burst.
                    due_s = max(due_s + 1 / self.fps, time.monotonic())
                    self._stopping.wait(due_s - time.monotonic())
        finally:
            self._video.release()
            self.latest.close()

    def _read(self, number: int) -> Frame | None:
        if not self._video.grab():
            return None
        unix_s, captured_s = time.time(), time.monotonic()
        good, picture = self._video.retrieve()
        if not good:
            return None
        return Frame(
            number=number, picture=picture.astype(np.uint8, copy=False), captured_unix_s=unix_s, captured_s=captured_s
        )

    def _again(self, number: int) -> bool:
        """After the last frame: whether there may be more."""
        if not self.live:
            self._video.release()
            if self._loop and number:
                self._video = self._open()
            return self._loop and number > 0
        self._on_event("camera-away", f"{self._source} delivers no frames; opening it again every {REOPEN_S:g} s")
        while not self._stopping.wait(REOPEN_S):
            self._video.release()
            self._video = self._open()
            if self._video.isOpened():
                self._on_event("camera-back", f"{self._source} is open again")
                return True
        return False

    def close(self) -> None:
        self._stopping.set()
        self.latest.close()
        self._thread.join()
