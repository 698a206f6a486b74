"""A process that works on a stored chip until it is killed; used by test_chip_kill.py.

Usage: chip_victim.py IMAGE_DIRECTORY. Loads everything once, then for each line "STORE SEED" on its standard input
forks a child that works on that store, prints the child's process id, and prints "dead" when it is gone. The child
notes what it is about to do and what it has done in STORE/log.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow.ipc
from pcmedge.image import ChipImage
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip

LOADED = (np, onnx, onnxruntime, pyarrow.ipc)


def work(images: list[Path], store: Path, seed: int) -> None:
    log = os.open(store / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(*words: object) -> None:
        os.write(log, (" ".join(map(str, words)) + "\n").encode())

    loaded = [ChipImage.open(path) for path in images]
    inputs, _ = loaded[0].reference_set()
    draw = random.Random(seed)
    chip = Chip(store=store, default_policy=MANUAL)
    note("ready")
    while True:
        model = chip.models()[0] if chip.models() else None
        if model is None or draw.random() < 0.4:
            image = draw.choice(loaded)
            generation = 1 if model is None else model.program_generation + 1
            note("begin", generation, 0, image.sha256.hex())
            outcome = chip.program(image, replace=True)
            note("end", outcome.model.program_generation, 0, image.sha256.hex())
        else:
            sha = model.image_sha256.hex()
            note("begin", model.program_generation, model.statistics_generation + 1, sha)
            done = chip.recalibrate(model.name, draw.choice(["gdc", "default"]), force=True)
            note("end", model.program_generation, done.statistics_generation, sha)
        for _ in range(20):
            chip.infer("digits", inputs)


def main() -> None:
    images = sorted(Path(sys.argv[1]).glob("*.pcmi"))
    for line in sys.stdin:
        store, seed = line.split()
        child = os.fork()
        if child == 0:
            work(images, Path(store), int(seed))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
