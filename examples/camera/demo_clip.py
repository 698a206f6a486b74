"""A clip to try it on: handwritten digits on a dot-matrix board that moves before a noisy wall."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pcmedge
from pcmedge.demo.digits import INK, LABELS, MODEL_FILE, load_digits

from examples.camera.frames import Picture

WIDTH, HEIGHT, FPS = 400, 300, 25.0
CELL, DOT = 12, 4
"""Side of one of the 8 x 8 cells of a digit and of the dot in its middle, in pixels. The board has a bright rim of one
cell. Dots, because whole cells would run into each other when the picture is made small again."""
FRAMES_PER_DIGIT = 12


@dataclass(frozen=True, kw_only=True)
class Clip:
    """``truths``: what the board shows, by frame."""

    path: Path
    truths: tuple[str, ...]


def make_clip(folder: Path, digits: int = 20, seed: int = 0) -> Clip:
    """Write ``demo.mp4`` of ``digits`` held-out digits, 12 frames each. Raises OSError if OpenCV cannot write it."""
    path = folder / "demo.mp4"
    # mp4v: the encoder that OpenCV's wheels have; avc1 (H.264) is not among them.
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    if not video.isOpened():
        raise OSError(f"OpenCV cannot write {path}")
    rng = np.random.default_rng(seed)
    shown = load_digits().test
    chosen = rng.permutation(len(shown))[:digits]
    wall = _wall(rng)
    truths = []
    for number in range(digits * FRAMES_PER_DIGIT):
        which = chosen[number // FRAMES_PER_DIGIT]
        video.write(_scene(wall, shown.pictures[which], number, rng))
        truths.append(LABELS[shown.labels[which]])
    video.release()
    return Clip(path=path, truths=tuple(truths))


def demo_image() -> pcmedge.ChipImage:
    """The bundled digits network for pictures of the board, where a dot of 255 is full ink."""
    return pcmedge.compile(
        str(MODEL_FILE),
        calibration=load_digits().train.tensors[:256],
        name="digits-on-a-board",
        labels=LABELS,
        preprocessing={
            "width": 8, "height": 8, "channels": 1, "colour_order": "GRAY", "layout": "NCHW",
            "scale": (CELL / DOT) ** 2 / 255,  # a resized pixel is the mean of a cell, most of which is dark
        },
        description="Handwritten digits, as the board in the demo clip of examples/camera shows them.",
    )  # fmt: skip


def _wall(rng: np.random.Generator) -> Picture:
    coarse = rng.integers(20, 110, (HEIGHT // 25, WIDTH // 25, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def _scene(wall: Picture, digit: Picture, number: int, rng: np.random.Generator) -> Picture:
    ink = (digit.astype(np.float32) * (255 / INK)).astype(np.uint8)
    side = 10 * CELL
    board = np.full((side, side), 255, dtype=np.uint8)
    dot = np.zeros((CELL, CELL), dtype=np.uint8)
    dot[(CELL - DOT) // 2 : (CELL + DOT) // 2, (CELL - DOT) // 2 : (CELL + DOT) // 2] = 1
    board[CELL:-CELL, CELL:-CELL] = np.kron(ink, dot)
    x = round((WIDTH - side) * (0.5 + 0.42 * np.sin(number / 23)))
    y = round((HEIGHT - side) * (0.5 + 0.42 * np.sin(number / 17)))
    scene = wall.astype(np.int16)
    scene[y : y + side, x : x + side] = board[:, :, None]
    scene += rng.normal(0, 6, scene.shape).astype(np.int16)
    return np.clip(scene, 0, 255).astype(np.uint8)
