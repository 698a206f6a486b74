"""CIFAR-10 in the forms it is passed around in: which form a path holds, and its constants."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Final, Literal, NoReturn

from pcmedge.data import batches, folders, parquet
from pcmedge.data.pictures import LabelledPictures, Progress
from pcmedge.errors import FileMissingError, InputValueError

Part = Literal["train", "test"]

CIFAR10_CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""Names in the order of the labels (``batches.meta`` of the original files); they are in alphabetical order."""

CIFAR10_MEAN: Final = (0.4914, 0.4822, 0.4465)
"""Mean of R, G, B over the 50,000 original training pictures, in units of 255.

Of a JPEG re-encoded set it differed by 0.0003, the deviation by 0.0018; what counts is to use the same constants for
training and on the chip."""

CIFAR10_STD: Final = (0.2470, 0.2435, 0.2616)
"""Standard deviation of R, G, B over all pixels of the 50,000 original training pictures, in units of 255.

(0.2023, 0.1994, 0.2010), found in many scripts, is the mean of each picture's own deviation; it is not used here."""

FORMS: Final = """Put CIFAR-10 there in one of these forms:
  Python batches   PATH/data_batch_1 ... data_batch_5, test_batch   (or PATH/cifar-10-batches-py/...)
  class folders    PATH/train/<class>/*.png, PATH/test/<class>/*.png   (.jpg and .jpeg too)
  Parquet          PATH/train.parquet, PATH/test.parquet   (or train-*.parquet); columns image and label
Nothing is downloaded. The original files, "CIFAR-10 python version", are at
https://www.cs.toronto.edu/~kriz/cifar.html."""


def load_cifar10(
    path: str | PathLike[str], part: Part | None = None, *, progress: Progress | None = None
) -> LabelledPictures:
    """The training or the test pictures below ``path``, in whichever form they are there.

    ``part``: "train" or "test". It is left out when ``path`` is one Parquet file, or a folder with one folder of
    pictures per class, and then all of it is read. ``progress(done, total)`` counts pictures.

    Pictures and labels come in the order of the files (class folders: by name). Memory: 3,072 bytes per picture and
    a few megabytes (Python batches: twice as much).

    Raises FileMissingError (nothing known there: it lists the forms and where they go), InputValueError (damaged or
    hostile files, labels out of range), InputShapeError (another size than 32 x 32), InputTypeError (columns of other
    types), MissingExtraError (Parquet or pictures without the ``data`` extra).
    """
    place = Path(path)
    if part not in (None, "train", "test"):
        raise InputValueError(f"part must be 'train' or 'test', found {part!r}.")
    if place.is_file():
        if place.suffix.lower() not in (".parquet", ".pq"):
            _nothing(place, f"the file {place} is not Parquet")
        if part is not None:
            raise InputValueError(f"{place} is one file: leave part={part!r} out, or pass the folder of both parts.")
        return parquet.read([place], CIFAR10_CLASSES, progress)
    if not place.is_dir():
        _nothing(place, f"{place} does not exist")
    if part is None:
        if folders.is_class_folder(place):
            return folders.read(place, progress)
        if any(_parquet_files(place, each) or _batches(place, each) for each in ("train", "test")) or any(
            (place / each).is_dir() for each in ("train", "test")
        ):
            raise InputValueError(f"{place} holds several parts: choose part='train' or part='test'.")
        _nothing(place, f"{place} holds none of the known forms")
    if files := _batches(place, part):
        return batches.read(files, CIFAR10_CLASSES, progress)
    if files := _parquet_files(place, part):
        return parquet.read(files, CIFAR10_CLASSES, progress)
    if folders.is_class_folder(place / part):
        return folders.read(place / part, progress)
    _nothing(place, f"{place} holds no {part} part in any of the known forms")


def has_part(path: str | PathLike[str], part: Part) -> bool:
    """Whether a folder holds this part in one of the forms."""
    place = Path(path)
    return any((place / part).glob("*/")) or bool(_parquet_files(place, part) or _batches(place, part))


def _batches(place: Path, part: Part) -> list[Path]:
    names = [f"data_batch_{number}" for number in range(1, 6)] if part == "train" else ["test_batch"]
    for folder in (place, place / "cifar-10-batches-py"):
        found = [folder / name for name in names if (folder / name).is_file()]
        if found and len(found) < len(names):
            missing = ", ".join(name for name in names if not (folder / name).is_file())
            raise FileMissingError(f"{folder} holds some of the CIFAR-10 batches, but not {missing}.", path=folder)
        if found:
            return found
    return []


def _parquet_files(place: Path, part: Part) -> list[Path]:
    for folder in (place, place / "data"):
        whole = folder / f"{part}.parquet"
        found = [whole] if whole.is_file() else sorted(folder.glob(f"{part}-*.parquet"))
        if found:
            return found
    return []


def _nothing(place: Path, found: str) -> NoReturn:
    raise FileMissingError(f"No CIFAR-10: {found}. {FORMS.replace('PATH', str(place))}", path=place)
