"""Where frames and findings go: a window, an annotated video, JSON lines, or a line of text per second."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2

from examples.camera.frames import Picture
from examples.camera.perception import Seen

WINDOW = "pcmedge"


class Reporter:
    """Prints one JSON document per line, or sentences."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._next_s = 0.0
        self._printing = threading.Lock()
        # Kept, so that somebody else's print can be sent elsewhere.
        self._out = sys.stdout

    def event(self, kind: str, message: str, **more: Any) -> None:
        self._print({"event": kind, "message": message, **more}, f"{kind}: {message}")

    def frame(self, seen: Seen, truth: str | None) -> None:
        if self.as_json:
            self._print(frame_document(seen, truth), "")
        elif seen.reply and seen.reply.labels and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + 1.0
            label, probability = seen.reply.labels[0]
            latency_ms = 1000 * seen.reply.latency_s
            self._print({}, f"frame {seen.frame.number}: {label} {probability:.0%}, {latency_ms:.1f} ms")

    def _print(self, document: dict[str, Any], sentence: str) -> None:
        # Events come from several threads, and a text stream is not made for that.
        with self._printing:
            self._out.write((json.dumps(document) if self.as_json else sentence) + "\n")
            self._out.flush()


def frame_document(seen: Seen, truth: str | None) -> dict[str, Any]:
    """One frame as JSON. ``truth`` only where the program knows it."""
    reply = seen.reply
    document: dict[str, Any] = {
        "event": "frame",
        "number": seen.frame.number,
        "captured_unix_s": seen.frame.captured_unix_s,
        "status": reply.status if reply else "nothing-there",
        "region": list(seen.region) if seen.region else None,
        "labels": [[label, round(probability, 4)] for label, probability in reply.labels] if reply else [],
        "latency_ms": round(1000 * reply.latency_s, 3) if reply and reply.labels else None,
    }
    return document if truth is None else {**document, "truth": truth}


class VideoFile:
    """An annotated video; opened with the size of the first picture."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._video: cv2.VideoWriter | None = None

    def write(self, picture: Picture) -> None:
        if self._video is None:
            height, width = picture.shape[:2]
            self._video = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height))
            if not self._video.isOpened():
                raise SystemExit(
                    f"cannot write {self._path}: expected a name that ends in .mp4, in a folder that exists"
                )
        self._video.write(picture)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()


def why_no_window() -> str:
    """Empty if a window can be opened."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    toolkit = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if toolkit is None or toolkit[1] == "NONE":
        return "this OpenCV was built without windows; pip install opencv-python instead of opencv-python-headless"
    return ""


def show(picture: Picture) -> bool:
    """In the window; False once the user has pressed q or Escape."""
    cv2.imshow(WINDOW, picture)
    return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
