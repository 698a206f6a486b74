"""A set of labelled pictures, and how encoded ones get into it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcmedge.errors import FileMissingError, InputShapeError, InputTypeError, InputValueError, MissingExtraError

HEIGHT: Final = 32
WIDTH: Final = 32
MAX_PICTURES: Final = 1_000_000
"""More than any published variant holds; a file that promises more is damaged or hostile."""

ENDINGS: Final = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")
"""Of files that :func:`read_picture` reads."""

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``, both in pictures."""

# Each step of a progress callback. Decoding this many takes a tenth of a second.
STEP: Final = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPictures:
    """``pictures``: uint8 [N, 32, 32, 3] (R, G, B); ``labels``: int64 [N]; ``classes``: the name of each label."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> LabelledPictures:
        """Some of the pictures, by a slice, indices or a mask."""
        if not isinstance(chosen, (slice, np.ndarray)):
            raise InputTypeError(f"expected a slice or an array of indices, found {type(chosen).__name__}.")
        return LabelledPictures(pictures=self.pictures[chosen], labels=self.labels[chosen], classes=self.classes)


def normalise(
    pictures: NDArray[np.uint8], mean: ArrayLike | None = None, std: ArrayLike | None = None
) -> NDArray[np.float32]:
    """(pixel / 255 - mean) / std per channel: uint8 [N, H, W, 3] -> float32 [N, 3, H, W].

    ``mean`` and ``std``: three values in units of full scale (255); the default is CIFAR-10's. Takes four times the
    memory of the pictures and no more. Raises InputTypeError, InputShapeError, InputValueError (a deviation that is
    not positive).
    """
    from pcmedge.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD

    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8:
        found = pictures.dtype if isinstance(pictures, np.ndarray) else type(pictures).__name__
        raise InputTypeError(f"expected pictures as a uint8 array, found {found}.")
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise InputShapeError(f"expected pictures of shape [N, height, width, 3], found {list(pictures.shape)}.")
    centre = np.asarray(CIFAR10_MEAN if mean is None else mean, dtype=np.float32)
    spread = np.asarray(CIFAR10_STD if std is None else std, dtype=np.float32)
    if centre.shape != (3,) or spread.shape != (3,):
        raise InputShapeError(f"mean and std take one value per channel (3), found {centre.shape} and {spread.shape}.")
    if not (np.isfinite(centre).all() and np.isfinite(spread).all() and (spread > 0).all()):
        raise InputValueError(f"mean must be finite and std positive, found {centre.tolist()} and {spread.tolist()}.")
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)
    planes *= np.float32(1 / 255)
    planes -= centre[:, None, None]
    planes /= spread[:, None, None]
    return planes


def decode_all(encoded: Iterable[tuple[str, bytes]], total: int, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Decode exactly ``total`` PNG or JPEG files, given as (where it is from, its bytes), into [total, 32, 32, 3].

    One file is in memory at a time. Raises MissingExtraError without Pillow; InputValueError for bytes that are no
    intact PNG or JPEG and for too few or too many files, InputShapeError for another size: each says which picture.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("data", "Reading PNG and JPEG pictures") from error
    pictures = np.empty((check_count(total), HEIGHT, WIDTH, 3), dtype=np.uint8)
    done = 0
    with warnings.catch_warnings():
        # A header that claims a giant picture is an error here, before anything is decoded.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for where, data in encoded:
            if done == total:
                raise InputValueError(f"{where}: expected {total} pictures, found more.")
            try:
                with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
                    if picture.size != (WIDTH, HEIGHT):
                        raise InputShapeError(
                            f"{where}: expected {WIDTH} x {HEIGHT} pixels, found {picture.width} x {picture.height}."
                        )
                    pictures[done] = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
            except InputShapeError:
                raise
            except Exception as problem:  # decoders raise SyntaxError, struct.error, ValueError, ... on damaged bytes
                start = bytes(data[:8]).hex(" ")
                raise InputValueError(
                    f"{where} is not an intact PNG or JPEG picture (it begins with {start or 'nothing'}): {problem}"
                ) from problem
            done += 1
            if progress is not None and (done % STEP == 0 or done == total):
                progress(done, total)
    if done != total:
        raise InputValueError(f"expected {total} pictures, found {done}.")
    return pictures


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture of any size as uint8: (height, width) if grey, else (height, width, 3); turned as its EXIF data say.

    Raises FileMissingError, InputValueError for a file that is no intact picture or has more pixels than Pillow holds
    to be safe (89 million), MissingExtraError without Pillow.
    """
    if not path.is_file():
        raise FileMissingError(f"no such file: {path}", path=path)
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("data", "Reading pictures") from error
    with warnings.catch_warnings():
        # A header that claims a giant picture is an error here, before anything is decoded.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=("PNG", "JPEG", "BMP", "PPM")) as picture:
                upright = ImageOps.exif_transpose(picture)
                grey = picture.mode in ("1", "L", "LA", "I", "I;16", "F")
                return np.asarray(upright.convert("L" if grey else "RGB"), dtype=np.uint8)
        except Exception as problem:  # decoders raise SyntaxError, struct.error, ValueError, ... on damaged bytes
            raise InputValueError(f"{path} is not a picture we can read: {problem}", path=path) from problem


def check_count(total: int, where: str = "") -> int:
    """``total`` if it is a number of pictures we would hold in memory. Raises InputValueError; ``where`` they are."""
    if not 0 < total <= MAX_PICTURES:
        raise InputValueError(f"{where}{': ' if where else ''}expected 1 to {MAX_PICTURES} pictures, found {total}.")
    return total


def checked_labels(labels: ArrayLike, classes: Sequence[str], where: str) -> NDArray[np.int64]:
    """Labels as int64 [N], each an index into ``classes``. Raises InputTypeError, InputValueError."""
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InputTypeError(f"{where}: expected one integer label per picture, found {found.dtype} {found.shape}.")
    if found.size and (int(found.min()) < 0 or int(found.max()) >= len(classes)):
        raise InputValueError(
            f"{where}: expected labels from 0 to {len(classes) - 1}, found {found.min()} to {found.max()}."
        )
    return found.astype(np.int64)
