"""Inputs for a model from a place that holds pictures: some of them, chosen by a seed, through its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcmedge.data.cifar10 import Part, load_cifar10
from pcmedge.data.pictures import ENDINGS, LabelledPictures, Progress, read_picture
from pcmedge.data.split import stratified_split
from pcmedge.errors import FileMissingError, InputTypeError, InputValueError
from pcmedge.image.application import preprocess

if TYPE_CHECKING:
    from pcmedge._contract.image_pb2 import Preprocessing

MANY = 100
"""Samples taken unless said otherwise: what paired recalibration needs, several times over (docs/calibration.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureSamples:
    """``tensors``: float32 [samples, ...], what the model takes; ``labels``: int64 [samples], None without classes.

    ``classes``: the name of each label. ``available``: how many pictures there were to choose from.
    """

    tensors: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    available: int


def picture_samples(
    path: str | PathLike[str],
    preprocessing: Preprocessing,
    *,
    count: int = MANY,
    seed: int = 0,
    part: Part | None = None,
    progress: Progress | None = None,
) -> PictureSamples:
    """At most ``count`` of the pictures at ``path`` as a model takes them; the same ones for the same seed.

    ``path``: a folder of pictures, a folder with a folder of pictures per class, or CIFAR-10 in one of its forms
    (:func:`load_cifar10`); only the pictures chosen are decoded, where each has a file of its own. Where there are
    classes, each is there in its share. ``preprocessing``: the image's (``image.manifest.application.preprocessing``).
    ``part``: "train" or "test" where the place has both, by default train. ``progress(done, total)`` counts pictures.

    Raises FileMissingError (no pictures there), InputValueError (damaged, ambiguous), MissingExtraError.
    """
    place = Path(path)
    if part not in (None, "train", "test"):
        raise InputValueError(f"part must be 'train' or 'test', found {part!r}.")
    folder = _part_of(place, part)
    files, classes = _listed(folder) if folder is not None else ([], ())
    if not files:
        known = _cifar10(place, part, progress)
        chosen = choose(len(known), count, seed, known.labels)
        pictures = known.pictures[chosen]
        tensors = np.concatenate([preprocess(preprocessing, each) for each in pictures])
        return PictureSamples(tensors=tensors, labels=known.labels[chosen], classes=known.classes, available=len(known))
    labels = np.array([label for _, label in files], dtype=np.int64)
    chosen = choose(len(files), count, seed, labels)
    parts = []
    for done, index in enumerate(chosen.tolist(), 1):
        parts.append(preprocess(preprocessing, read_picture(files[index][0])))
        if progress is not None:
            progress(done, len(chosen))
    return PictureSamples(
        tensors=np.concatenate(parts),
        labels=labels[chosen] if classes else None,
        classes=classes,
        available=len(files),
    )


def choose(available: int, count: int, seed: int = 0, labels: ArrayLike | None = None) -> NDArray[np.int64]:
    """Indices, ascending, of at most ``count`` of ``available`` samples; with ``labels`` each class in its share.

    As :func:`stratified_split` holds samples out: the same on every machine.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise InputTypeError(f"count is a number of samples, found {count!r}.")
    if count < 1:
        raise InputValueError(f"count must be at least 1, found {count}.")
    known: Any = np.zeros(available, dtype=np.int64) if labels is None else labels
    return stratified_split(known, min(int(count), available), seed=seed)[1]


def _cifar10(place: Path, part: Part | None, progress: Progress | None) -> LabelledPictures:
    try:
        return load_cifar10(place, part or ("train" if place.is_dir() else None), progress=progress)
    except FileMissingError as error:
        if not error.message.startswith("No CIFAR-10"):
            raise
        raise FileMissingError(
            f"no pictures at {place}: expected a folder with {', '.join(ENDINGS)} files, a folder with such a folder "
            "per class, or CIFAR-10 as Python batches or Parquet (docs/data.md)",
            path=place,
        ) from error


def _part_of(place: Path, part: Part | None) -> Path | None:
    """The folder that may hold the pictures themselves; None if the place has another form."""
    if not place.is_dir():
        return None
    inside = place / (part or "train")
    if inside.is_dir() and (part is not None or (place / "test").is_dir()):
        return inside
    return place


def _listed(folder: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """(file, label) of every picture in the order of classes and names, and the classes' names; none if flat."""
    flat = _pictures(folder)
    inner = {each.name: _pictures(each) for each in sorted(folder.iterdir()) if _visible(each) and each.is_dir()}
    inner = {name: found for name, found in inner.items() if found}
    if flat and inner:
        raise InputValueError(
            f"{folder} holds pictures and folders of pictures ({', '.join(list(inner)[:5])}); expected one or the "
            "other. Name the folder that is meant.",
            path=folder,
        )
    if flat:
        return [(path, 0) for path in flat], ()
    return [(path, label) for label, found in enumerate(inner.values()) for path in found], tuple(inner)


def _pictures(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if _visible(each) and each.suffix.lower() in ENDINGS)
    except OSError as error:
        raise FileMissingError(f"cannot read the folder {folder}: {error.strerror}", path=folder) from error


def _visible(path: Path) -> bool:
    return not path.name.startswith(".")
