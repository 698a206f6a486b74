"""Class folders: one folder of PNG or JPEG files per class, the form of many tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pcmedge.data.pictures import LabelledPictures, Progress, check_count, decode_all
from pcmedge.errors import InputValueError

ENDINGS = (".png", ".jpg", ".jpeg")
MAX_BYTES = 1 << 20
"""Of one encoded picture of 32 x 32 pixels; without compression it has 3 KiB."""


def is_class_folder(folder: Path) -> bool:
    """Whether it holds at least one folder with a picture in it."""
    return folder.is_dir() and any(_pictures(each) for each in _classes(folder))


def read(folder: Path, progress: Progress | None = None) -> LabelledPictures:
    """All pictures below ``folder``; classes in alphabetical order (of CIFAR-10: that of its labels), files by name."""
    files = {each.name: _pictures(each) for each in _classes(folder)}
    empty = [name for name, found in files.items() if not found]
    if empty:
        raise InputValueError(
            f"{folder}: expected a picture ({', '.join(ENDINGS)}) in every class folder, found none in "
            f"{', '.join(empty)}. Remove what is no class: the place in the alphabet is the label."
        )
    total = check_count(sum(map(len, files.values())), str(folder))
    pictures = decode_all(_contents([path for found in files.values() for path in found]), total, progress)
    labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(found) for found in files.values()])
    return LabelledPictures(pictures=pictures, labels=labels, classes=tuple(files))


def _classes(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in ENDINGS and not each.name.startswith("."))


def _contents(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputValueError(f"{path} cannot be read: {error.strerror}", path=path) from error
        if len(data) > MAX_BYTES:
            raise InputValueError(
                f"{path} is larger than {MAX_BYTES} bytes, which no picture of 32 x 32 is.", path=path
            )
        yield str(path), data
