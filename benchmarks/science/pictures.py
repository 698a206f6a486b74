"""The pictures of an experiment, read once and kept as arrays where workers find them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pcmedge.data import LabelledPictures, load_cifar10, normalise, stratified_split
from pcmedge.drift.files import write_whole

from benchmarks.science.settings import RANGE_PICTURES, Part, Scale

CALIBRATION = "calibration"


@dataclass(frozen=True)
class Pictures:
    """``tensors``: float32 [N, 3, 32, 32], normalised; ``labels``: int64 [N]; ``sha256`` of both."""

    tensors: NDArray[np.float32]
    labels: NDArray[np.int64]
    sha256: str

    def some(self, samples: int) -> Pictures:
        """So many of them, every class in its share; always the same ones. 0 or too many: all."""
        if not samples or samples >= len(self.labels):
            return self
        chosen = stratified_split(self.labels, samples, seed=2)[1]
        digest = hashlib.sha256(f"{self.sha256}/{samples}".encode()).hexdigest()
        return Pictures(self.tensors[chosen], self.labels[chosen], digest)


def prepare(data: Path, work: Path, parts: set[Part], scale: Scale) -> dict[str, str]:
    """Writes what is needed below ``work`` and returns the SHA-256 of each part.

    ``held-out``: training pictures that no training saw, split off as in examples/resnet32_cifar10/train.py.
    ``calibration``: pictures of the rest, the first ones of every size well mixed over the classes. Test pictures are
    read only if they are asked for. Raises what :func:`pcmedge.data.load_cifar10` raises.
    """
    train = load_cifar10(data, "train")
    kept, held_out = stratified_split(train.labels, min(scale.held_out, len(train) // 5), seed=0)
    found = {"held-out": train[held_out], CALIBRATION: train[kept][_mixed(train.labels[kept], _calibration(scale))]}
    if "test" in parts:
        found["test"] = load_cifar10(data, "test")
    return {name: _keep(work, name, part) for name, part in found.items()}


def _calibration(scale: Scale) -> int:
    return max(RANGE_PICTURES, scale.largest_buffer)


def _mixed(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices, class after class in turn: the first N hold every class as evenly as N allows."""
    pool = stratified_split(labels, min(count, len(labels)), seed=1)[1]
    order = np.random.Generator(np.random.PCG64(1)).permutation(len(pool))
    mixed = pool[order]
    turn = np.empty(len(mixed), np.int64)
    for each in np.unique(labels[mixed]):
        members = np.flatnonzero(labels[mixed] == each)
        turn[members] = np.arange(len(members))
    return mixed[np.argsort(turn, kind="stable")]


def _keep(work: Path, name: str, part: LabelledPictures) -> str:
    digest = hashlib.sha256(part.pictures.tobytes() + part.labels.tobytes()).hexdigest()

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, pictures=part.pictures, labels=part.labels, sha256=np.array(digest))

    write_whole(work / "data" / f"{name}.npz", write)
    return digest


@lru_cache(maxsize=4)
def load(work: Path, name: str, samples: int = 0) -> Pictures:
    """What :func:`prepare` wrote. Cached: a worker measures many chips on the same pictures."""
    with np.load(work / "data" / f"{name}.npz", allow_pickle=False) as stored:
        whole = Pictures(normalise(stored["pictures"]), stored["labels"], str(stored["sha256"]))
    return whole.some(samples)
